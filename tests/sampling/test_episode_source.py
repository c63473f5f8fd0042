"""The general path: whole episodes of any environment and agent of mushroom-rl, and of an A1 with foot forces."""

import functools
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import gymnasium
import numpy as np
import pytest
import torch
from mushroom_rl.algorithms.actor_critic import PPO, TRPO
from mushroom_rl.core import Agent, Core, Environment, MDPInfo
from mushroom_rl.environments import LQR, Segway
from mushroom_rl.policy import GaussianTorchPolicy
from mushroom_rl.utils.callbacks import CollectDataset
from mushroom_rl.utils.dataset import compute_episodes_length, compute_J, get_init_states
from mushroom_rl.utils.preprocessors import StandardizationPreprocessor
from mushroom_rl.utils.spaces import Box

import qi_ext
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.sampling import ParallelCore
from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.sampling.paths import GeneralPath
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.errors import SamplingError

ROOT = Path(qi_ext.__file__).parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")

# Workers cannot import a test; what stands here goes to them as what stands in a user's script does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


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


class Recorder(Agent):
    """An agent that keeps what it is to be fitted to."""

    def __init__(self, mdp_info, policy=None):
        n_observations, n_actions = mdp_info.observation_space.shape[0], mdp_info.action_space.shape[0]
        super().__init__(mdp_info, policy or GaussianPolicy(n_observations, n_actions, [16], 0.5, np.random.SeedSequence(0)))
        self.datasets, self.infos = [], []

    def fit(self, dataset, **info):
        self.datasets.append(dataset)
        self.infos.append(info)


class Damped(Recorder):
    """Acts on its own, against the state."""

    def draw_action(self, state):
        return -0.3 * state


def mushrooms(algorithm, info):
    """mushroom-rl's own agent, small."""
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
    if algorithm is TRPO:
        return TRPO(info, policy, critic, max_kl=0.01, lam=0.95)
    return PPO(info, policy, adam, critic, n_epochs_policy=3, batch_size=64, eps_ppo=0.2, lam=0.95)


def seed_globals():
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    torch.manual_seed(0)


def global_states():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return numpy_state[1].tobytes(), *numpy_state[2:], random.getstate(), torch.get_rng_state().numpy().tobytes()


@pytest.fixture(scope="module", autouse=True)
def global_generators():
    """mushroom-rl draws from the global generators, which are given back."""
    kept = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    yield
    np.random.set_state(kept[0])  # noqa: NPY002
    random.setstate(kept[1])
    torch.set_rng_state(kept[2])


def numbers(dataset):
    """mushroom-rl's dataset as one array, (n, ...), to be compared exactly."""
    return np.array([np.hstack(sample) for sample in dataset])


def episodes_of(dataset):
    """The dataset's arrays, one an episode."""
    return np.split(numbers(dataset), np.cumsum(compute_episodes_length(dataset))[:-1])


@pytest.fixture
def make_core():
    """make_core(agent, make_environment=Linear, **settings): a ParallelCore of 3 tasks, in this process."""
    cores = []

    def make(agent, make_environment=Linear, callbacks_fit=None, callback_step=None, **settings):
        settings = {"n_envs": 3, "pool": "serial", "seed": 7} | settings
        environment = make_environment()
        cores.append(
            ParallelCore(agent, environment, callbacks_fit, callback_step, make_environment=make_environment, **settings)
        )
        return cores[-1]

    yield make
    for core in cores:
        core.close()


@pytest.fixture
def recorder():
    return Recorder(Linear().info)


# The same numbers for any number of workers


@pytest.fixture(scope="module")
def trained():
    """trained(pool, n_workers, algorithm): the weights after two fits, and an evaluation."""

    def train(pool, n_workers, algorithm):
        make_environment = functools.partial(Live, random_start=True)
        environment = make_environment()
        agent = mushrooms(algorithm, environment.info)
        core = ParallelCore(
            agent, environment, make_environment=make_environment, n_envs=5, pool=pool, n_workers=n_workers, seed=7
        )
        core.learn(n_steps=400, n_steps_per_fit=200, quiet=True)
        assert core.n_steps >= 400
        evaluated = numbers(core.evaluate(n_episodes=4, quiet=True))
        core.close()
        return agent.policy.get_weights(), agent._V.get_weights(), evaluated

    return train


