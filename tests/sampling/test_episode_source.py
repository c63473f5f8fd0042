"""Whole episodes of any environment and agent of mushroom-rl, and of an A1 with foot forces, through `ParallelCore`."""

import functools
import os
import random
import sys
import threading
from pathlib import Path

import cloudpickle
import gymnasium
import numpy as np
import pytest
import torch
from mushroom_rl.algorithms.actor_critic import PPO
from mushroom_rl.core import Agent, Core, Environment, MDPInfo
from mushroom_rl.environments import LQR, Segway
from mushroom_rl.policy import GaussianTorchPolicy
from mushroom_rl.utils.dataset import compute_episodes_length, compute_J, get_init_states
from mushroom_rl.utils.preprocessors import StandardizationPreprocessor
from mushroom_rl.utils.spaces import Box

import qi_ext
from qi_ext.sampling import EpisodeSource, ParallelCore
from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.errors import SamplingError

ROOT = Path(qi_ext.__file__).parents[1]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test, as they cannot a user's script


class Live(Segway):
    """A Segway that can only be built where it is used."""

    def __reduce_ex__(self, protocol):
        raise TypeError("a live simulation cannot be sent")


class Linear(LQR):
    """Episodes of 20 steps that start anywhere; a step tells the distance from the goal, and how often there was a reset."""

    def __init__(self, **settings):
        matrices = {"A": np.eye(2), "B": np.eye(2), "Q": 0.9 * np.eye(2), "R": 0.1 * np.eye(2)}
        super().__init__(**matrices, **({"random_init": True, "horizon": 20} | settings))
        self.resets = 0

    def reset(self, state=None):
        self.resets += 1
        return super().reset(state)

    def step(self, action):
        state, reward, absorbing, _ = super().step(action)
        return state, reward, absorbing, {"distance": float(np.linalg.norm(state)), "resets": self.resets}


class Network(torch.nn.Module):
    def __init__(self, input_shape, output_shape, **kwargs):
        super().__init__()
        sizes = input_shape[-1], 16, output_shape[0]
        self.layers = torch.nn.Sequential(torch.nn.Linear(*sizes[:2]), torch.nn.Tanh(), torch.nn.Linear(*sizes[1:]))

    def forward(self, state, **kwargs):
        return self.layers(state.float())


class Damped(Agent):
    """Acts on its own, against the state."""

    def __init__(self, mdp_info):
        super().__init__(mdp_info, None)
        self.datasets = []

    def draw_action(self, state):
        return -0.3 * state

    def episode_start(self):
        pass

    def fit(self, dataset, **info):
        self.datasets.append(dataset)


def mushrooms(info):
    """mushroom-rl's own PPO, small, whose policy draws from torch's global generator."""
    seed_globals()
    policy = GaussianTorchPolicy(Network, info.observation_space.shape, info.action_space.shape, std_0=1.0)
    adam = {"class": torch.optim.Adam, "params": {"lr": 3e-3}}
    critic = {
        "network": Network,
        "optimizer": adam,
        "loss": torch.nn.functional.mse_loss,
        "input_shape": info.observation_space.shape,
        "output_shape": (1,),
        "batch_size": 64,
    }
    return PPO(info, policy, adam, critic, n_epochs_policy=3, batch_size=64, eps_ppo=0.2, lam=0.95)


def seed_globals():
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    torch.manual_seed(0)


def global_states():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return numpy_state[1].tobytes(), *numpy_state[2:], random.getstate(), torch.get_rng_state().numpy().tobytes()


@pytest.fixture(scope="module", autouse=True)
def settled():
    """mushroom-rl draws from the global generators, which are given back; small networks are faster on one thread."""
    kept = np.random.get_state(), random.getstate(), torch.get_rng_state(), torch.get_num_threads()  # noqa: NPY002
    torch.set_num_threads(1)
    yield
    np.random.set_state(kept[0])  # noqa: NPY002
    random.setstate(kept[1])
    torch.set_rng_state(kept[2])
    torch.set_num_threads(kept[3])


