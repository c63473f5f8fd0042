"""The vector environment: what single environments do, by Gymnasium's rules, with any number of threads."""

import copy
import multiprocessing
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from qi_ext.demonstrations import load_demonstrations
from qi_ext.robot import a1
from qi_ext.tasks.directions import DirectionTask, task_commands
from qi_ext.utils.errors import SamplingError

NAME = "qi_ext.tasks:QuadrupedDirection-v0"
N = 5
SETTINGS = {"task": "hard", "max_episode_steps": 12}  # random torques end some episodes by a fall, others reach the limit
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture
def make():
    """make(**settings): the vector environment of 5 envs."""
    made = []

    def make(**settings):
        made.append(gymnasium.make_vec(NAME, **{"num_envs": N, "n_workers": 1} | SETTINGS | settings))
        return made[-1]

    yield make
    for environment in made:
        environment.close()


def run(environment, n_steps=40):
    """What a seeded run of random actions returns, with resets in between."""
    random = np.random.default_rng(0)
    yield environment.reset(seed=7)
    for step in range(n_steps):
        if step == n_steps // 2:
            yield environment.reset(options={"direction_deg": 50.0, "speed": 0.3})
        yield environment.step(random.uniform(-1.2, 1.2, (environment.num_envs, a1.N_ACTIONS)))


def assert_same(one, other):
    """Assert that two of Gymnasium's tuples, infos included, are the same to the last bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = one.values(), [other[key] for key in one]
    elif isinstance(one, np.ndarray) and one.dtype != object:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        return
    elif one is None:
        assert other is None
        return
    for a, b in zip(one, other, strict=True):
        assert_same(a, b)


@pytest.fixture(scope="module", params=MODES)
def singles(request):
    """An autoreset mode, and what Gymnasium's own vector environment of single ones returns in it."""
    made = [lambda: gymnasium.make(NAME, **SETTINGS)] * N
    return request.param, [copy.deepcopy(found) for found in run(SyncVectorEnv(made, autoreset_mode=request.param))]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_envs_do_what_single_environments_do_to_the_last_bit_over_ends_and_resets(make, singles, n_workers):
    mode, expected = singles
    environment = make(n_workers=n_workers, autoreset_mode=mode)
    assert environment.n_workers == n_workers and environment.metadata["autoreset_mode"] is mode
    for one, other in zip(run(environment), expected, strict=True):
        assert_same(one, other)
    ends = [found[2:4] for found in expected if len(found) == 5]
    assert np.any([terminated for terminated, _ in ends]) and np.any([truncated for _, truncated in ends])


def test_without_autoreset_the_envs_of_a_mask_are_reset_and_the_others_go_on(make):
    environment = make(n_workers=2, autoreset_mode="Disabled", max_episode_steps=3)
    environment.reset(seed=0)
    for _ in range(2):
        before = environment.step(np.zeros((N, 12)))[0]
    mask = np.arange(N) == 1
    options = {"direction_deg": 90.0, "reset_mask": mask}
    observations, infos = environment.reset(options=options)
    np.testing.assert_array_equal(observations[~mask], before[~mask])
    np.testing.assert_array_equal(infos["_direction_deg"], mask)
    assert infos["direction_deg"][1] == 90.0
    np.testing.assert_array_equal(environment.step(np.zeros((N, 12)))[3], ~mask)
    with pytest.raises(SamplingError, match="env 0: its episode is over.*call reset"):
        environment.step(np.zeros((N, 12)))


def test_spaces_are_those_of_single_environments_in_batches(make):
    environment, single = make(), gymnasium.make(NAME)
    assert environment.single_observation_space == single.observation_space
    assert environment.single_action_space == single.action_space
    assert environment.observation_space.contains(environment.reset(seed=0)[0])
    assert environment.action_space.shape == (N, 12)


def test_gymnasiums_statistics_are_those_of_the_episodes(make):
    environment = RecordEpisodeStatistics(make(use_absorbing_states=False, max_episode_steps=4))
    environment.reset(seed=0)
    rewards = []
    for _ in range(4):
        _, reward, _, _, infos = environment.step(np.zeros((N, 12)))
        rewards.append(reward)
    np.testing.assert_array_equal(infos["episode"]["l"], [4] * N)
    np.testing.assert_allclose(infos["episode"]["r"], np.sum(rewards, axis=0))


def test_directions_may_differ_from_env_to_env(make):
    directions = np.array([0.0, 90.0, 180.0, 270.0, 45.0])
    _, infos = make().reset(seed=0, options={"direction_deg": directions})
    np.testing.assert_array_equal(infos["direction_deg"], directions)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"use_foot_forces": True}, "foot forces.*async"),
        ({"render_mode": "human"}, "does not draw"),
        ({"num_envs": 0}, "num_envs"),
    ],
)
def test_settings_that_envs_cannot_have_are_refused(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


@pytest.mark.parametrize("bad, message", [(np.zeros((N, 3)), "shape"), (np.full((N, 12), np.nan), "env 0")])
def test_bad_actions_are_refused_and_change_nothing(make, bad, message):
    environment, other = make(n_workers=2), make()
    with pytest.raises(SamplingError, match="no episode was started: call reset"):
        environment.step(np.ones((N, 12)))
    for each in environment, other:
        each.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        environment.step(bad)
    assert_same(environment.step(np.ones((N, 12))), other.step(np.ones((N, 12))))


class Interrupted(DirectionTask):
    """The task `simple`; in its third step, Ctrl-C comes."""

    def advance(self, command, step, generator):
        if step == 3:
            raise KeyboardInterrupt
        return command


@pytest.mark.parametrize("n_workers", [1, 2])
def test_after_an_interrupted_step_the_envs_go_on_from_a_reset_and_from_nothing_else(make, n_workers):
    commands = task_commands("simple")
    environment = make(task=Interrupted("simple", commands, load_demonstrations("trot", commands)), n_workers=n_workers)
    first, _ = environment.reset(seed=0)
    for _ in range(2):
        environment.step(np.zeros((N, 12)))
    with pytest.raises(KeyboardInterrupt):
        environment.step(np.zeros((N, 12)))
    with pytest.raises(SamplingError, match="interrupted: call reset"):
        environment.step(np.zeros((N, 12)))
    np.testing.assert_array_equal(environment.reset(seed=0)[0], first)
    environment.step(np.zeros((N, 12)))


def test_a_fork_of_the_process_steps_its_own_envs(make):
    """Without the threads, which a fork doesn't have."""
    environment = make(n_workers=2)
    environment.reset(seed=0)
    environment.step(np.zeros((N, 12)))
    receiver, sender = multiprocessing.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        process = multiprocessing.get_context("fork").Process(
            target=lambda: sender.send(environment.step(np.ones((N, 12)))[0]), daemon=True
        )
        process.start()
    assert receiver.poll(30)
    np.testing.assert_array_equal(receiver.recv(), environment.step(np.ones((N, 12)))[0])
    process.join()


@pytest.mark.extensive
def test_stepping_needs_neither_torch_nor_loco_mujoco_nor_gymnasium(run_python):
    done = run_python(
        "import sys, qi_ext.sampling.live_envs\n"
        "assert not {'torch', 'loco_mujoco', 'mushroom_rl', 'gymnasium'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr
