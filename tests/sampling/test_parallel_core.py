"""ParallelCore on the A1: lanes that go on, batches, callbacks, evaluation; beside mushroom-rl's own `Core`."""

import random

import mujoco
import numpy as np
import pytest
import torch
from mushroom_rl.core import Agent, Core
from mushroom_rl.utils.callbacks import CollectDataset
from mushroom_rl.utils.dataset import compute_episodes_length, compute_J, get_init_states
from mushroom_rl.utils.preprocessors import StandardizationPreprocessor

from qi_ext.evaluation.episodes import evaluate
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.trpo import TRPO
from qi_ext.robot import a1
from qi_ext.sampling import ParallelCore
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.sampling.paths import BatchedPath
from qi_ext.sampling.specification import STATE
from qi_ext.utils.errors import SamplingError

N_ENVS = 6
pytestmark = pytest.mark.usefixtures("one_thread")


class Recorder(Agent):
    """An agent that keeps what it is to be fitted to."""

    def __init__(self, mdp_info, seed=0):
        n_observations = mdp_info.observation_space.shape[0]
        super().__init__(mdp_info, GaussianPolicy(n_observations, 12, [16], 0.5, np.random.SeedSequence(seed)))
        self.datasets = []

    def fit(self, dataset, **info):
        assert info == {}
        self.datasets.append(dataset)


@pytest.fixture
def make_core(short):
    """make_core(agent, environment=short, **settings): a ParallelCore of 6 lanes in blocks of 4, in this process."""
    cores = []

    def make(agent, environment=short, callbacks_fit=None, callback_step=None, **settings):
        settings = {"n_envs": N_ENVS, "lanes_per_block": 4, "pool": "serial", "seed": 3} | settings
        cores.append(ParallelCore(agent, environment, callbacks_fit, callback_step, **settings))
        return cores[-1]

    yield make
    for core in cores:
        core.close()


@pytest.fixture
def recorder(short):
    return Recorder(short.info)


def numbers(dataset):
    """mushroom-rl's dataset as one array, (n, ...), to be compared exactly."""
    return np.array([np.hstack(sample) for sample in dataset])


# The same numbers for any number of workers


@pytest.fixture(scope="module")
def trained(short, make_agent, learned):
    """trained(pool, n_workers): what an agent knows after two fits, and its lanes."""

    def train(pool, n_workers):
        agent = make_agent(short)
        core = ParallelCore(agent, short, n_envs=10, lanes_per_block=2, pool=pool, n_workers=n_workers, seed=3)
        core.learn(n_steps=200, n_steps_per_fit=100, quiet=True)
        core.close()
        return learned(agent), core.path.lanes

    return train


@pytest.fixture(scope="module")
def trained_here(trained):
    return trained("serial", 1)


@pytest.mark.parametrize("n_workers", [2, 3, 8])
def test_what_is_learned_does_not_depend_on_the_workers(trained, trained_here, n_workers):
    knowledge, lanes = trained("loky", n_workers)
    assert knowledge == trained_here[0]
    assert lanes.equals(trained_here[1])


def test_another_seed_gathers_another_batch(make_core, make_agent, short, learned):
    agents = [make_agent(short) for _ in range(3)]
    for agent, seed in zip(agents, (3, 3, 4), strict=True):
        make_core(agent, seed=seed).learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert learned(agents[0]) == learned(agents[1])
    assert learned(agents[0])["policy"] != learned(agents[2])["policy"]


# Batches


@pytest.mark.parametrize(
    ("n_steps", "n_steps_per_fit", "sizes"),
    [
        (48, 24, [24, 24]),
        (50, 20, [24, 24, 24]),  # 20 steps of 6 lanes are 4 each, and 50 need a third batch
        (1, 1, [6]),
    ],
)
def test_batches_are_rounded_up_to_whole_steps_of_all_lanes(make_core, recorder, n_steps, n_steps_per_fit, sizes):
    core = make_core(recorder)
    core.learn(n_steps=n_steps, n_steps_per_fit=n_steps_per_fit, quiet=True)
    assert [len(dataset) for dataset in recorder.datasets] == sizes
    assert core.n_steps == sum(sizes)


@pytest.mark.parametrize(("n_episodes", "n_episodes_per_fit", "sizes"), [(4, 2, [2, 2]), (5, 2, [2, 2, 2]), (9, 9, [9])])
def test_batches_of_episodes_hold_as_many_as_asked_for(make_core, recorder, n_episodes, n_episodes_per_fit, sizes):
    core = make_core(recorder)
    core.learn(n_episodes=n_episodes, n_episodes_per_fit=n_episodes_per_fit, quiet=True)
    lengths = [compute_episodes_length(dataset) for dataset in recorder.datasets]
    assert [len(each) for each in lengths] == sizes
    assert [sum(each) for each in lengths] == [len(dataset) for dataset in recorder.datasets]
    assert core.n_episodes == sum(sizes)
    assert core.n_steps == sum(sum(each) for each in lengths)


