"""The next batch is gathered while the agent still fits: the same numbers, and nothing left behind when that goes wrong."""

import os
import signal
import time

import psutil
import pytest

from qi_ext.sampling import ParallelCore
from qi_ext.sampling.loky_backend import LokyWorkers
from qi_ext.utils.errors import SamplingError

DEADLINE = 60.0  # s
N_STEPS = 80  # a batch, of 8 lanes
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def make_core(short, make_agent):
    """make_core(callback=None, **settings): a ParallelCore of 8 lanes and two worker processes, which overlaps."""
    cores = []

    def make(callback=None, **settings):
        settings = {"pool": "loky", "n_workers": 2, "n_envs": 8, "lanes_per_block": 2, "seed": 3} | settings
        cores.append(ParallelCore(make_agent(short), short, [callback] if callback else None, **settings))
        return cores[-1]

    yield make
    for core in cores:
        core.close()


@pytest.fixture(scope="module")
def expected(short, make_agent, learned):
    """expected(n): what an agent knows after n batches gathered one after the other in this process, and its lanes."""
    known = {}

    def of(n):
        if n not in known:
            agent = make_agent(short)
            core = ParallelCore(agent, short, pool="serial", n_envs=8, lanes_per_block=2, seed=3)
            core.learn(n_steps=n * N_STEPS, n_steps_per_fit=N_STEPS, quiet=True)
            known[n] = learned(agent), core.path.lanes
        return known[n]

    return of


def learn(core, n):
    core.learn(n_steps=n * N_STEPS, n_steps_per_fit=N_STEPS, quiet=True)
    return core


