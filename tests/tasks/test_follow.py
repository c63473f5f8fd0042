"""The task follow: the frame of a heading, commands that change, and courses that are given."""

import gymnasium
import numpy as np
import pytest

from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1, courses, mirror
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import COURSES, Course, Leg
from qi_ext.sampling import PoolSource
from qi_ext.sampling.controllers import ExpertController
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.follow import FollowTask
from qi_ext.training.config import make_config
from qi_ext.utils.errors import UserError

HORIZON = 150  # a target of the drawn course and of the eight's turns passes
NAME = "qi_ext.tasks:QuadrupedDirection-v0"


@pytest.fixture(scope="module")
def follow():
    return QuadrupedDirection("follow", seed=0)


def observed(positions, velocities, command):
    observation = np.empty(a1.N_OBSERVATIONS)
    FollowTask().observe(positions, velocities, command, observation)
    return observation


def random_state(generator):
    positions, velocities = generator.normal(size=(2, 18))
    positions[3:5] *= 0.2
    return positions, velocities


def test_with_a_heading_of_0_it_is_simple_to_the_last_bit_over_1000_steps(follow, simple):
    command = Command(0.0, 0.5)
    start = simple.reset(command=command)
    np.testing.assert_array_equal(follow.reset(start), simple.reset(start))
    trot = TrotController(simple.model, 0.0)
    trot.reset(simple.data)
    for _ in range(1000):
        action = trot.action(simple.data)
        for mine, stocks in zip(follow.step(action), simple.step(action), strict=True):
            np.testing.assert_array_equal(mine, stocks)


def test_a_robot_that_is_turned_with_the_heading_is_observed_alike():
    generator = np.random.default_rng(0)
    task = FollowTask()
    for heading, rate in ((0.7, 0.0), (-2.5, 1.0), (9.0, -1.0)):
        positions, velocities = random_state(generator)
        command = courses.constant_command(0.5, 1.0, heading, rate)
        task.starts = _OneStart(positions, velocities, command)
        _, state = task.start(generator, command, 0)
        found = observed(*np.split(state, 2), command)
        np.testing.assert_allclose(
            found, observed(positions, velocities, courses.constant_command(0.5, 1.0)), rtol=0.0, atol=1e-12
        )
        assert not np.allclose(state[:6], positions[:6])


class _OneStart:
    def __init__(self, positions, velocities, command):
        self._state, self._command = np.concatenate([positions, velocities]), command

    def draw(self, generator, command=None, group=0):
        return self._command, self._state


def test_the_mirrored_robot_under_the_mirrored_command_is_observed_as_the_mirror_image():
    generator = np.random.default_rng(1)
    order, sign = mirror._mirror(a1.JOINTS)
    for heading, rate in ((0.7, 0.0), (-2.5, 1.0)):
        positions, velocities = random_state(generator)
        image = [x[order] * sign for x in (positions, velocities)]
        np.testing.assert_allclose(
            observed(*image, courses.constant_command(0.5, -1.0, -heading, -rate)),
            mirror.mirror_observations(observed(positions, velocities, courses.constant_command(0.5, 1.0, heading, rate))),
            rtol=0.0,
            atol=1e-6,
        )


def test_the_frame_turns_with_the_robot_so_that_one_which_keeps_up_has_no_yaw_rate():
    positions, velocities = np.zeros((2, 18))
    positions[5], velocities[5] = 2.0, 1.0
    observation = observed(positions, velocities, courses.constant_command(0.5, 0.0, 2.0, 1.0))
    assert observation[a1.YAW] == pytest.approx(0.0) and observation[a1.VELOCITY.start + 5] == pytest.approx(0.0)


def test_falls_are_those_in_the_heading_frame():
    positions, velocities = np.zeros((2, 18))
    positions[4], positions[5] = 0.23, np.pi / 2  # in the world, pitch past its limit; the robot itself has rolled
    fallen = FollowTask().has_fallen(np.array([observed(positions, velocities, courses.constant_command(0.5, 0.0, np.pi / 2))]))
    assert a1.has_fallen(positions[2:]) and not fallen[0]


def test_the_pool_steps_courses_as_the_environment_does_for_any_number_of_workers():
    follow = QuadrupedDirection("follow", stops=0.9, horizon=HORIZON, seed=0)
    told = [COURSES["drawn"], COURSES["figure-eight"], Command(90.0, 0.3, 170.0)]
    seeds = [np.random.SeedSequence([3, env]) for env in range(len(told))]
    episodes = []
    for n_workers in (1, 2):
        source = PoolSource(follow, lanes_per_block=1, pool="loky", n_workers=n_workers)
        envs = source.envs(seeds)
        source.tell(envs, told)
        episodes.append(dict(source.run_episodes(envs, ExpertController())))
        source.close()
    for env, (command, seed) in enumerate(zip(told, seeds, strict=True)):
        mine, other = episodes[0][env], episodes[1][env]
        np.testing.assert_array_equal(mine.observations, other.observations)
        follow._generator = np.random.default_rng(seed)  # the env's own numbers
        np.testing.assert_array_equal(follow.reset(command=command), mine.observations[0, 0])
        for t in range(HORIZON):
            observation, reward, absorbing, _ = follow.step(mine.actions[0, t])
            np.testing.assert_allclose(observation, mine.next_observations[0, t], rtol=0.0, atol=1e-9)
            assert abs(reward - mine.rewards[0, t]) < 1e-9 and absorbing == mine.absorbing[0, t]


