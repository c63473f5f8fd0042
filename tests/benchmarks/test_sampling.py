"""The sampling benchmark: its contenders do the same work."""

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.sampling import PoolSource

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    """Makes the modules of the benchmark importable, as running one of its scripts does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


@pytest.fixture(scope="module")
def resting():
    """An agent without any torque."""
    zeros = np.zeros((12, 37), dtype=np.float32)
    actor = Actor([(zeros, zeros[:, 0])], zeros[0], zeros[0] + 1.0, np.full(12, -5.0, dtype=np.float32))
    return SimpleNamespace(policy=SimpleNamespace(actor=actor))


@pytest.fixture
def source(hard):
    """A source of five envs in this process."""
    with closing(PoolSource(hard, n_envs=5, pool="serial")) as source:
        yield source


def collect(source, agent, steps):
    source.start(agent, n_steps=steps * source.n_envs)
    return source.collect()


def test_bare_physics_replays_what_the_pool_did(benchmarks, source, resting):
    from bare_physics import STATE, recorded, replay

    collect(source, resting, 1)
    before = source.state()
    rollouts = collect(source, resting, 3)
    data = mujoco.MjData(source.spec.model)
    state = np.empty(source.spec.state_size)
    replays = recorded(source.spec, before, rollouts)
    assert len(replays) == source.n_envs
    for env, (begin, controls) in enumerate(replays):
        assert len(controls) == 3
        replay(source.spec.model, data, source.spec.n_substeps, begin, controls)
        mujoco.mj_getState(source.spec.model, data, state, STATE)
        np.testing.assert_array_equal(state, source.state()["state"][env])


def test_bare_processes_share_the_steps_equally(benchmarks):
    from bare_physics import shares

    replays = [(None, np.zeros((length, 12))) for length in (5, 3, 4)]
    for n_processes in (1, 2, 3, 4, 12):
        parts = shares(replays, n_processes, 12)
        assert [sum(len(controls) for _, controls in part) for part in parts] == [12 // n_processes] * n_processes


def test_watching_a_pool_changes_nothing_and_accounts_for_the_time(benchmarks, source, resting, monkeypatch):
    from watched_pool import WatchedPool

    begun = source.state()
    plain = collect(source, resting, 4)
    source.load_state(begun)
    pool = WatchedPool(source._pool)
    monkeypatch.setattr(source, "_pool", pool)
    np.testing.assert_array_equal(collect(source, resting, 4).next_observations, plain.next_observations)
    assert len(pool.tasks) == 2
    for task in pool.tasks:
        assert 0.0 < task.policy + task.physics < task.busy
        assert task.rss_mb > 10.0
    # Observations and next observations alone are 2 x 37 doubles.
    assert pool.bytes_received() > 5 * 4 * 2 * 37 * 8
    assert pool.bytes_sent() > 0