@pytest.fixture
def make_core():
    """make_core(agent, make_environment=Linear, **settings): a ParallelCore of 3 tasks, in this process."""
    cores = []

    def make(agent, make_environment=Linear, callbacks_fit=None, callback_step=None, **settings):
        settings = {"n_envs": 3, "pool": "serial", "seed": 7, "make_environment": make_environment} | settings
        cores.append(ParallelCore(agent, make_environment(), callbacks_fit, callback_step, **settings))
        return cores[-1]

    yield make
    for core in cores:
        core.close()


@pytest.fixture
def learner(Learns):
    return Learns(Linear().info)


# Workers


@pytest.mark.extensive
def test_what_mushrooms_agent_learns_does_not_depend_on_the_workers(make_core, numbers):
    make_environment, learned = functools.partial(Live, random_start=True), []
    for pool in ({"pool": "serial"}, {"pool": "loky", "n_workers": 2}):
        agent = mushrooms(make_environment().info)
        core = make_core(agent, make_environment, n_envs=5, **pool)
        core.learn(n_steps=400, n_steps_per_fit=200, quiet=True)
        learned.append((agent.policy.get_weights(), numbers(core.evaluate(n_episodes=4, quiet=True))))
    for one, other in zip(*learned, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.extensive
def test_an_environment_is_built_once_in_each_worker_and_episodes_are_those_of_this_process(
    make_core, learner, numbers, tmp_path
):
    note = tmp_path / "built"

    def build():
        with note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Linear()

    core = make_core(learner, build, pool="loky", n_workers=2)
    note.write_text("")
    evaluated = [numbers(core.evaluate(n_episodes=9, quiet=True)) for _ in range(3)]
    processes = note.read_text().split()
    assert 1 <= len(processes) <= 2
    assert len(set(processes)) == len(processes)
    assert str(os.getpid()) not in processes
    expected = numbers(make_core(learner).evaluate(n_episodes=9, quiet=True))
    for dataset in evaluated:
        np.testing.assert_array_equal(dataset, expected)


@pytest.mark.parametrize("n_envs", [1, 20])
def test_an_episode_depends_on_the_agent_and_its_seed_only(make_core, Learns, numbers, n_envs):
    """Not on the episodes that ran in the same task before it, which left the preprocessors with other statistics."""

    def gathered(n_envs):
        agent = Learns(Linear().info)
        agent.add_preprocessor(StandardizationPreprocessor(agent.mdp_info))
        core = make_core(agent, n_envs=n_envs)
        core.learn(n_episodes=10, n_episodes_per_fit=5, quiet=True)
        return numbers(agent.datasets[0]), numbers(agent.datasets[1]), numbers(core.evaluate(n_episodes=5, quiet=True))

    for ours, expected in zip(gathered(n_envs), gathered(3), strict=True):
        np.testing.assert_array_equal(ours, expected)


# Seeds


def test_episodes_differ_in_start_and_noise_of_their_own_and_of_the_global_generators(make_core, learner):
    dataset = make_core(learner).evaluate(n_episodes=6, quiet=True)
    starts, actions = get_init_states(dataset), np.array([sample[1] for sample in dataset[::20]])
    noise = (actions - learner.policy.actor.mean(starts)) / learner.policy.actor.std
    assert len(np.unique(starts, axis=0)) == len(np.unique(noise, axis=0)) == 6
    dataset = make_core(mushrooms(Linear().info), functools.partial(Linear, random_init=False)).evaluate(
        n_episodes=6, quiet=True
    )
    assert len(np.unique(get_init_states(dataset), axis=0)) == 1
    assert len(np.unique([sample[1] for sample in dataset[::20]], axis=0)) == 6


def test_a_gymnasium_environment_inside_is_seeded(make_core, Learns, numbers):
    class Wrapped(Environment):
        def __init__(self):
            self.env = gymnasium.make("Pendulum-v1")
            high = np.array([1.0, 1.0, 8.0])
            super().__init__(MDPInfo(Box(-high, high), Box(-2.0 * np.ones(1), 2.0 * np.ones(1)), 0.99, 5))

        def reset(self, state=None):
            return self.env.reset()[0].astype(float)

        def step(self, action):
            state, reward, absorbing, _, _ = self.env.step(action)
            return state.astype(float), float(reward), absorbing, {}

    datasets = [make_core(Learns(Wrapped().info), Wrapped).evaluate(n_episodes=4, quiet=True) for _ in range(2)]
    np.testing.assert_array_equal(numbers(datasets[0]), numbers(datasets[1]))
    assert len(np.unique(get_init_states(datasets[0]), axis=0)) == 4


def test_gathering_here_leaves_the_global_generators_and_torchs_threads_alone(make_core):
    core = make_core(mushrooms(Linear().info))
    core.agent.fit = lambda dataset, **info: None
    torch.set_num_threads(2)
    before = global_states()
    core.learn(n_episodes=5, n_episodes_per_fit=5, quiet=True)
    core.evaluate(n_episodes=2, quiet=True)
    assert global_states() == before
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


# Batches


@pytest.mark.parametrize(("n_steps_per_fit", "size"), [(1, 20), (40, 40), (50, 60)])
def test_a_batch_is_whole_episodes_and_no_more_than_needed(make_core, learner, n_steps_per_fit, size):
    core = make_core(learner)
    core.learn(n_steps=2 * size, n_steps_per_fit=n_steps_per_fit, quiet=True)
    assert [len(dataset) for dataset in learner.datasets] == [size, size]
    assert (core.n_steps, core.n_episodes) == (2 * size, 2 * size // 20)


def test_a_batch_of_episodes_of_any_length_is_little_more_than_was_asked_for(make_core, Learns):
    environment = functools.partial(Segway, random_start=True)
    core = make_core(Learns(environment().info), environment)
    core.learn(n_steps=1500, n_steps_per_fit=500, quiet=True)
    lengths = [compute_episodes_length(dataset) for dataset in core.agent.datasets]
    assert all(500 <= sum(each) < 1.25 * 500 for each in lengths)
    assert len(set(sum(lengths, []))) > 5
    assert core.episodes["length"].tolist() == lengths[-1]
    assert core.episodes["episode_return"] == pytest.approx(compute_J(core.agent.datasets[-1]))


def test_information_of_all_steps_comes_with_batches_and_with_evaluations(make_core, learner, numbers):
    core = make_core(learner)
    core.learn(n_episodes=4, n_episodes_per_fit=4, quiet=True)
    assert learner.infos[0]["distance"] == [float(np.linalg.norm(sample[3])) for sample in learner.datasets[0]]
    assert set(learner.infos[0]) == {"distance", "resets"}
    dataset, info = core.evaluate(n_steps=50, get_env_info=True, quiet=True)
    assert info["distance"] == [float(np.linalg.norm(sample[3])) for sample in dataset]
    np.testing.assert_array_equal(numbers(dataset), numbers(core.evaluate(n_episodes=5, quiet=True))[:50])


# Agents


def test_an_agent_with_its_own_way_of_acting_acts_so(make_core):
    agent = Damped(Linear().info)
    make_core(agent, functools.partial(Linear, random_init=False)).learn(n_episodes=2, n_episodes_per_fit=2, quiet=True)
    # x' = x + u = 0.7 x, from (10, 10), in two episodes of 20 steps.
    states = np.array([sample[3] for sample in agent.datasets[0]])
    np.testing.assert_allclose(states[:, 0], np.tile(10.0 * 0.7 ** np.arange(1, 21), 2))
    np.testing.assert_array_equal(states[:, 1], states[:, 0])


def test_an_agent_is_told_that_an_episode_starts(make_core):
    class Counting(Damped):
        starts = 0

        def episode_start(self):
            self.starts += 1

        def draw_action(self, state):
            return np.full(2, float(self.starts))

    agent = Counting(Linear().info)
    dataset = make_core(agent).evaluate(n_episodes=3, quiet=True)
    assert {tuple(sample[1]) for sample in dataset} == {(1.0, 1.0)}
    assert agent.starts == 0


def test_an_environment_may_write_all_observations_into_one_array(make_core, numbers):
    class Frugal(Linear):
        def step(self, action):
            array = self._state
            state, *rest = super().step(action)
            array[:] = state
            self._state = array
            return array, *rest

    agent = Damped(Linear().info)
    datasets = [make_core(agent, environment).evaluate(n_episodes=2, quiet=True) for environment in (Frugal, Linear)]
    np.testing.assert_array_equal(numbers(datasets[0]), numbers(datasets[1]))


@pytest.mark.parametrize("features", [None, lambda state: np.zeros(2)])
def test_actions_without_noise_are_the_policys_mean_of_the_features(make_core, learner, features):
    learner.phi = features
    dataset = make_core(learner).evaluate(n_episodes=2, deterministic=True, quiet=True)
    assert learner.policy.deterministic is False
    for sample in dataset:
        np.testing.assert_array_equal(sample[1], learner.policy.actor.mean(features(None) if features else sample[0]))


def test_a_policy_that_has_no_deterministic_mode_says_so(make_core):
    core = make_core(mushrooms(Linear().info))
    with pytest.raises(ValueError, match="deterministic: a GaussianTorchPolicy has no such mode"):
        core.evaluate(n_episodes=1, deterministic=True, quiet=True)


def test_preprocessors_advance_as_in_mushroom_rls_own_core(make_core, Learns, numbers):
    """In an episode from where the batch began; then, in this process, by all observations of the batch in order."""
    agent = Learns(Linear().info)
    agent.add_preprocessor(StandardizationPreprocessor(agent.mdp_info))
    expected = StandardizationPreprocessor(agent.mdp_info)
    core = make_core(agent, functools.partial(Linear, random_init=False))
    environment = Linear(random_init=False)
    for batch in range(2):
        core.learn(n_episodes=3, n_episodes_per_fit=3, quiet=True)
        dataset, observations = agent.datasets[batch], []
        for episode in np.split(numbers(dataset), np.cumsum(compute_episodes_length(dataset))[:-1]):
            acting = cloudpickle.loads(cloudpickle.dumps(expected))
            observations.append(environment.reset().copy())
            state = acting(observations[-1])
            for row in episode:
                np.testing.assert_array_equal(row[:2], state)
                observations.append(environment.step(row[2:4])[0].copy())
                state = acting(observations[-1])
                np.testing.assert_array_equal(row[5:7], state)
        for observation in observations:
            expected(observation)
        (ours,) = agent.preprocessors
        np.testing.assert_array_equal(ours._obs_runstand.mean, expected._obs_runstand.mean)
        np.testing.assert_array_equal(ours._obs_runstand.std, expected._obs_runstand.std)


@pytest.mark.extensive
def test_mushrooms_agent_learns_to_stay_near_the_goal(make_core):
    core = make_core(mushrooms(Linear().info))
    before = np.mean(compute_J(core.evaluate(n_episodes=40, quiet=True)))
    core.learn(n_steps=8000, n_steps_per_fit=1000, quiet=True)
    after = np.mean(compute_J(core.evaluate(n_episodes=40, quiet=True)))
    assert after > 0.2 * before  # both are negative


# Evaluation


@pytest.mark.parametrize("given", [False, True], ids=["drawn states", "given states"])
def test_evaluation_is_mushroom_rls_own(make_core, numbers, given):
    agent, states = Damped(Linear().info), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [-1.0, 0.0]])
    dataset = make_core(agent).evaluate(**({"initial_states": states} if given else {"n_episodes": 4}), quiet=True)
    states = states if given else get_init_states(dataset)
    np.testing.assert_array_equal(numbers(dataset), numbers(Core(agent, Linear()).evaluate(initial_states=states, quiet=True)))