def test_rollouts_that_are_cut_in_two_and_resumed_are_those_in_one(follow):
    class Agent:
        class policy:  # noqa: N801
            deterministic = True

            class actor:  # noqa: N801
                std = np.zeros(12, np.float32)

                @staticmethod
                def mean(observations):
                    return np.zeros((len(observations), 12), np.float32)

    def gathered(parts, state=None):
        source = PoolSource(follow, n_envs=2, lanes_per_block=1, pool="serial")
        found = []
        for steps in parts:
            if found:
                state = source.state()
                source.close()
                source = PoolSource(follow, n_envs=2, lanes_per_block=1, pool="serial")
                source.load_state(state)
            source.start(Agent, 2 * steps)
            found.append(source.collect().observations)
        source.close()
        return np.concatenate(found, axis=1)

    np.testing.assert_array_equal(gathered([7, 13]), gathered([20]))


def test_the_expert_stays_up_and_on_its_heading_on_a_circle(follow):
    source = PoolSource(follow, lanes_per_block=1, pool="serial")
    envs = source.envs([np.random.SeedSequence(0)])
    source.tell(envs, [COURSES["circle"]])
    ((_, rollouts),) = source.run_episodes(envs, ExpertController())
    source.close()
    assert rollouts.n_steps == 1000 and rollouts.rewards.sum() > 880.0
    assert np.sqrt(np.square(rollouts.observations[0, :, a1.YAW]).mean()) < 0.03


@pytest.mark.parametrize("make", [gymnasium.make, lambda name, **settings: gymnasium.make_vec(name, num_envs=1, **settings)])
def test_gymnasium_tells_a_course_or_a_command_with_a_heading(make):
    env = make(NAME, task="follow", demonstrations="trot")
    _, info = env.reset(seed=0, options={"course": "stop-and-go"})
    assert np.ravel(info["speed"])[0] == 0.6
    _, info = env.reset(seed=0, options={"direction_deg": 45.0, "speed": 0.3, "heading_deg": -30.0})
    told = [float(np.ravel(info[name])[0]) for name in ("direction_deg", "speed", "heading_deg")]
    assert told == pytest.approx([45.0, 0.3, -30.0])
    with pytest.raises(ValueError, match="no course 'circel' on follow; choose one of drawn, straight"):
        env.reset(options={"course": "circel"})
    env.close()


def test_the_share_of_stops_is_that_of_training_and_evaluation_has_its_own():
    settings = make_config("follow", stops=0.4).task
    for of_environment, share in ((settings.of_training, 0.4), (settings.of_environment, 1 / 8)):
        task, generator = QuadrupedDirection(**of_environment).task, np.random.default_rng(0)
        begun = task.along_drawn_course(courses.constant_command(0.5, 0.0))
        speeds = [task.advance(begun, 1, generator)[courses.TARGET][0] for _ in range(4000)]
        assert np.mean(np.equal(speeds, 0.0)) == pytest.approx(share, abs=0.03)


def test_a_share_of_stops_goes_with_follow_and_is_a_share():
    with pytest.raises(ValueError, match="stops: only the task that is named follow takes it"):
        QuadrupedDirection("simple", stops=0.4)
    with pytest.raises(ValueError, match=r"stops: must be a share of 0 to 1, not 1\.5"):
        FollowTask(stops=1.5)


def test_hard_has_no_courses(hard):
    env = gymnasium.make(NAME, task="hard")
    with pytest.raises(ValueError, match="no course 'circle' on hard"):
        env.reset(options={"course": "circle"})
    with pytest.raises(ValueError, match="courses: only follow has any"):
        QuadrupedDirection("hard", courses=["circle"], demonstrations=None)


LEGS = "- {seconds: 2.0, speed: 0.4}\n- {seconds: 1.0, direction_deg: 90.0, turn_rate: -30.0}\n"


def test_a_course_from_a_file_is_the_course_of_its_legs(tmp_path):
    (tmp_path / "mine.yaml").write_text(LEGS)
    (course,) = QuadrupedDirection("follow", courses=[str(tmp_path / "mine.yaml")], demonstrations=None).commands
    assert course == Course("mine", (Leg(2.0, 0.4), Leg(1.0, 0.5, 90.0, -30.0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "at least 1"),
        ("- {speed: 0.4}", "0: seconds is missing"),
        ("- {seconds: 1.0, speed: fast}", "0.speed: .*number"),
        ("- {seconds: 1.0, speed: 30.0}", "0.speed: .*less than or equal to 3"),
        ("- {seconds: 1.0, velocity: 0.4}", "0.velocity: extra"),
        ("legs: 3", "list"),
        ("- {seconds: 1.0", "not YAML"),
    ],
)
def test_a_course_file_with_a_mistake_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        QuadrupedDirection("follow", courses=[str(path)], demonstrations=None)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "message"), [("circel", "no course 'circel'.*circle"), ("gone.yaml", "cannot be read")])
def test_a_course_that_there_is_not_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        QuadrupedDirection("follow", courses=[name], demonstrations=None)