@pytest.fixture(scope="module")
def trained_here(trained):
    return {algorithm: trained("serial", 1, algorithm) for algorithm in (TRPO, PPO)}


@pytest.mark.parametrize(("algorithm", "n_workers"), [(TRPO, 2), (TRPO, 3), (PPO, 2)])
def test_what_mushrooms_agents_learn_does_not_depend_on_the_workers(trained, trained_here, n_workers, algorithm):
    for ours, expected in zip(trained("loky", n_workers, algorithm), trained_here[algorithm], strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_an_environment_is_built_once_where_it_is_used(make_core, recorder, tmp_path):
    note = tmp_path / "built"

    def build():
        with note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Linear()

    core = make_core(recorder, build, pool="loky", n_workers=2)
    note.write_text("")
    for _ in range(3):
        core.evaluate(n_episodes=9, quiet=True)
    processes = note.read_text().split()
    assert 1 <= len(processes) <= 2
    assert len(set(processes)) == len(processes)
    assert str(os.getpid()) not in processes


@pytest.mark.parametrize("n_envs", [1, 2, 20])
def test_an_episode_depends_on_the_agent_and_its_seed_only(make_core, n_envs):
    """Not on the episodes that ran in the same task before it, which left the preprocessors with other statistics."""

    def gathered(n_envs):
        agent = Recorder(Linear().info)
        agent.add_preprocessor(StandardizationPreprocessor(agent.mdp_info))
        core = make_core(agent, n_envs=n_envs)
        core.learn(n_episodes=10, n_episodes_per_fit=5, quiet=True)
        return numbers(agent.datasets[0]), numbers(agent.datasets[1]), numbers(core.evaluate(n_episodes=5, quiet=True))

    for ours, expected in zip(gathered(n_envs), gathered(3), strict=True):
        np.testing.assert_array_equal(ours, expected)


# Seeds


def test_episodes_differ_in_start_and_noise(make_core, recorder):
    make_core(recorder).learn(n_episodes=6, n_episodes_per_fit=6, quiet=True)
    (dataset,) = recorder.datasets
    starts = get_init_states(dataset)
    actions = np.array([sample[1] for sample in dataset[::20]])
    noise = (actions - recorder.policy.actor.mean(starts)) / recorder.policy.actor.std
    assert len(np.unique(starts, axis=0)) == len(np.unique(noise, axis=0)) == 6


def test_noise_from_the_global_generators_differs_from_episode_to_episode(make_core):
    agent = mushrooms(TRPO, Linear().info)
    dataset = make_core(agent, functools.partial(Linear, random_init=False)).evaluate(n_episodes=6, quiet=True)
    assert len(np.unique(get_init_states(dataset), axis=0)) == 1
    assert len(np.unique([sample[1] for sample in dataset[::20]], axis=0)) == 6


def test_a_gymnasium_environment_inside_is_seeded(make_core):
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

    datasets = [make_core(Recorder(Wrapped().info), Wrapped).evaluate(n_episodes=4, quiet=True) for _ in range(2)]
    np.testing.assert_array_equal(numbers(datasets[0]), numbers(datasets[1]))
    assert len(np.unique(get_init_states(datasets[0]), axis=0)) == 4


def test_gathering_here_leaves_the_global_generators_and_torchs_threads_alone(make_core):
    agent = Recorder(Linear().info, mushrooms(TRPO, Linear().info).policy)
    core = make_core(agent)
    torch.set_num_threads(2)
    before = global_states()
    core.learn(n_episodes=5, n_episodes_per_fit=5, quiet=True)
    core.evaluate(n_episodes=2, quiet=True)
    assert global_states() == before
    assert torch.get_num_threads() == 2


# Batches


@pytest.mark.parametrize(("n_steps_per_fit", "size"), [(1, 20), (40, 40), (50, 60)])
def test_a_batch_is_whole_episodes_and_no_more_than_needed(make_core, recorder, n_steps_per_fit, size):
    core = make_core(recorder)
    core.learn(n_steps=2 * size, n_steps_per_fit=n_steps_per_fit, quiet=True)
    assert [len(dataset) for dataset in recorder.datasets] == [size, size]
    assert all(dataset[-1][5] for dataset in recorder.datasets)
    assert (core.n_steps, core.n_episodes) == (2 * size, 2 * size // 20)


def test_a_batch_of_episodes_of_any_length_is_little_more_than_was_asked_for(make_core):
    environment = functools.partial(Segway, random_start=True)
    agent = Recorder(environment().info)
    core = make_core(agent, environment)
    core.learn(n_steps=2000, n_steps_per_fit=500, quiet=True)
    lengths = [compute_episodes_length(dataset) for dataset in agent.datasets]
    assert len({length for each in lengths for length in each}) > 5
    for each in lengths:
        assert 500 <= sum(each) < 1.25 * 500


def test_a_batch_may_be_a_number_of_episodes(make_core, recorder):
    make_core(recorder).learn(n_episodes=7, n_episodes_per_fit=4, quiet=True)
    assert [compute_episodes_length(dataset) for dataset in recorder.datasets] == [[20] * 4] * 2


def test_learning_goes_on_with_new_episodes(make_core):
    together, apart = Recorder(Linear().info), Recorder(Linear().info)
    make_core(together).learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    core = make_core(apart)
    for _ in range(2):
        core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    for one, other in zip(together.datasets, apart.datasets, strict=True):
        np.testing.assert_array_equal(numbers(one), numbers(other))
    assert not np.array_equal(get_init_states(apart.datasets[0]), get_init_states(apart.datasets[1]))


def test_the_agent_gets_the_information_of_all_steps(make_core, recorder):
    make_core(recorder).learn(n_episodes=4, n_episodes_per_fit=4, quiet=True)
    distances = [float(np.linalg.norm(sample[3])) for sample in recorder.datasets[0]]
    assert recorder.infos[0]["distance"] == distances
    assert set(recorder.infos[0]) == {"distance", "resets"}


def test_callbacks_get_whole_episodes_with_their_true_returns(make_core):
    environment = functools.partial(Segway, random_start=True)
    agent = Recorder(environment().info)
    ended, seen, collect = [], [], CollectDataset()
    core = make_core(
        agent,
        environment,
        callbacks_fit=[collect, lambda dataset: ended.append(core.episodes.copy())],
        callback_step=seen.append,
    )
    core.learn(n_steps=600, n_steps_per_fit=300, quiet=True)
    ended = np.concatenate(ended)
    assert compute_J(collect.get()) == pytest.approx(ended["episode_return"])
    assert compute_episodes_length(collect.get()) == ended["length"].tolist() == [len(episode) for episode in seen]
    assert [episode[-1][4] for episode in seen] == ended["fell"].tolist()
    assert ended["fell"].any()


# What acts


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


def test_an_environment_may_write_all_observations_into_one_array(make_core):
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


def test_features_are_applied_as_mushroom_rl_does(make_core, recorder):
    recorder.phi = lambda state: np.zeros(2)
    dataset = make_core(recorder).evaluate(n_episodes=1, deterministic=True, quiet=True)
    for sample in dataset:
        np.testing.assert_array_equal(sample[1], recorder.policy.actor.mean(np.zeros(2)))


def test_preprocessors_advance_as_in_mushroom_rls_own_core(make_core):
    """In an episode from where the batch began; then, in this process, by all observations of the batch in order."""
    agent, expected = (Recorder(Linear().info) for _ in range(2))
    for each in (agent, expected):
        each.add_preprocessor(StandardizationPreprocessor(each.mdp_info))
    core = make_core(agent, functools.partial(Linear, random_init=False))
    environment = Linear(random_init=False)
    (inside,) = expected.preprocessors
    for batch in range(2):
        core.learn(n_episodes=3, n_episodes_per_fit=3, quiet=True)
        observations = []
        for episode in episodes_of(agent.datasets[batch]):
            acting = cloudpickle.loads(cloudpickle.dumps(inside))
            observation = environment.reset().copy()
            state = acting(observation)
            observations.append(observation)
            for row in episode:
                np.testing.assert_array_equal(row[:2], state)
                observation = environment.step(row[2:4])[0].copy()
                state = acting(observation)
                observations.append(observation)
                np.testing.assert_array_equal(row[5:7], state)
        for observation in observations:
            inside(observation)
        (ours,) = agent.preprocessors
        np.testing.assert_array_equal(ours._obs_runstand.mean, inside._obs_runstand.mean)
        np.testing.assert_array_equal(ours._obs_runstand.std, inside._obs_runstand.std)


def test_an_agent_that_cannot_be_sent_is_refused(make_core, recorder):
    core = make_core(recorder)
    recorder.policy.lock = threading.Lock()
    with pytest.raises(ValueError, match="the agent cannot be sent to a worker: .*lock"):
        core.learn(n_episodes=1, n_episodes_per_fit=1, quiet=True)


def test_an_environment_that_was_not_to_be_built_elsewhere_is_refused():
    environment = Linear()
    with pytest.raises(ValueError, match="Linear .*; leave disturbances out"):
        disturbances = TrainingDisturbances(push=60.0)
        ParallelCore(Recorder(environment.info), environment, pool="serial", disturbances=disturbances)
    with pytest.raises(ValueError, match="Linear .*; give make_environment"):
        ParallelCore(Recorder(environment.info), environment, pool="serial")


# Faults


def test_a_fault_in_the_environment_tells_the_episode_its_seed_and_where(make_core, recorder):
    class Burning(Linear):
        def step(self, action):
            if self.resets == 3:
                raise RuntimeError("the motor burns")
            return super().step(action)

    core = make_core(recorder, Burning, n_envs=1)
    core.learn(n_episodes=2, n_episodes_per_fit=1, quiet=True)
    with pytest.raises(
        SamplingError, match=r"^episode 2 \(seed 7, spawn key \(3, 2\)\): .*RuntimeError: the motor burns"
    ) as caught:
        core.learn(n_episodes=5, n_episodes_per_fit=5, quiet=True)
    assert 'raise RuntimeError("the motor burns")' in str(caught.value)
    assert len(recorder.datasets) == 2


def test_a_fault_in_building_the_environment_is_told(recorder):
    def build():
        raise FileNotFoundError("no robot.xml")

    core = ParallelCore(recorder, Linear(), make_environment=build, n_envs=2, pool="serial")
    with pytest.raises(SamplingError, match="^episodes 0 to 1: .*no robot.xml"):
        core.evaluate(n_episodes=4, quiet=True)


# Learning


def test_mushrooms_agent_learns_to_stay_near_the_goal(make_core):
    agent = mushrooms(PPO, Linear().info)
    core = make_core(agent)
    before = np.mean(compute_J(core.evaluate(n_episodes=40, quiet=True)))
    core.learn(n_steps=8000, n_steps_per_fit=1000, quiet=True)
    after = np.mean(compute_J(core.evaluate(n_episodes=40, quiet=True)))
    assert after > 0.2 * before  # both are negative


# Evaluation


def test_evaluation_is_mushroom_rls_own(make_core):
    agent = Damped(Linear().info)
    dataset = make_core(agent).evaluate(n_episodes=4, quiet=True)
    expected = Core(agent, Linear()).evaluate(initial_states=get_init_states(dataset), quiet=True)
    np.testing.assert_array_equal(numbers(dataset), numbers(expected))


def test_evaluation_from_given_states_is_mushroom_rls_own(make_core):
    agent, states = Damped(Linear().info), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [-1.0, 0.0]])
    dataset = make_core(agent).evaluate(initial_states=states, quiet=True)
    np.testing.assert_array_equal(get_init_states(dataset), states)
    np.testing.assert_array_equal(numbers(dataset), numbers(Core(agent, Linear()).evaluate(initial_states=states, quiet=True)))


