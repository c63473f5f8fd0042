"""The contract of `RolloutSource`, for envs in a pool and for whole episodes of any environment."""

import functools
import os
import sys

import cloudpickle
import numpy as np
import pytest
from mushroom_rl.environments import Segway

from qi_ext.sampling import EpisodeSource, PoolSource
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.sampling.loky_backend import LokyWorkers
from qi_ext.utils.errors import SamplingError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
pytestmark = pytest.mark.usefixtures("deadline")
KINDS = ["envs", "episodes"]
with_workers = pytest.mark.parametrize("make", [*KINDS, "envs in workers"], indirect=True)
AMOUNTS = [{"n_steps": 60}, {"n_episodes": 5}]
make_segway = functools.partial(Segway, random_start=True)


@pytest.fixture(params=KINDS)
def make(request, make_source, short, Learns):
    """make(): a fresh source of a kind, and an agent for it; the first may have workers, the others have none."""
    sources = []

    def build():
        if request.param == "episodes":
            environment = make_segway()
            sources.append(EpisodeSource(make_segway, environment.info.horizon, n_envs=3, seed=7, pool="serial"))
        else:
            environment = short
            settings = {"pool": "loky", "n_workers": 2} if request.param != "envs" and not sources else {}
            sources.append(make_source(**settings))
        return sources[-1], Learns(environment.info)

    yield build
    for source in sources:
        source.close()


# The contract


@pytest.mark.parametrize("amount", AMOUNTS, ids=["steps", "episodes"])
def test_at_least_so_many_steps_or_exactly_so_many_episodes_are_gathered(make, gather, amount):
    source, agent = make()
    first, second = gather(source, agent, **amount), gather(source, agent, **amount)
    for gathered in (first, second):
        if "n_steps" in amount:
            assert gathered.n_steps >= amount["n_steps"]
        else:
            assert len(gathered.episodes) == sum(sample[5] for sample in gathered.dataset()) == amount["n_episodes"]
        assert len(gathered.dataset()) == gathered.n_steps
    assert not np.array_equal(first.dataset()[0][0], second.dataset()[0][0])


@pytest.mark.parametrize("amount", AMOUNTS, ids=["steps", "episodes"])
def test_another_source_goes_on_exactly_from_a_state(make, gather, bits, amount):
    (source, agent), (other, _) = make(), make()
    for each in ({"n_steps": 60}, amount):
        gather(source, agent, **each)
    state = source.state()
    assert all(isinstance(array, np.ndarray) for array in state.values())
    other.load_state(state)
    assert bits(gather(other, agent, **amount)) == bits(gather(source, agent, **amount))


def test_states_of_another_kind_are_refused_and_change_nothing(make, make_source, gather, bits):
    (source, agent), (untroubled, _) = make(), make()
    own = source.state()
    last = list(own)[-1]
    others = [None, "state", {}, {name: array for name, array in own.items() if name != last}]
    others += [dict.fromkeys(own, wrong) for wrong in (None, "state", {}, np.arange(3), np.array(np.inf))]
    if isinstance(source, PoolSource):
        others += [make_source(n_envs=5).state(), own | {last: own[last].astype(float)}]
        others += [{"n_episodes": np.array(3), "mean_length": np.array(20.0)}]
    else:
        others += [make_source().state(), own | {last: np.array(0.0)}]
    for state in others:
        with pytest.raises(ValueError, match="^(envs|episodes): "):
            source.load_state(state)
    assert bits(gather(source, agent, n_steps=60)) == bits(gather(untroubled, agent, n_steps=60))


@pytest.mark.parametrize(
    ("make", "waited"),
    [("envs", False), ("envs", True), ("episodes", True), ("envs in workers", False)],
    indirect=["make"],
)
def test_what_was_started_and_dropped_changes_nothing(make, gather, bits, waited):
    (source, agent), (untroubled, _) = make(), make()
    for each in (source, untroubled):
        gather(each, agent, n_steps=60)
    source.start(agent, n_steps=60)
    if waited:
        source.wait()
    source.drop()
    source.drop()
    source.start(agent, n_steps=30)  # and one that another start replaces
    assert bits(gather(source, agent, n_steps=60)) == bits(gather(untroubled, agent, n_steps=60))


