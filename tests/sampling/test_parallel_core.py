"""ParallelCore over a source: batches, callbacks, evaluation; beside mushroom-rl's own `Core`."""

import random

import numpy as np
import pytest
import torch
from mushroom_rl.core import Agent, Core
from mushroom_rl.utils.callbacks import CollectDataset
from mushroom_rl.utils.dataset import compute_episodes_length, compute_J, get_init_states
from mushroom_rl.utils.preprocessors import StandardizationPreprocessor

from qi_ext.robot import a1
from qi_ext.sampling import EpisodeSource, ParallelCore, PoolSource
from qi_ext.utils.errors import SamplingError

N_ENVS = 6


@pytest.fixture
def make_core(short):
    """make_core(agent, environment=short, **settings): a ParallelCore of 6 envs in blocks of 4, in this process."""
    cores = []

    def make(agent, environment=short, callbacks_fit=None, callback_step=None, **settings):
        settings = {"n_envs": N_ENVS, "lanes_per_block": 4, "pool": "serial", "seed": 3} | settings
        cores.append(ParallelCore(agent, environment, callbacks_fit, callback_step, **settings))
        return cores[-1]

    yield make
    for core in cores:
        core.close()


@pytest.fixture
def learner(short, Learns):
    return Learns(short.info)


@pytest.fixture
def experienced(make_core, learner):
    """A core after a batch, whose envs are in the middle of episodes."""
    core = make_core(learner)
    core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    return core


# Batches


@pytest.mark.parametrize(
    ("n_steps", "n_steps_per_fit", "sizes"),
    [
        (48, 24, [24, 24]),
        (50, 20, [24, 24, 24]),  # 20 steps of 6 envs are 4 each, and 50 need a third batch
        (1, 1, [6]),
    ],
)
def test_batches_are_rounded_up_to_whole_steps_of_all_envs(make_core, learner, n_steps, n_steps_per_fit, sizes):
    core = make_core(learner)
    core.learn(n_steps=n_steps, n_steps_per_fit=n_steps_per_fit, quiet=True)
    assert [len(dataset) for dataset in learner.datasets] == sizes
    assert core.n_steps == sum(sizes)


def test_the_end_may_be_counted_in_steps_and_batches_in_episodes_and_the_other_way_round(make_core, short, Learns):
    agent, other = Learns(short.info), Learns(short.info)
    core = make_core(agent)
    core.learn(n_steps=60, n_episodes_per_fit=5, quiet=True)
    assert {len(compute_episodes_length(dataset)) for dataset in agent.datasets} == {5}
    assert core.n_steps >= 60 > core.n_steps - len(agent.datasets[-1])
    core = make_core(other)
    core.learn(n_episodes=10, n_steps_per_fit=12, quiet=True)
    assert {len(dataset) for dataset in other.datasets} == {12}
    assert core.n_episodes >= 10 > core.n_episodes - len(core.episodes)


