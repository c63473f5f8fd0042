"""The batched path beside the environments themselves: the same starts and actions, through `reset` and `step`."""

import contextlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import mujoco
import numpy as np
import pytest
import threadpoolctl
from scipy.stats import chi2, chisquare

import qi_ext
from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.robot.commands import Command, angle_between
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.sampling.derive import specification, why_not_batched
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.sampling.rollouts import ARRAYS
from qi_ext.sampling.specification import STATE
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.errors import SamplingError
from qi_ext.utils.generators import unpack_generator

ROOT = Path(qi_ext.__file__).parents[1]
HORIZON = 8
STOCK = {
    "any sample": {},
    "one sample": {"random_start": False, "init_step_no": 67},
    "first samples": {"random_start": False},
    "position control": {"action_mode": "position"},
    "without falls": {"use_absorbing_states": False},
    "without reward": {"reward_type": None},
}


@pytest.fixture(scope="module", params=STOCK)
def with_trajectories(make_stock, request):
    return make_stock(**STOCK[request.param])


@contextlib.contextmanager
def numpys_generator_kept():
    """loco-mujoco draws from numpy's global generator."""
    before = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def samples_of(stock):
    """Joint positions and velocities of all samples of all trajectories, (R, 34), in the order of the observation."""
    columns = [column.reshape(-1) for column in stock.trajectories.trajectories[:36]]
    return np.stack(columns[2:], axis=1)


def sample_number(stock, observation):
    """Which of all samples an observation shows; it must be exactly one."""
    (number,) = np.flatnonzero((samples_of(stock) == observation[: a1.GOAL.start]).all(axis=1))
    return int(number)