def test_steps_can_be_asked_for_in_batches_of_episodes(make_core, recorder):
    core = make_core(recorder)
    core.learn(n_steps=60, n_episodes_per_fit=5, quiet=True)
    assert {len(compute_episodes_length(dataset)) for dataset in recorder.datasets} == {5}
    assert core.n_steps >= 60 > core.n_steps - len(recorder.datasets[-1])


def test_episodes_can_be_asked_for_in_batches_of_steps(make_core, recorder):
    core = make_core(recorder)
    core.learn(n_episodes=10, n_steps_per_fit=12, quiet=True)
    assert {len(dataset) for dataset in recorder.datasets} == {12}
    assert core.n_episodes >= 10 > core.n_episodes - len(core.episodes)


def test_learning_goes_on_where_it_stopped(make_core, make_agent, short, learned):
    together, apart = make_agent(short), make_agent(short)
    core, other = make_core(together), make_core(apart)
    core.learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    for _ in range(2):
        other.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert learned(together) == learned(apart)
    assert core.path.lanes.equals(other.path.lanes)
    assert core.path.lanes.running.any()


def test_learning_from_episodes_goes_on_with_new_ones(make_core, short):
    together, apart = Recorder(short.info), Recorder(short.info)
    make_core(together).learn(n_episodes=4, n_episodes_per_fit=2, quiet=True)
    core = make_core(apart)
    for _ in range(2):
        core.learn(n_episodes=2, n_episodes_per_fit=2, quiet=True)
    for one, other in zip(together.datasets, apart.datasets, strict=True):
        np.testing.assert_array_equal(numbers(one), numbers(other))
    assert not np.array_equal(get_init_states(apart.datasets[0]), get_init_states(apart.datasets[1]))