@with_workers
def test_the_policy_acts_as_it_did_at_the_start(make, gather, bits):
    (source, agent), (untroubled, other) = make(), make()
    source.start(agent, n_steps=60)
    agent.fit(gather(untroubled, other, n_steps=60).dataset())
    source.wait()
    gathered = source.collect()
    untroubled.load_state(make()[0].state())
    assert bits(gathered) == bits(gather(untroubled, other, n_steps=60))
    assert bits(gathered) != bits(gather(make()[0], agent, n_steps=60))


@with_workers
def test_evaluating_changes_nothing_also_while_something_is_started(make, gather, bits):
    (source, agent), (untroubled, _) = make(), make()
    for each in (source, untroubled):
        gather(each, agent, n_steps=60)
    before = source.evaluate(agent, range(5))
    source.start(agent, n_steps=60)
    during = source.evaluate(agent, range(5))
    assert bits(during) == bits(before)
    assert len(during.episodes) == sum(sample[5] for sample in during.dataset()) == 5
    source.wait()
    assert bits(source.collect()) == bits(gather(untroubled, agent, n_steps=60))


def test_an_evaluated_episode_depends_on_its_number_and_the_step_only(make, bits):
    source, agent = make()
    numbered = source.evaluate(agent, range(4, 8))
    assert bits(numbered) == bits(source.evaluate(agent, range(4, 8)))
    together = source.evaluate(agent, range(8))
    np.testing.assert_array_equal(numbered.samples[0][0][0], together.samples[4][0][0])
    assert bits(numbered) != bits(source.evaluate(agent, range(4, 8), step=4096))


def test_a_fault_is_named_with_its_seed_and_afterwards_the_source_goes_on(make, gather, bits):
    (source, agent), (untroubled, other) = make(), make()
    for each in (source, untroubled):
        gather(each, agent, n_steps=60)
    good = agent.policy.actor.std
    agent.policy.actor.std = np.full_like(good, np.nan) if isinstance(source, PoolSource) else None
    named = r"^(env 0 \(seed 3, spawn key \(2, 0\)\)|episode \d+ \(seed 7, spawn key \(3, \d+\)\)): "
    source.start(agent, n_steps=60)
    for _ in range(2):
        with pytest.raises(SamplingError, match=named):
            source.wait()
    with pytest.raises(SamplingError, match=r"^episode 2 \(seed [37], spawn key \(4, 60, .*2?\)\): "):
        source.evaluate(agent, range(2, 3), step=60)
    agent.policy.actor.std = good
    assert bits(gather(source, agent, n_steps=60)) == bits(gather(untroubled, other, n_steps=60))


@with_workers
def test_where_envs_are_stepped_is_told(make, request):
    assert make()[0].place == ("2 processes" if "workers" in request.node.name else "this process")


# Envs in a pool


def everything(source, agent, gather, bits):
    """Two fragments, whole episodes and an evaluation, as bytes, and the state in the end."""
    gathered = [gather(source, agent, **amount) for amount in ({"n_steps": 150}, {"n_steps": 100}, {"n_episodes": 7})]
    gathered.append(source.evaluate(agent, range(11)))
    return [bits(each) for each in gathered], {name: array.tobytes() for name, array in source.state().items()}


@pytest.fixture(scope="module")
def expected():
    """Filled by the first test that needs it: `everything` in this process."""
    return []


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_rollouts_do_not_depend_on_the_workers(make_source, short, Learns, gather, bits, expected, n_workers):
    """10 envs in blocks of 4, of which the last holds 2."""
    agent = Learns(short.info)
    if not expected:
        expected.append(everything(make_source(n_envs=10), agent, gather, bits))
    assert everything(make_source(n_envs=10, pool="loky", n_workers=n_workers), agent, gather, bits) == expected[0]