WRONG = {
    "no batch": {"n_steps": 10},
    "two batches": {"n_steps": 10, "n_steps_per_fit": 5, "n_episodes_per_fit": 5},
    "no end": {"n_steps_per_fit": 5},
    "two ends": {"n_steps": 10, "n_episodes": 10, "n_steps_per_fit": 5},
    "rendered": {"n_steps": 10, "n_steps_per_fit": 5, "render": True},
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_contradict_each_other_are_refused(make_core, learner, name):
    core = make_core(learner)
    with pytest.raises(ValueError, match="^learn: "):
        core.learn(**WRONG[name], quiet=True)
    assert core.n_steps == 0


def test_a_batch_is_what_the_source_gathers(make_core, make_source, learner, gather, numbers, bits):
    make_core(learner).learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    source, other = make_source(), type(learner)(learner.mdp_info)
    for dataset in learner.datasets:
        rollouts = gather(source, other, n_steps=60)
        np.testing.assert_array_equal(numbers(dataset), numbers(rollouts.dataset()))
        other.fit(rollouts.dataset())
    given = make_core(type(learner)(learner.mdp_info), source=make_source())
    given.learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    np.testing.assert_array_equal(numbers(given.agent.datasets[1]), numbers(learner.datasets[1]))


# Going on


def test_learning_in_pieces_after_stop_and_in_another_core_is_learning_at_once(make_core, short, Learns, numbers):
    together, apart = Learns(short.info), Learns(short.info)
    make_core(together).learn(n_steps=180, n_steps_per_fit=60, quiet=True)
    core = make_core(apart, callbacks_fit=[lambda dataset: core.stop()])
    core.learn(n_steps=180, n_steps_per_fit=60, quiet=True)
    assert core.n_steps == 60
    core.callbacks_fit.clear()
    core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    other = make_core(apart)
    other.restore(core.source.state(), core.n_steps, core.n_episodes)
    other.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert other.n_steps == 180
    for one, other in zip(together.datasets, apart.datasets, strict=True):
        np.testing.assert_array_equal(numbers(one), numbers(other))


def test_a_state_of_another_source_is_refused(experienced, make_core, learner):
    state = experienced.source.state()
    core = make_core(learner, source=EpisodeSource(lambda: None, 8, pool="serial"))
    with pytest.raises(ValueError, match="^episodes: the state must hold"):
        core.restore(state, 60, 0)
    with pytest.raises(ValueError, match="^envs: "):
        experienced.restore(core.source.state(), 60, 0)
    assert core.n_steps == 0


def test_after_an_exception_in_a_callback_learning_can_go_on(make_core, short, Learns, numbers):
    def fail(dataset):
        raise ZeroDivisionError

    agent, untroubled = Learns(short.info), Learns(short.info)
    make_core(untroubled).learn(n_steps=180, n_steps_per_fit=60, quiet=True)
    core = make_core(agent, callbacks_fit=[fail])
    with pytest.raises(ZeroDivisionError):
        core.learn(n_steps=180, n_steps_per_fit=60, quiet=True)
    core.callbacks_fit.clear()
    core.learn(n_steps=120, n_steps_per_fit=60, quiet=True)
    for one, other in zip(agent.datasets, untroubled.datasets, strict=True):
        np.testing.assert_array_equal(numbers(one), numbers(other))


def test_a_fault_in_the_source_leaves_what_was_learned(experienced):
    experienced.agent.policy.actor.std = np.full(12, np.inf)
    with pytest.raises(SamplingError, match="not finite"):
        experienced.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert (experienced.n_steps, len(experienced.agent.datasets)) == (60, 1)


# Callbacks


@pytest.mark.parametrize("how", [{"n_steps_per_fit": 18}, {"n_episodes_per_fit": 3}], ids=["steps", "episodes"])
def test_callbacks_get_whole_episodes_with_their_true_returns(make_core, learner, numbers, how):
    ended, seen, collect = [], [], CollectDataset()
    callbacks = [collect, lambda dataset: ended.append(core.episodes.copy())]
    core = make_core(learner, callbacks_fit=callbacks, callback_step=seen.append)
    core.learn(n_steps=150, **how, quiet=True)
    ended = np.concatenate(ended)
    assert len(ended) == len(seen) == core.n_episodes > 10
    assert compute_J(collect.get()) == pytest.approx(ended["episode_return"], rel=1e-12)
    assert compute_episodes_length(collect.get()) == ended["length"].tolist()
    for episode, row in zip(seen, ended, strict=True):
        assert [sample[5] for sample in episode] == [False] * (len(episode) - 1) + [True]
        assert episode[-1][4] == row["fell"]
        for sample, following in zip(episode[:-1], episode[1:], strict=True):
            np.testing.assert_array_equal(sample[3], following[0])
    np.testing.assert_array_equal(numbers(collect.get()), numbers([sample for episode in seen for sample in episode]))


def test_callbacks_come_before_and_after_the_fit(make_core, learner):
    order = []
    learner.fit = lambda dataset: order.append("fit")
    core = make_core(learner, callbacks_fit=[lambda _: order.append("after")], callback_step=lambda _: order.append("episode"))
    core.learn(n_episodes=2, n_episodes_per_fit=1, quiet=True)
    assert order == ["episode", "fit", "after"] * 2


# Evaluation


@pytest.mark.parametrize("n_steps", [1, 29, 117])
def test_evaluated_steps_are_the_first_of_the_episodes(make_core, learner, make_actor, numbers, n_steps):
    learner.policy.actor = make_actor(hidden=64)
    # In blocks of this size, the last bits of an action depend on its row, and noise would hide them.
    core = make_core(learner, n_envs=8, lanes_per_block=16)
    dataset, info = core.evaluate(n_steps=n_steps, deterministic=True, quiet=True, get_env_info=True)
    assert len(dataset) == n_steps
    assert info == {}  # the A1 tells nothing
    episodes = core.evaluate(n_episodes=40, deterministic=True, quiet=True)
    np.testing.assert_array_equal(numbers(dataset), numbers(episodes)[:n_steps])


def test_evaluation_from_given_states_is_mushroom_rls_own(experienced, short, numbers):
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


@pytest.mark.parametrize(
    ("policys_own", "asked_for", "noisy"), [(False, None, True), (True, None, False), (True, False, True), (False, True, False)]
)
def test_noise_is_as_asked_for_or_as_the_policy_says(experienced, policys_own, asked_for, noisy):
    agent = experienced.agent
    agent.policy.deterministic = policys_own
    dataset = experienced.evaluate(n_episodes=40, deterministic=asked_for, quiet=True)
    states, actions = (np.array([sample[i] for sample in dataset]) for i in (0, 1))
    drawn = (actions - agent.policy.actor.mean(states)) / agent.policy.actor.std
    assert agent.policy.deterministic == policys_own
    assert drawn.std() == pytest.approx(1.0, abs=0.05) if noisy else np.abs(drawn).max() < 1e-4


def test_evaluating_leaves_everything_as_it_was_and_never_changes_training(make_core, short, Learns, numbers):
    def globals_now():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return numpy_state[1].tobytes(), *numpy_state[2:], random.getstate(), torch.get_rng_state().numpy().tobytes()

    cores = [make_core(Learns(short.info)) for _ in range(2)]
    for core in cores:
        core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    core, untroubled = cores
    before = globals_now(), core.n_steps, core.n_episodes, core.episodes.tobytes()
    core.evaluate(n_episodes=9, quiet=True)
    core.evaluate(n_steps=20, deterministic=True, quiet=True)
    core.evaluate(initial_states=[short.reset()], quiet=True)
    assert (globals_now(), core.n_steps, core.n_episodes, core.episodes.tobytes()) == before
    for each in cores:
        each.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    np.testing.assert_array_equal(*(numbers(each.agent.datasets[1]) for each in cores))


@pytest.mark.parametrize("arguments", [{}, {"n_steps": 3, "n_episodes": 1}, {"initial_states": [np.zeros(37)], "n_steps": 3}])
def test_evaluation_wants_one_thing(experienced, arguments):
    with pytest.raises(ValueError, match="one of initial_states, n_steps and n_episodes"):
        experienced.evaluate(**arguments, quiet=True)


# The source that fits agent and environment


def test_loco_mujocos_own_environment_is_stepped_in_envs_that_go_on(make_core, make_stock, Learns, numbers):
    environment = make_stock()
    core = make_core(Learns(environment.info), environment)
    assert isinstance(core.source, PoolSource)
    core.learn(n_steps=60, n_steps_per_fit=60, quiet=True)
    assert not core.agent.datasets[0][9][4]  # the first env's last sample: its fragment ends, its episode does not
    assert len(compute_episodes_length(core.evaluate(n_episodes=5, quiet=True))) == 5


def with_features(agent):
    agent.phi = lambda state: state


def with_preprocessor(agent):
    agent.add_preprocessor(StandardizationPreprocessor(agent.mdp_info))


def without_actor(agent):
    del agent.policy.actor


def with_its_own_way(agent):
    class Own(Agent):
        def draw_action(self, state):
            return np.zeros(12)

    agent.__class__ = Own


REASONS = {
    with_features: "features or preprocessors",
    with_preprocessor: "features or preprocessors",
    without_actor: "ActorPolicy has no `actor`",
    with_its_own_way: "Own has its own way of acting",
}


@pytest.mark.parametrize("change", REASONS)
def test_an_agent_that_cannot_act_as_an_actor_needs_a_way_to_build_the_environment(make_core, learner, change):
    change(learner)
    with pytest.raises(ValueError, match=f"ParallelCore: .*{REASONS[change]}.*; give make_environment"):
        make_core(learner)