def test_rendering_is_mushroom_rls_own_loop(make_core, learner):
    class Drawn(Linear):
        frames = 0

        def render(self, record=False):
            self.frames += 1

    core = make_core(learner, Drawn)
    dataset = core.evaluate(n_episodes=2, render=True, quiet=True)
    assert core.mdp.frames == len(dataset) == 40


# Faults


def test_an_agent_that_cannot_be_sent_is_refused(make_core, learner):
    core = make_core(learner)
    learner.policy.lock = threading.Lock()
    with pytest.raises(ValueError, match="the agent cannot be sent to a worker: .*lock"):
        core.learn(n_episodes=1, n_episodes_per_fit=1, quiet=True)


def test_whole_episodes_need_a_way_to_build_the_environment_and_have_no_disturbances(learner):
    with pytest.raises(ValueError, match="Linear .*; leave disturbances out"):
        ParallelCore(learner, Linear(), pool="serial", disturbances=TrainingDisturbances(push=60.0))
    with pytest.raises(ValueError, match="Linear .*; give make_environment"):
        ParallelCore(learner, Linear(), pool="serial")


def test_a_fault_in_the_environment_tells_the_episode_its_seed_and_where(make_core, learner):
    class Burning(Linear):
        def step(self, action):
            if self.resets == 3:
                raise RuntimeError("the motor burns")
            return super().step(action)

    core = make_core(learner, Burning, n_envs=1)
    core.learn(n_episodes=2, n_episodes_per_fit=1, quiet=True)
    message = r"^episode 2 \(seed 7, spawn key \(3, 2\)\): .*RuntimeError: the motor burns"
    with pytest.raises(SamplingError, match=message) as caught:
        core.learn(n_episodes=5, n_episodes_per_fit=5, quiet=True)
    assert "in step\n" in str(caught.value)
    assert len(learner.datasets) == 2