def reset_to(environment, observation):
    """Let the environment itself start an episode where `observation` did; returns what it then observes."""
    if isinstance(environment, QuadrupedDirection):
        return environment.reset(obs=observation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_random_start", False)
        patch.setattr(environment, "_init_step_no", sample_number(environment, observation))
        return environment.reset()


def compare_with(environment, lanes, rollouts):
    """Take the starts and actions of fresh lanes' rollouts through the environment, and compare all that it says."""
    for lane in range(len(lanes)):
        begins = True
        for t in range(rollouts.n_steps // len(lanes)):
            if begins:
                steps = 0
                close(reset_to(environment, rollouts.observations[lane, t]), rollouts.observations[lane, t])
            observation, reward, absorbing, _ = environment.step(rollouts.actions[lane, t])
            steps += 1
            close(rollouts.next_observations[lane, t], observation)
            close(rollouts.rewards[lane, t], np.squeeze(reward))
            assert rollouts.absorbing[lane, t] == absorbing
            assert rollouts.truncated[lane, t] == (steps == environment.info.horizon and not absorbing)
            begins = absorbing or steps == environment.info.horizon
        assert lanes.running[lane] == (not begins)
        if lanes.running[lane]:
            assert lanes.step[lane] == steps
            # All of it: x, y and the solver's warm start, too.
            close(lanes.state[lane], state_of(environment), rtol=1e-9)


def close(actual, expected, rtol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-9)


def state_of(environment):
    state = np.empty(mujoco.mj_stateSize(environment._model, STATE))
    mujoco.mj_getState(environment._model, environment._data, state, STATE)
    return state


def edited(lanes, lane, model, edit):
    """A copy of `lanes`, `edit(data)` done to the simulation of one of them."""
    lanes = lanes[:]
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, lanes.state[lane], STATE)
    edit(data)
    mujoco.mj_getState(model, data, lanes.state[lane], STATE)
    return lanes


# Steps


@pytest.mark.parametrize("task", ["simple", "hard"])
def test_lanes_do_what_the_task_does(task, make_actor, seeds):
    environment = QuadrupedDirection(task, horizon=HORIZON)
    sampler = BatchedSampler(environment, lanes_per_block=4, pool="serial")
    lanes, rollouts = sampler.fragment(sampler.lanes(seeds(10)), make_actor(), 42)
    # All that is to be compared must be there.
    assert len({tuple(goal) for goal in rollouts.observations[:, :, a1.GOAL].reshape(-1, 3)}) == len(environment.commands)
    assert np.abs(rollouts.actions).max() > 1.5
    assert rollouts.absorbing.sum() > 10
    assert rollouts.truncated.sum() >= 3
    assert lanes.running.sum() >= 3
    compare_with(environment, lanes, rollouts)


def test_lanes_do_what_loco_mujocos_own_environment_does(with_trajectories, make_actor, seeds):
    sampler = BatchedSampler(with_trajectories, lanes_per_block=4, pool="serial")
    lanes, rollouts = sampler.fragment(sampler.lanes(seeds(10)), make_actor(std=0.8), 42)
    assert rollouts.absorbing.any() == with_trajectories._use_absorbing_states
    assert rollouts.truncated.any()
    assert lanes.running.any()
    compare_with(with_trajectories, lanes, rollouts)


def test_the_expert_walks_in_a_lane_as_it_does_in_the_task(seeds):
    """200 steps, because differences grow on the way."""
    environment = QuadrupedDirection("hard", horizon=200)
    sampler = BatchedSampler(environment, pool="serial")
    lanes = sampler.lanes(seeds(2))
    sampler.command(lanes, [Command(45.0), Command(180.0)])
    for lane, rollouts in sampler.episodes(lanes, ExpertController()):
        assert rollouts.episodes["length"] == 200
        observation = environment.reset(obs=rollouts.observations[0, 0])
        assert angle_between(environment.command.direction_deg, (45.0, 180.0)[lane]) < 1e-9
        trot = TrotController(environment.model, environment.command.direction, environment.command.speed)
        trot.reset(environment.data)
        for t in range(200):
            close(rollouts.observations[0, t], observation)
            close(rollouts.actions[0, t], trot.action(environment.data))
            observation, reward, absorbing, _ = environment.step(rollouts.actions[0, t])
            close(rollouts.rewards[0, t], reward)
            assert not absorbing


def test_a_whole_episode_is_the_first_one_of_a_fragment(short, sampler, make_actor, seeds):
    """Also where the others of its block have ended."""
    lanes, actor = sampler.lanes(seeds(6)), make_actor()
    _, fragment = sampler.fragment(lanes, actor, short.info.horizon)
    lengths = set()
    for lane, episode in sampler.episodes(lanes, PolicyController(actor)):
        length = int(episode.episodes["length"][0])
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(episode, name), getattr(fragment, name)[lane : lane + 1, :length])
        lengths.add(length)
    assert len(lengths) > 2


# Controllers


@pytest.fixture(scope="module")
def walked(sampler, make_actor, seeds):
    """4 lanes in the middle of an episode."""
    lanes, _ = sampler.fragment(sampler.lanes(seeds(12)), make_actor(), 27)
    return lanes[np.flatnonzero(lanes.running)[:4]]


def test_an_action_is_the_policys_mean_and_noise_of_the_lanes_own(sampler, make_actor, walked):
    actor = make_actor(std=0.3)
    _, rollouts = sampler.fragment(walked, actor, 1)
    noise = [unpack_generator(words).standard_normal(a1.N_ACTIONS, dtype=np.float32) for words in walked.generator]
    expected = actor.mean(rollouts.observations[:, 0]) + actor.std * np.array(noise)
    np.testing.assert_array_equal(rollouts.actions[:, 0], expected)
    assert rollouts.actions.dtype == np.float32


def test_a_deterministic_action_is_the_policys_mean(sampler, make_actor, walked):
    actor = make_actor(std=0.3)
    for _, rollouts in sampler.episodes(walked, PolicyController(actor, deterministic=True)):
        np.testing.assert_allclose(rollouts.actions, actor.mean(rollouts.observations), atol=1e-5)


