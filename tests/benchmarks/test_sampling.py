"""The sampling benchmark: its contenders do the same work."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.sampling.pool_source import BatchedSampler

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    """Makes the modules of the benchmark importable, as running one of its scripts does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


@pytest.fixture(scope="module")
def resting():
    """An actor without any torque."""
    zeros = np.zeros((12, 37), dtype=np.float32)
    return Actor([(zeros, zeros[:, 0])], zeros[0], zeros[0] + 1.0, np.full(12, -5.0, dtype=np.float32))


@pytest.fixture(scope="module")
def sampler(hard):
    return BatchedSampler(hard, pool="serial")


def test_bare_physics_replays_what_the_pool_did(benchmarks, sampler, resting):
    from bare_physics import STATE, recorded, replay

    specification = sampler.specification
    before, _ = sampler.fragment(sampler.lanes(np.random.SeedSequence(0).spawn(2)), resting, 1)
    after, rollouts = sampler.fragment(before, resting, 3)
    data = mujoco.MjData(specification.model)
    state = np.empty(specification.state_size)
    for env, (begin, controls) in enumerate(recorded(specification, before, rollouts)):
        assert len(controls) == 3
        replay(specification.model, data, specification.n_substeps, begin, controls)
        mujoco.mj_getState(specification.model, data, state, STATE)
        np.testing.assert_array_equal(state, after.state[env])


def test_bare_processes_share_the_steps_equally(benchmarks):
    from bare_physics import shares

    replays = [(None, np.zeros((length, 12))) for length in (5, 3, 4)]
    for n_processes in (1, 2, 3, 4, 12):
        parts = shares(replays, n_processes, 12)
        assert [sum(len(controls) for _, controls in part) for part in parts] == [12 // n_processes] * n_processes


def test_watching_a_pool_changes_nothing_and_accounts_for_the_time(benchmarks, sampler, resting, monkeypatch):
    from watched_pool import WatchedPool

    envs = sampler.lanes(np.random.SeedSequence(1).spawn(5))
    plain, _ = sampler.fragment(envs, resting, 4)
    monkeypatch.setattr(sampler, "pool", WatchedPool(sampler.pool))
    seen, _ = sampler.fragment(envs, resting, 4)
    assert seen.equals(plain)
    assert len(sampler.pool.tasks) == 2
    for task in sampler.pool.tasks:
        assert 0.0 < task.policy + task.physics < task.busy
        assert task.rss_mb > 10.0
    # Observations and next observations alone are 2 x 37 doubles.
    assert sampler.pool.bytes_received() > 5 * 4 * 2 * 37 * 8
    assert sampler.pool.bytes_sent() > 0