WRONG = {
    "no batch": {"n_steps": 10},
    "two batches": {"n_steps": 10, "n_steps_per_fit": 5, "n_episodes_per_fit": 5},
    "no end": {"n_steps_per_fit": 5},
    "two ends": {"n_steps": 10, "n_episodes": 10, "n_steps_per_fit": 5},
    "rendered": {"n_steps": 10, "n_steps_per_fit": 5, "render": True},
    "recorded": {"n_steps": 10, "n_steps_per_fit": 5, "render": True, "record": True},
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_contradict_each_other_are_refused(make_core, recorder, name):
    core = make_core(recorder)
    with pytest.raises(ValueError, match="^learn: "):
        core.learn(**WRONG[name], quiet=True)
    assert core.n_steps == 0


# What the agent is given


def test_an_agent_without_fit_rollouts_gets_mushroom_rls_dataset(make_core, recorder, sampler):
    make_core(recorder).learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    lanes = make_core(Recorder(recorder.mdp_info)).path.lanes
    for dataset in recorder.datasets:
        lanes, rollouts = sampler.fragment(lanes, recorder.policy.actor, 10)
        np.testing.assert_array_equal(numbers(dataset), numbers(rollouts.dataset()))
        last = np.array([sample[5] for sample in dataset]).reshape(N_ENVS, 10)
        assert last[:, -1].all()
        assert not last.all()


def test_an_agent_with_fit_rollouts_gets_arrays(make_core, short, sampler, bits):
    class Taking(Recorder):
        def fit_rollouts(self, rollouts):
            self.datasets.append(rollouts)

    agent = Taking(short.info)
    core = make_core(agent)
    lanes = core.path.lanes
    core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    (rollouts,) = agent.datasets
    assert bits(rollouts) == bits(sampler.fragment(lanes, agent.policy.actor, 10)[1])


def test_disturbances_are_for_learning_and_not_for_evaluating(make_core, short, sampler):
    made = []
    for disturbances in (TrainingDisturbances(), TrainingDisturbances(push=90.0, torque_noise=0.1)):
        agent = Recorder(short.info)
        core = make_core(agent, disturbances=disturbances)
        lanes, evaluated = core.path.lanes, numbers(core.evaluate(n_episodes=2, quiet=True))
        core.learn(n_steps=300, n_steps_per_fit=300, quiet=True)
        fragment = numbers(agent.datasets[0])
        expected = sampler.fragment(lanes, agent.policy.actor, 50, disturbances=disturbances)[1]
        np.testing.assert_array_equal(fragment, numbers(expected.dataset()))
        core.learn(n_episodes=2, n_episodes_per_fit=2, quiet=True)
        made.append((evaluated, fragment, numbers(agent.datasets[1])))
    calm, pushed = made
    np.testing.assert_array_equal(calm[0], pushed[0])
    for fragment, other in zip(calm[1:], pushed[1:], strict=True):
        assert not np.array_equal(fragment, other)


@pytest.mark.parametrize("pool", [{"pool": "serial"}, {"pool": "loky", "n_workers": 2}], ids=["serial", "workers"])
def test_disturbances_begin_with_the_batch_after_so_many_steps(make_core, short, pool):
    def batches(disturbances):
        agent = Recorder(short.info)
        make_core(agent, disturbances=disturbances, **pool).learn(n_steps=240, n_steps_per_fit=60, quiet=True)
        return [numbers(dataset) for dataset in agent.datasets]

    calm, late = batches(TrainingDisturbances()), batches(TrainingDisturbances(torque_noise=0.1, after=100))
    assert [np.array_equal(*pair) for pair in zip(calm, late, strict=True)] == [True, True, False, False]


def test_arrays_and_dataset_teach_the_same(make_core, make_agent, short, learned):
    """The advantages of lanes side by side are those of lanes one after the other."""
    agent, other = make_agent(short), make_agent(short)
    other.fit_rollouts = lambda rollouts: other.fit(rollouts.dataset())
    for each in (agent, other):
        make_core(each).learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    assert learned(agent) == learned(other)


@pytest.mark.parametrize("how", [{"n_steps_per_fit": 18}, {"n_episodes_per_fit": 3}], ids=["steps", "episodes"])
def test_callbacks_get_whole_episodes_with_their_true_returns(make_core, recorder, how):
    ended, seen, collect = [], [], CollectDataset()
    core = make_core(
        recorder,
        callbacks_fit=[collect, lambda dataset: ended.append(core.episodes.copy())],
        callback_step=seen.append,
    )
    core.learn(n_steps=150, **how, quiet=True)
    ended = np.concatenate(ended)
    assert len(ended) == len(seen) == core.n_episodes > 10
    assert compute_J(collect.get()) == pytest.approx(ended["episode_return"], rel=1e-12)
    assert compute_episodes_length(collect.get()) == ended["length"].tolist()
    for episode, row in zip(seen, ended, strict=True):
        assert [sample[5] for sample in episode] == [False] * (len(episode) - 1) + [True]
        assert episode[-1][4] == row["fell"]
        # From a start on, without a gap.
        assert (core.path.sampler.specification.starts.rows[:, 2:] == episode[0][0][: a1.GOAL.start]).all(axis=1).any()
        for sample, following in zip(episode[:-1], episode[1:], strict=True):
            np.testing.assert_array_equal(sample[3], following[0])
    np.testing.assert_array_equal(numbers(collect.get()), numbers([sample for episode in seen for sample in episode]))


def test_callbacks_come_before_and_after_the_fit(make_core, short):
    order = []

    class Noting(Recorder):
        def fit(self, dataset, **info):
            order.append("fit")

    core = make_core(
        Noting(short.info),
        callbacks_fit=[lambda dataset: order.append("after")],
        callback_step=lambda episode: order.append("episode"),
    )
    core.learn(n_episodes=2, n_episodes_per_fit=1, quiet=True)
    assert order == ["episode", "fit", "after"] * 2


# Faults


def test_a_lane_that_fails_is_named_with_its_seed_and_learning_can_go_on(make_core, make_agent, short, learned):
    agent, expected = make_agent(short), make_agent(short)
    core, untroubled = make_core(agent), make_core(expected)
    for each in (core, untroubled):
        each.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    good, knowledge = core.path.lanes[:], learned(agent)
    (lane, *_) = np.flatnonzero(good.running)
    core.path.lanes.goal[lane] = np.nan
    with pytest.raises(SamplingError, match=rf"^lane {lane} \(seed 3, spawn key \(2, {lane}\)\): .*not finite"):
        core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert learned(agent) == knowledge
    core.path.lanes = good
    for each in (core, untroubled):
        each.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert learned(agent) == learned(expected)


def test_an_episode_that_fails_is_named_with_its_seed(make_core, make_agent, short):
    agent = make_agent(short)
    core = make_core(agent)
    core.learn(n_episodes=5, n_episodes_per_fit=5, quiet=True)
    agent.policy.actor.std = np.full(12, np.inf)
    with pytest.raises(SamplingError, match=r"^episode 5 \(seed 3, spawn key \(3, 5\)\): .*not finite"):
        core.learn(n_episodes=5, n_episodes_per_fit=5, quiet=True)
    with pytest.raises(SamplingError, match=rf"^episode 0 \(seed 3, spawn key \(4, {core.n_steps}, 0, 0\)\): .*not finite"):
        core.evaluate(n_episodes=8, quiet=True)


def test_a_blow_up_is_counted_and_learning_goes_on(make_core, make_agent, short):
    core = make_core(make_agent(short))
    core.learn(n_steps=30, n_steps_per_fit=30, quiet=True)
    (lane, *_) = np.flatnonzero(core.path.lanes.running)
    data = mujoco.MjData(short.model)
    mujoco.mj_setState(short.model, data, core.path.lanes.state[lane], STATE)
    data.qvel[6:] = 1e12
    mujoco.mj_getState(short.model, data, core.path.lanes.state[lane], STATE)
    core.learn(n_steps=30, n_steps_per_fit=30, quiet=True)
    assert core.episodes["blew_up"].sum() == 1
    core.learn(n_steps=30, n_steps_per_fit=30, quiet=True)
    assert not core.episodes["blew_up"].any()


# Evaluation


@pytest.fixture
def experienced(make_core, make_agent, short):
    """A core after a batch, so that its lanes are in the middle of something."""
    core = make_core(make_agent(short))
    core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    return core


def test_episodes_are_spread_evenly_over_the_commands(experienced, short):
    dataset = experienced.evaluate(n_episodes=19, quiet=True)
    assert len(compute_episodes_length(dataset)) == 19
    goals = get_init_states(dataset)[:, a1.GOAL]
    counts = [(goals == command.features).all(axis=1).sum() for command in short.commands]
    assert counts == [3, 3, 3, 2, 2, 2, 2, 2]


def test_evaluation_is_that_of_the_evaluation_package(experienced):
    """The same seeds, step, commands and numbers: the same returns, direction by direction."""
    agent, path = experienced.agent, experienced.path
    returns = np.reshape(compute_J(experienced.evaluate(n_episodes=24, quiet=True, deterministic=True)), (3, 8))
    result = evaluate(path.sampler, PolicyController(agent.policy.actor, True), 3, seed=3, step=experienced.n_steps)
    expected = [row["return_mean"] for row in result["directions"]]
    np.testing.assert_allclose(returns.mean(axis=0), expected, rtol=1e-4)


@pytest.mark.parametrize("n_steps", [1, 29, 61, 117])
def test_steps_are_the_first_of_the_episodes(make_core, recorder, make_actor, n_steps):
    recorder.policy.actor = make_actor(hidden=64)
    # In blocks of this size the last bits of an action depend on its row, and noise would hide them.
    core = make_core(recorder, n_envs=8, lanes_per_block=16)
    dataset = core.evaluate(n_steps=n_steps, deterministic=True, quiet=True)
    assert len(dataset) == n_steps
    episodes = core.evaluate(n_episodes=40, deterministic=True, quiet=True)
    np.testing.assert_array_equal(numbers(dataset), numbers(episodes)[:n_steps])


def test_evaluation_from_given_states_is_mushroom_rls_own(experienced, short):
    agent = experienced.agent
    short.seed(1)
    states = np.array([short.reset(command=direction) for direction in (0.0, 90.0, 30.0, 200.0, 315.0)])
    states[:, a1.LEG_POSITION] += 0.05
    dataset = experienced.evaluate(initial_states=states, deterministic=True, quiet=True)
    np.testing.assert_allclose(get_init_states(dataset), states, atol=1e-12)
    agent.policy.deterministic = True
    expected = Core(agent, short).evaluate(initial_states=states, quiet=True)
    assert compute_episodes_length(dataset) == compute_episodes_length(expected)
    # Torques of one row and of a block differ in the last bits of float32.
    np.testing.assert_allclose(numbers(dataset), numbers(expected), rtol=1e-3, atol=1e-3)


def test_noise_is_as_asked_for_or_as_the_policy_says(experienced):
    agent = experienced.agent

    def noise(deterministic):
        dataset = experienced.evaluate(n_episodes=40, deterministic=deterministic, quiet=True)
        states, actions = (np.array([sample[i] for sample in dataset]) for i in (0, 1))
        return (actions - agent.policy.actor.mean(states)) / agent.policy.actor.std

    for policys_own, asked_for, expected in (
        (False, None, True),
        (True, None, False),
        (True, False, True),
        (False, True, False),
    ):
        agent.policy.deterministic = policys_own
        drawn = noise(asked_for)
        assert agent.policy.deterministic == policys_own
        if expected:
            assert drawn.std() == pytest.approx(1.0, abs=0.05)
        else:
            np.testing.assert_allclose(drawn, 0.0, atol=1e-4)


def test_step_information_comes_with_the_dataset_where_asked_for(experienced):
    dataset, info = experienced.evaluate(n_episodes=2, get_env_info=True, quiet=True)
    np.testing.assert_array_equal(numbers(dataset), numbers(experienced.evaluate(n_episodes=2, quiet=True)))
    assert dict(info) == {}  # the A1 tells nothing


def test_evaluation_leaves_everything_as_it_was(experienced, learned):
    def everything():
        numpy_state = np.random.get_state()  # noqa: NPY002
        global_states = (numpy_state[1].tobytes(), *numpy_state[2:], random.getstate(), torch.get_rng_state().numpy().tobytes())
        counters = (experienced.n_steps, experienced.n_episodes, experienced.episodes.tobytes())
        return learned(experienced.agent), global_states, counters

    before, lanes = everything(), experienced.path.lanes[:]
    experienced.evaluate(n_episodes=9, quiet=True)
    experienced.evaluate(n_steps=20, deterministic=True, quiet=True)
    assert everything() == before
    assert experienced.path.lanes.equals(lanes)


def test_evaluating_or_not_never_changes_training(make_core, make_agent, short, learned):
    agents = [make_agent(short) for _ in range(2)]
    for agent, evaluated in zip(agents, (False, True), strict=True):
        core = make_core(agent)
        for _ in range(2):
            core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
            if evaluated:
                core.evaluate(n_episodes=3, quiet=True)
                core.evaluate(initial_states=[short.reset()], quiet=True)
    assert learned(agents[0]) == learned(agents[1])


def test_evaluation_is_the_same_until_something_is_learned(experienced):
    one, two = (numbers(experienced.evaluate(n_episodes=8, quiet=True)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    experienced.learn(n_steps=6, n_steps_per_fit=6, quiet=True)
    three = experienced.evaluate(n_episodes=8, quiet=True)
    assert not np.array_equal(get_init_states(three), one[:: len(one)][:, :37])
    assert not np.array_equal(numbers(three)[0], one[0])


@pytest.mark.parametrize("arguments", [{}, {"n_steps": 3, "n_episodes": 1}, {"initial_states": [np.zeros(37)], "n_steps": 3}])
def test_evaluation_wants_one_thing(experienced, arguments):
    with pytest.raises(ValueError, match="one of initial_states, n_steps and n_episodes"):
        experienced.evaluate(**arguments, quiet=True)


def test_evaluation_in_a_pool_is_that_in_this_process(make_core, make_agent, short):
    one, other = make_core(make_agent(short)), make_core(make_agent(short), pool="loky", n_workers=2)
    np.testing.assert_array_equal(*(numbers(core.evaluate(n_episodes=11, quiet=True)) for core in (one, other)))


# Which path


def test_loco_mujocos_own_environment_takes_the_batched_path(make_core, make_stock, small_config, learned):
    environment = make_stock()

    def run():
        policy = GaussianPolicy(37, 12, [16], 0.5, np.random.SeedSequence(0))
        agent = TRPO(environment.info, policy, small_config, np.random.SeedSequence(1))
        core = make_core(agent, environment)
        core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
        return core, learned(agent), numbers(core.evaluate(n_episodes=5, quiet=True))

    core, knowledge, evaluated = run()
    assert isinstance(core.path, BatchedPath)
    _, knowledge_again, evaluated_again = run()
    assert knowledge == knowledge_again
    np.testing.assert_array_equal(evaluated, evaluated_again)


def with_features(agent):
    agent.phi = lambda state: state


def with_preprocessor(agent):
    agent.add_preprocessor(StandardizationPreprocessor(agent.mdp_info))


def without_actor(agent):
    del agent.policy.actor


def with_its_own_way(agent):
    class Own(Recorder):
        def draw_action(self, state):
            return np.zeros(12)

    agent.__class__ = Own


REASONS = {
    with_features: "features or preprocessors",
    with_preprocessor: "features or preprocessors",
    without_actor: "GaussianPolicy has no `actor`",
    with_its_own_way: "Own has its own way of acting",
}


@pytest.mark.parametrize("change", REASONS)
def test_an_agent_that_lanes_cannot_serve_needs_a_way_to_build_the_environment(make_core, recorder, change):
    change(recorder)
    with pytest.raises(ValueError, match=f"ParallelCore: .*{REASONS[change]}.*; give make_environment"):
        make_core(recorder)