def test_random_torques_are_uniform(sampler, seeds):
    lanes = sampler.lanes(seeds(40))
    actions = np.concatenate([rollouts.actions[0] for _, rollouts in sampler.episodes(lanes, RandomController())])
    counts, _ = np.histogram(actions, bins=10, range=(-1.0, 1.0))
    assert counts.sum() == actions.size > 1000
    assert chisquare(counts).pvalue > 1e-3


# Starts


@pytest.mark.parametrize("task", ["simple", "hard"])
def test_a_lane_starts_as_an_environment_of_its_seed(request, task, make_actor):
    environment = request.getfixturevalue(task)
    sampler = BatchedSampler(environment, pool="serial")
    _, rollouts = sampler.fragment(sampler.lanes([np.random.SeedSequence(seed) for seed in range(12)]), make_actor(), 1)
    for seed in range(12):
        environment.seed(seed)
        np.testing.assert_array_equal(rollouts.observations[seed, 0], environment.reset())


def test_later_episodes_draw_as_the_environment_does(hard):
    starts, generator = specification(hard).starts, np.random.default_rng(5)
    hard.seed(5)
    for _ in range(50):
        observation = hard.reset()
        row, goal = starts.draw(generator)
        np.testing.assert_array_equal(row, [0.0, 0.0, *observation[: a1.GOAL.start]])
        np.testing.assert_array_equal(goal, observation[a1.GOAL])


def test_a_lane_that_is_told_its_command_keeps_to_it(hard, sampler, make_actor, seeds):
    commands = [Command(30.0, 0.4), Command(200.0, 0.6)]  # of no demonstration: the nearest direction's are taken
    lanes = sampler.lanes(seeds(2))
    sampler.command(lanes, commands)
    _, rollouts = sampler.fragment(lanes, make_actor(), 42)
    assert len(rollouts.episodes) >= 6
    for lane, command in enumerate(commands):
        np.testing.assert_array_equal(rollouts.observations[lane, :, a1.GOAL], np.tile(command.features, (42, 1)))
        hard.seed(seeds(2)[lane])
        np.testing.assert_array_equal(rollouts.observations[lane, 0], hard.reset(command=command))


@pytest.mark.parametrize("with_trajectories", ["any sample", "one sample", "first samples"], indirect=True)
def test_stock_episodes_start_from_the_samples_that_its_own_start_from(with_trajectories):
    starts = specification(with_trajectories).starts
    generator = np.random.default_rng(0)
    ours = [starts.draw(generator) for _ in range(2000)]
    counts = np.bincount([sample_number(with_trajectories, row[2:]) for row, _ in ours], minlength=len(starts.rows))
    goals = np.full((len(starts.rows), 3), np.nan)
    with numpys_generator_kept():
        with_trajectories.seed(0)
        for _ in range(2000):
            observation = with_trajectories.reset()
            assert not with_trajectories._data.qpos[:2].any()
            goals[sample_number(with_trajectories, observation)] = observation[a1.GOAL]
    drawn = np.isfinite(goals[:, 0])
    np.testing.assert_array_equal(counts > 0, drawn)
    assert chisquare(counts[drawn]).statistic <= chi2.ppf(0.999, drawn.sum())
    for row, goal in ours:
        close(goal, goals[sample_number(with_trajectories, row[2:])])
        assert not row[:2].any()


# What takes the batched path


def foot_forces(make_stock):
    return QuadrupedDirection("simple", use_foot_forces=True)


def randomised(make_stock):
    import loco_mujoco

    config = Path(loco_mujoco.__file__).parent / "environments/data/quadrupeds/domain_randomization_unitree_a1.yaml"
    return QuadrupedDirection("simple", domain_randomization_config=config, parallel_dom_rand=False)


def subclass(make_stock):
    class Mine(QuadrupedDirection):
        pass

    return Mine("simple")


def rewarded(make_stock):
    return QuadrupedDirection("simple", reward_type="custom", reward_params={"reward_callback": lambda *step: 1.0})


def turned(make_stock):
    return make_stock(setup_random_rot=True)


def without_trajectories(make_stock):
    return make_stock(traj_params=None)