def workers():
    """Worker processes of this one."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "LokyProcess" in " ".join(child.cmdline())]


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def is_as(core, expected, learned, n):
    knowledge, lanes = expected(n)
    assert learned(core.agent) == knowledge
    assert core.path.lanes.equals(lanes)
    return True


@pytest.mark.parametrize("overlap", [True, False])
def test_what_is_learned_is_the_same_with_and_without(make_core, expected, learned, overlap):
    under_way = []
    core = make_core(lambda dataset: under_way.append(core.path._under_way is not None), overlap=overlap)
    assert is_as(learn(core, 4), expected, learned, 4)
    # After the last one there is nothing more to gather.
    assert under_way == [overlap] * 3 + [False]


def test_without_workers_nothing_is_gathered_ahead(make_core, expected, learned):
    under_way = []
    core = make_core(lambda dataset: under_way.append(core.path._under_way is not None), pool="serial")
    assert is_as(learn(core, 2), expected, learned, 2)
    assert under_way == [False, False]


def test_learning_in_pieces_is_learning_at_once(make_core, expected, learned):
    core = make_core()
    for n in (1, 2, 1):
        learn(core, n)
    assert is_as(core, expected, learned, 4)


@pytest.mark.parametrize("victims", [1, 2])
def test_a_worker_killed_while_a_batch_is_gathered_ahead_changes_nothing(make_core, expected, learned, warnings, victims):
    killed = []

    def kill(dataset):
        if core.n_steps == 2 * N_STEPS:
            assert core.path._under_way is not None
            killed.extend(workers()[:victims])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    core = make_core(kill)
    assert is_as(learn(core, 4), expected, learned, 4)
    assert len(killed) == victims
    # It may have been done with the batch by then; what comes next starts new ones without a word.
    assert len(warnings()) <= 1


def test_an_exception_in_a_callback_leaves_no_processes_and_no_batch(make_core, expected, learned):
    def fail(dataset):
        if core.n_steps == 2 * N_STEPS:
            assert core.path._under_way is not None
            raise ZeroDivisionError

    core = make_core(fail)
    with pytest.raises(ZeroDivisionError):
        learn(core, 4)
    assert core.path._under_way is None
    wait_until(lambda: not workers())
    # It goes on from the update that was made before.
    core.callbacks_fit.clear()
    assert is_as(learn(core, 2), expected, learned, 4)


def test_an_exception_in_the_update_leaves_no_processes_and_no_batch(make_core, monkeypatch):
    core = make_core()

    def fail(batch, targets):
        raise FloatingPointError("not finite")

    monkeypatch.setattr(core.agent, "_fit_rest", fail)
    with pytest.raises(FloatingPointError):
        learn(core, 4)
    assert core.path._under_way is None
    wait_until(lambda: not workers())


def test_evaluating_while_a_batch_is_under_way_changes_nothing(make_core, expected, learned):
    ended = []

    def evaluate(dataset):
        before = core.path.lanes[:], learned(core.agent)
        ended.append(sum(sample[5] for sample in core.evaluate(n_episodes=9, quiet=True)))
        assert core.path.lanes.equals(before[0])
        assert learned(core.agent) == before[1]

    core = make_core(evaluate)
    assert is_as(learn(core, 3), expected, learned, 3)
    assert ended == [9] * 3


def test_a_worker_killed_in_an_evaluation_while_a_batch_is_under_way_changes_nothing(make_core, expected, learned):
    def evaluate(dataset):
        if core.n_steps == 2 * N_STEPS:
            os.kill(workers()[0], signal.SIGKILL)
        assert sum(sample[5] for sample in core.evaluate(n_episodes=4, quiet=True)) == 4

    core = make_core(evaluate)
    assert is_as(learn(core, 3), expected, learned, 3)


def test_a_pool_that_cannot_start_the_next_batch_at_once_starts_it_after_the_update(make_core, expected, learned, monkeypatch):
    real, calls = LokyWorkers.submit, []

    def submit(workers, function):
        calls.append(function)
        if len(calls) == 5:  # the first block of the second batch
            raise BlockingIOError("no more processes")
        return real(workers, function)

    monkeypatch.setattr(LokyWorkers, "submit", submit)
    is_as(learn(make_core(), 3), expected, learned, 3)
    assert len(calls) == 13


def test_a_pool_that_cannot_start_the_next_batch_at_all_says_so_after_the_update(make_core, expected, learned, monkeypatch):
    real, noted = LokyWorkers.submit, []

    def submit(workers, function):
        if core.n_steps:
            raise BlockingIOError("no more processes")
        return real(workers, function)

    monkeypatch.setattr(LokyWorkers, "submit", submit)
    core = make_core(lambda dataset: noted.append(core.n_steps))
    with pytest.raises(SamplingError, match="no more processes"):
        learn(core, 3)
    assert noted == [N_STEPS]
    is_as(core, expected, learned, 1)


def test_stop_ends_learning_after_the_update_and_it_can_go_on(make_core, expected, learned):
    core = make_core(lambda dataset: core.stop())
    learn(core, 4)
    assert core.n_steps == N_STEPS
    assert core.path._under_way is None
    learn(core, 4)
    assert core.n_steps == 2 * N_STEPS
    core.callbacks_fit.clear()
    assert is_as(learn(core, 2), expected, learned, 4)


def test_another_core_goes_on_from_where_one_was_stopped(make_core, make_agent, short, expected, learned):
    core = make_core(lambda dataset: core.n_steps == 2 * N_STEPS and core.stop())
    learn(core, 4)
    again = ParallelCore(core.agent, short, pool="serial", n_envs=8, lanes_per_block=2, seed=3)
    again.restore(core.path.lanes.arrays(), core.n_steps, core.n_episodes)
    assert is_as(learn(again, 2), expected, learned, 4)
    assert again.n_steps == 4 * N_STEPS


def test_lanes_of_another_kind_are_refused(make_core):
    core = make_core(pool="serial")
    arrays = core.path.lanes.arrays()
    for wrong in ({}, arrays | {"goal": arrays["goal"][:-1]}, arrays | {"step": arrays["step"].astype(float)}):
        with pytest.raises(ValueError, match="^lanes: "):
            core.restore(wrong, 0, 0)
    assert core.n_steps == 0


def test_each_update_and_its_callbacks_are_undisturbed_and_no_more(make_core):
    seen = []

    class Undisturbed:
        def __enter__(self):
            seen.append("(")

        def __exit__(self, *exception):
            seen.append(")")

    learn(make_core(lambda dataset: seen.append("note"), undisturbed=Undisturbed), 2)
    assert seen == ["(", "note", ")"] * 2


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_fault_in_a_lane_of_a_batch_gathered_ahead_comes_after_the_update_is_noted(make_core, monkeypatch):
    """So that what was learned can be saved."""
    noted = []

    def note(dataset):
        noted.append(core.n_steps)

    core = make_core(note)
    update_statistics = core.agent._update_statistics

    def unbounded(observations):
        update_statistics(observations)
        core.agent.policy.log_std.data.fill_(200.0)  # a standard deviation that is more than float32 holds

    monkeypatch.setattr(core.agent, "_update_statistics", unbounded)
    monkeypatch.setattr(core.agent, "_fit_rest", lambda batch, targets: None)
    with pytest.raises(SamplingError, match="action is not finite"):
        learn(core, 4)
    assert noted == [N_STEPS]