def test_a_fault_in_building_the_environment_is_told(learner):
    def build():
        raise FileNotFoundError("no robot.xml")

    core = ParallelCore(learner, Linear(), make_environment=build, n_envs=2, pool="serial")
    with pytest.raises(SamplingError, match="^episodes 0 to 1: .*no robot.xml"):
        core.evaluate(n_episodes=4, quiet=True)


# The A1 with foot forces


def test_an_a1_with_foot_forces_is_run_for_whole_episodes(make_core, Learns, numbers):
    make_environment = functools.partial(QuadrupedDirection, "hard", use_foot_forces=True, horizon=8)
    environment = make_environment()
    core = make_core(Learns(environment.info), make_environment)
    assert isinstance(core.source, EpisodeSource)
    core.learn(n_episodes=6, n_episodes_per_fit=6, quiet=True)
    (dataset,) = core.agent.datasets
    assert np.any(numbers(dataset)[:, 37:49] != 0.0)
    for episode in np.split(numbers(dataset), np.cumsum(compute_episodes_length(dataset))[:-1]):
        observation = environment.reset(obs=episode[0, :49])
        for row in episode:
            np.testing.assert_allclose(row[:49], observation, atol=1e-9)
            observation, reward, absorbing, _ = environment.step(row[49:61])
            np.testing.assert_allclose(row[61:112], [reward, *observation, absorbing], atol=1e-9)


# Imports


def test_loco_mujoco_is_not_imported_for_other_environments(run_python):
    program = (
        "import sys, numpy as np\n"
        "from mushroom_rl.core import Agent\n"
        "from mushroom_rl.environments import LQR\n"
        "from qi_ext.sampling import ParallelCore\n"
        "class Still(Agent):\n"
        "    def draw_action(self, state): return np.zeros(2)\n"
        "    def episode_start(self): pass\n"
        "make = lambda: LQR.generate(dimensions=2, horizon=3)\n"
        "core = ParallelCore(Still(make().info, None), make(), make_environment=make, pool='serial')\n"
        "print(len(core.evaluate(n_episodes=2, quiet=True)), 'loco_mujoco' in sys.modules)\n"
    )
    result = run_python(program)
    assert result.stdout == "6 False\n", result.stderr