REASONS = {
    foot_forces: "foot forces",
    randomised: "domain randomisation",
    subclass: "Mine is neither",
    rewarded: "CustomReward",
    turned: "turned at random",
    without_trajectories: "no trajectories",
}


@pytest.mark.parametrize("make", REASONS)
def test_what_lanes_cannot_do_is_refused_with_the_reason(make, make_stock):
    environment = make(make_stock)
    assert REASONS[make] in why_not_batched(environment)
    with pytest.raises(ValueError, match=REASONS[make]):
        BatchedSampler(environment, pool="serial")


def test_a_task_without_demonstrations_is_refused():
    with pytest.raises(ValueError, match="no demonstrations"):
        BatchedSampler(QuadrupedDirection("simple", demonstrations=None), pool="serial")


# Blow-ups


@pytest.fixture
def about_to_blow_up(sampler, walked):
    """The same lanes, the legs of the second one at a speed that no integrator survives."""

    def fling(data):
        data.qvel[6:] = 1e12

    return edited(walked, 1, sampler.specification.model, fling)


@pytest.fixture
def quiet(capfd, tmp_path):
    """MuJoCo as it is by itself, writing to stderr and to a file in the working directory; it must do neither."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(None)
    try:
        with contextlib.chdir(tmp_path):
            yield
        assert mujoco.get_mju_user_warning() is None
    finally:
        mujoco.set_mju_user_warning(before)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_blow_up_is_absorbing_at_the_last_finite_observation(sampler, make_actor, walked, about_to_blow_up, quiet):
    _, rollouts = sampler.fragment(about_to_blow_up, make_actor(), 1)
    assert (rollouts.absorbing[1, 0], rollouts.truncated[1, 0], rollouts.last[1, 0]) == (True, False, True)
    np.testing.assert_array_equal(rollouts.next_observations[1, 0], rollouts.observations[1, 0])
    assert all(np.isfinite(getattr(rollouts, name)).all() for name in ARRAYS)
    (episode,) = rollouts.episodes[rollouts.episodes["lane"] == 1]
    assert (episode["time"], episode["fell"], episode["blew_up"]) == (0, True, True)
    assert episode["length"] == walked.step[1] + 1
    assert episode["episode_return"] == walked.episode_return[1] + rollouts.rewards[1, 0]
    assert not rollouts.episodes["blew_up"][rollouts.episodes["lane"] != 1].any()


def test_the_environment_blows_up_in_the_same_way(short, sampler, make_actor, about_to_blow_up):
    _, rollouts = sampler.fragment(about_to_blow_up, make_actor(), 1)
    short.reset(obs=rollouts.observations[1, 0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the simulation blew up")
        observation, reward, absorbing, _ = short.step(rollouts.actions[1, 0])
    close(rollouts.next_observations[1, 0], observation)
    close(rollouts.rewards[1, 0], reward)
    assert reward > 0.0
    assert absorbing


def test_other_lanes_do_not_notice_a_blow_up(sampler, make_actor, walked, about_to_blow_up, quiet):
    expected_lanes, expected = sampler.fragment(walked, make_actor(), 20)
    lanes, rollouts = sampler.fragment(about_to_blow_up, make_actor(), 20)
    others = np.array([0, 2, 3])
    assert lanes[others].equals(expected_lanes[others])
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(rollouts, name)[others], getattr(expected, name)[others])


@pytest.mark.parametrize("n_steps", [1, 2])
def test_a_lane_starts_anew_after_a_blow_up(sampler, make_actor, about_to_blow_up, quiet, n_steps):
    """n_steps: 1, in the next fragment; 2, in the same one."""
    lanes, rollouts = sampler.fragment(about_to_blow_up, make_actor(), n_steps)
    if n_steps == 1:
        assert not lanes.running[1]
        lanes, rollouts = sampler.fragment(lanes, make_actor(), 1)
    begun = rollouts.observations[1, -1]
    assert (sampler.specification.starts.rows[:, 2:] == begun[: a1.GOAL.start]).all(axis=1).any()
    assert lanes.step[1] == 1 or rollouts.absorbing[1, -1]


def test_a_blow_up_in_a_worker_process_leaves_no_trace(tmp_path):
    program = (
        "import dataclasses, numpy as np\n"
        "from qi_ext.sampling.pool_source import BatchedSampler\n"
        "from qi_ext.sampling.controllers import RandomController\n"
        "from qi_ext.tasks import QuadrupedDirection\n"
        "environment = QuadrupedDirection('simple', horizon=5)\n"
        "for states in environment.initial_states.states.values(): states[:, 22:34] = 1e12\n"
        "sampler = BatchedSampler(environment, 2, 'loky', 2)\n"
        "lanes = sampler.lanes([np.random.SeedSequence(i) for i in range(4)])\n"
        "print([bool(r.episodes['blew_up'][0]) for _, r in sampler.episodes(lanes, RandomController())])\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("[True, True, True, True]\n", "")
    assert list(tmp_path.iterdir()) == []


# The process


class Watching(PolicyController):
    """Notes the threads of BLAS and MuJoCo's warning handler while it acts."""

    def actions(self, block, observations, lanes):
        self.threads = blas_threads()
        self.handler = mujoco.get_mju_user_warning()
        return super().actions(block, observations, lanes)


