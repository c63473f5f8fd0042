"""The sampling benchmark: its contenders do the same work, and its command runs."""

import json
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.sampling.pool_source import BatchedSampler

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASURES = (
    *("physics", "stock_core", "async_vector_env", "scaling", "bytes_sent_per_step", "bytes_received_per_step"),
    *("worker_rss_mb", "share_policy", "share_observation", "share_physics", "share_transport"),
)


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
    for lane, (begin, controls) in enumerate(recorded(specification, before, rollouts)):
        assert len(controls) == 3
        replay(specification.model, data, specification.n_substeps, begin, controls)
        mujoco.mj_getState(specification.model, data, state, STATE)
        np.testing.assert_array_equal(state, after.state[lane])


def test_bare_processes_share_the_steps_equally(benchmarks):
    from bare_physics import shares

    replays = [(None, np.zeros((length, 12))) for length in (5, 3, 4)]
    for n_processes in (1, 2, 3, 4, 12):
        parts = shares(replays, n_processes, 12)
        assert [sum(len(controls) for _, controls in part) for part in parts] == [12 // n_processes] * n_processes


def test_watching_a_pool_changes_nothing_and_accounts_for_the_time(benchmarks, sampler, resting, monkeypatch):
    from watched_pool import WatchedPool

    lanes = sampler.lanes(np.random.SeedSequence(1).spawn(5))
    plain, _ = sampler.fragment(lanes, resting, 4)
    monkeypatch.setattr(sampler, "pool", WatchedPool(sampler.pool))
    seen, _ = sampler.fragment(lanes, resting, 4)
    assert seen.equals(plain)
    assert len(sampler.pool.seen) == 2
    for task in sampler.pool.seen:
        assert 0.0 < task.policy + task.physics < task.busy
        assert task.rss_mb > 10.0
    # Observations and next observations alone are 2 x 37 doubles.
    assert sampler.pool.bytes_received() > 5 * 4 * 2 * 37 * 8
    assert sampler.pool.bytes_sent() > 0


@pytest.mark.slow
def test_the_command_writes_every_measure(tmp_path):
    path = tmp_path / "sampling.json"
    command = [sys.executable, str(BENCHMARKS / "sampling.py"), "--quick", "--json", str(path)]
    done = subprocess.run(command, timeout=300, capture_output=True, text=True, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr
    values = json.loads(path.read_text())
    for suffix in ("", "_8", "_128"):
        assert all(np.isfinite(values[name + suffix]) for name in MEASURES)
        shares = [values[f"share_{part}{suffix}"] for part in ("policy", "observation", "physics", "transport")]
        assert sum(shares) == pytest.approx(1.0)