@pytest.mark.parametrize("n_steps", [1, 20, 50])
def test_steps_are_the_first_of_the_episodes(make_core, recorder, n_steps):
    core = make_core(recorder)
    dataset, info = core.evaluate(n_steps=n_steps, get_env_info=True, quiet=True)
    assert len(dataset) == len(info["distance"]) == n_steps
    np.testing.assert_array_equal(numbers(dataset), numbers(core.evaluate(n_episodes=5, quiet=True))[:n_steps])
    assert info["distance"] == [float(np.linalg.norm(sample[3])) for sample in dataset]


def test_evaluating_or_not_never_changes_training(make_core):
    agents = [mushrooms(PPO, Linear().info) for _ in range(2)]
    for agent, evaluated in zip(agents, (False, True), strict=True):
        seed_globals()
        core = make_core(agent)
        for _ in range(2):
            core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
            if evaluated:
                core.evaluate(n_episodes=3, quiet=True)
    np.testing.assert_array_equal(*(agent.policy.get_weights() for agent in agents))


def test_evaluation_is_the_same_until_something_is_learned(make_core, recorder):
    recorder.add_preprocessor(StandardizationPreprocessor(recorder.mdp_info))
    core = make_core(recorder)
    one, two = (numbers(core.evaluate(n_episodes=4, quiet=True)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    core.learn(n_episodes=1, n_episodes_per_fit=1, quiet=True)
    assert not np.array_equal(numbers(core.evaluate(n_episodes=4, quiet=True)), one)


def test_actions_without_noise_are_the_policys_mean(make_core, recorder):
    dataset = make_core(recorder).evaluate(n_episodes=3, deterministic=True, quiet=True)
    assert recorder.policy.deterministic is False
    for sample in dataset:
        np.testing.assert_array_equal(sample[1], recorder.policy.actor.mean(sample[0]))


def test_a_policy_that_only_has_noise_says_so(make_core):
    core = make_core(mushrooms(TRPO, Linear().info))
    with pytest.raises(ValueError, match="deterministic: a GaussianTorchPolicy has no such mode"):
        core.evaluate(n_episodes=1, deterministic=True, quiet=True)


def test_rendering_is_mushroom_rls_own_loop(make_core, recorder):
    class Drawn(Linear):
        frames = 0

        def render(self, record=False):
            self.frames += 1

    core = make_core(recorder, Drawn)
    dataset = core.evaluate(n_episodes=2, render=True, quiet=True)
    assert core.mdp.frames == len(dataset) == 40


# The A1 with foot forces


def test_an_a1_with_foot_forces_learns(make_core, small_config, learned):
    make_environment = functools.partial(QuadrupedDirection, "hard", use_foot_forces=True, horizon=8)
    environment = make_environment()
    policy = GaussianPolicy(49, 12, [16], 0.5, np.random.SeedSequence(0))
    agent = TRPO(environment.info, policy, small_config, np.random.SeedSequence(1))
    collect = CollectDataset()
    core = make_core(agent, make_environment, callbacks_fit=[collect])
    assert isinstance(core.path, GeneralPath)
    mean, std = policy.actor.mean, policy.actor.std
    core.learn(n_episodes=6, n_episodes_per_fit=6, quiet=True)
    assert not np.array_equal(policy.actor.mean(np.zeros(49)), mean(np.zeros(49)))
    episodes, noise = episodes_of(collect.get()), set()
    for episode in episodes:
        observation = environment.reset(obs=episode[0, :49])
        for row in episode:
            np.testing.assert_allclose(row[:49], observation, atol=1e-9)
            observation, reward, absorbing, _ = environment.step(row[49:61])
            np.testing.assert_allclose(row[61:112], [reward, *observation, absorbing], atol=1e-9)
        noise.add(((episode[0, 49:61] - mean(episode[0, :49])) / std).tobytes())
    assert np.any(numbers(collect.get())[:, 37:49] != 0.0)
    assert len(noise) == 6


# Imports


def test_loco_mujoco_is_not_imported_for_other_environments():
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
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "6 False\n", result.stderr