def blas_threads():
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


def test_sampling_here_uses_one_blas_thread_and_leaves_the_process_as_it_was(sampler, make_actor, seeds):
    def handler(message):
        raise RuntimeError(message)

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(handler)
    try:
        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            controller = Watching(make_actor())
            list(sampler.episodes(sampler.lanes(seeds(2)), controller))
            assert controller.threads == {1}
            assert controller.handler is not handler
            assert blas_threads() == {2}
            assert mujoco.get_mju_user_warning() is handler
    finally:
        mujoco.set_mju_user_warning(before)


def test_workers_need_neither_torch_nor_loco_mujoco():
    program = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['torch', 'loco_mujoco', 'mushroom_rl', 'scipy'])\n"  # None there makes an import fail
        "import qi_ext.sampling.physics, qi_ext.sampling.controllers, qi_ext.agents.acting\n"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


# Faults


def failing(sampler, make_actor, walked, run):
    """The message of the SamplingError when the observation of the third lane is not a number."""
    lanes = walked[:]
    lanes.goal[2, 2] = np.nan
    before = lanes[:]
    with pytest.raises(SamplingError) as caught:
        run(lanes)
    for name in vars(lanes):
        np.testing.assert_array_equal(getattr(lanes, name), getattr(before, name))
    return str(caught.value)


def test_an_action_that_is_not_finite_names_its_lane(sampler, make_actor, walked):
    message = failing(sampler, make_actor, walked, lambda lanes: sampler.fragment(lanes, make_actor(), 3))
    assert message.startswith("lane 2: LaneError: the policy's action is not finite: [nan")


def test_lanes_are_named_as_the_caller_names_them(sampler, make_actor, walked):
    def run(lanes):
        list(sampler.episodes(lanes, PolicyController(make_actor()), name=lambda lane: f"robot {lane + 100}"))

    assert failing(sampler, make_actor, walked, run).startswith("robot 102: ")


def test_a_lane_is_counted_from_the_first_of_all_blocks(sampler, make_actor, walked):
    from qi_ext.sampling.envs import Lanes

    def run(lanes):
        sampler.fragment(Lanes.concatenate([walked, lanes]), make_actor(), 3)

    assert failing(sampler, make_actor, walked, run).startswith("lane 6: ")


def test_an_actor_with_a_broken_weight_is_a_fault(sampler, make_actor, walked):
    actor = make_actor()
    actor.std = np.where(np.arange(a1.N_ACTIONS) == 7, np.inf, actor.std)
    with pytest.raises(SamplingError, match="^lane 0: .* not finite"):
        sampler.fragment(walked, actor, 1)