def test_a_killed_worker_changes_nothing(make_source, short, Learns, gather, bits, processes, warnings):
    agent, amount = Learns(short.info), {"n_steps": 1600}
    source = make_source(n_envs=16, pool="loky", n_workers=2)
    workers = processes.pids(source._pool)
    before = {pid: processes.busy(pid) for pid in workers}
    source.start(agent, **amount)
    processes.wait_until(lambda: any(processes.busy(pid) > before[pid] + 0.05 for pid in workers))
    os.kill(workers[0], 9)
    source.wait()
    untroubled = make_source(n_envs=16)
    assert bits(source.collect()) == bits(gather(untroubled, agent, **amount))
    (said,) = warnings()
    assert said.startswith("a worker died (killed, or out of memory?); running again: env")
    assert "\n" not in said
    assert bits(gather(source, agent, n_steps=16)) == bits(gather(untroubled, agent, n_steps=16))
    assert len(warnings()) == 1


def test_another_seed_gives_other_rollouts(make_source, short, Learns, gather, bits):
    agent = Learns(short.info)
    one, two, other = (bits(gather(make_source(seed=seed), agent, n_steps=60)) for seed in (3, 3, 4))
    assert one == two != other


def test_sources_do_not_disturb_each_other(make_source, simple, short, Learns, gather, bits):
    """Of different environments, in turns; and closing one."""
    agent = Learns(short.info)
    alone = [[bits(gather(source, agent, n_steps=60)) for _ in range(2)] for source in (make_source(), make_source(simple))]
    sources = [make_source(), make_source(simple), make_source()]
    sources.pop().close()
    together = [[bits(gather(source, agent, n_steps=60)) for source in sources] for _ in range(2)]
    assert together == [list(each) for each in zip(*alone, strict=True)]
    assert alone[0] != alone[1]


def test_other_envs_are_told_their_commands_and_come_back_by_their_numbers(make_source, short, Learns):
    source, agent = make_source(), Learns(short.info)
    envs = source.envs([np.random.SeedSequence(number) for number in range(9)])
    commands = [short.commands[number % 8] for number in range(9)]
    source.tell(envs, commands)
    found = dict(source.run_episodes(envs, PolicyController(agent.policy.actor)))
    assert sorted(found) == list(range(9))
    for number, rollouts in found.items():
        np.testing.assert_array_equal(rollouts.observations[0, 0, -3:], commands[number].features)
    envs.command[6] = np.nan
    with pytest.raises(SamplingError, match="^robot 106: .*not finite"):
        list(source.run_episodes(envs, PolicyController(agent.policy.actor), lambda env: f"robot {env + 100}"))


def test_disturbances_are_for_training_and_not_for_evaluating(make_source, short, Learns, gather, bits):
    agent, made = Learns(short.info), []
    for disturbances in (TrainingDisturbances(), TrainingDisturbances(push=90.0, torque_noise=0.1)):
        source = make_source(disturbances=disturbances)
        made.append([bits(source.evaluate(agent, range(2)))])
        made[-1] += [bits(gather(source, agent, **amount)) for amount in ({"n_steps": 300}, {"n_episodes": 2})]
    calm, disturbed = made
    assert [one == other for one, other in zip(calm, disturbed, strict=True)] == [True, False, False]


def test_disturbances_begin_with_the_batch_after_so_many_steps(make_source, short, Learns, gather, bits):
    agent, disturbances = Learns(short.info), TrainingDisturbances(torque_noise=0.1, disturb_after=100)
    calm, late = make_source(), make_source(disturbances=disturbances)
    same = [bits(gather(calm, agent, n_steps=60)) == bits(gather(late, agent, n_steps=60, step=step)) for step in (60, 120)]
    assert same == [True, False]


def test_a_start_that_cannot_be_sent_raises_as_it_is_waited_for_and_can_be_sent_again(
    make_source, short, Learns, gather, bits, monkeypatch
):
    """So that what the caller does meanwhile is done and can be saved."""
    real, tried = LokyWorkers.submit, []

    def submit(workers, function):
        tried.append(function)
        if len(tried) <= 2:
            raise BlockingIOError("no more processes")
        return real(workers, function)

    agent, source = Learns(short.info), make_source(pool="loky", n_workers=2)
    monkeypatch.setattr(LokyWorkers, "submit", submit)
    source.start(agent, n_steps=60)
    with pytest.raises(SamplingError, match="no more processes"):
        source.wait()
    source.wait()
    assert bits(source.collect()) == bits(gather(make_source(), agent, n_steps=60))
