"""The benchmarks of learner and loop: the stock contender does what ours does, and their commands run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qi_ext.training.config import make_config
from qi_ext.training.learner import make_learner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASURES = {
    "learner.py": ("update_speedup", "update_speedup_exact", "share_policy", "share_critic", "share_discriminator"),
    "training.py": ("loop_speedup", "share_of_pool", "loop_speedup_scratch", "share_of_pool_scratch"),
}


@pytest.fixture
def stock(hard, monkeypatch):
    """A `StockImitation` of small networks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from stock_learner import StockImitation

    small = {"policy_hidden": [16], "critic_hidden": [16], "discriminator_hidden": [16], "discriminator_batch_size": 32}
    small["symmetry"] = "none"
    config = make_config("hard", **small)
    return StockImitation(make_learner(config, hard.info, hard.demonstrations, np.random.SeedSequence(0)))


def test_the_stock_learner_begins_as_ours_does(stock, hard):
    states = hard.demonstrations.states[:50].astype(np.float32)
    with torch.no_grad():
        ours = stock.ours.policy.distribution_t(torch.from_numpy(states))
    theirs = stock.policy.distribution(states)
    np.testing.assert_allclose(theirs.mean.detach(), ours.mean, atol=1e-5)
    np.testing.assert_allclose(theirs.variance.detach(), ours.variance, rtol=1e-5)
    values = stock.ours.critic.values(torch.from_numpy(states))
    np.testing.assert_allclose(stock._V(states)[:, 0], values.detach(), atol=1e-5)


def test_the_stock_learner_learns_from_the_discriminators_reward_and_fits_it(stock, hard):
    states = hard.demonstrations.states[:129].astype(np.float32)
    actions = np.random.default_rng(0).standard_normal((128, 12)).astype(np.float32)
    dataset = [(states[i], actions[i], 1e6, states[i + 1], False, i == 127) for i in range(128)]
    before, fitted = stock.policy.get_weights(), [weight.clone() for weight in stock.ours.discriminator.parameters()]
    stock.fit(dataset)
    assert not np.array_equal(stock.policy.get_weights(), before)
    assert not any(torch.equal(*pair) for pair in zip(fitted, stock.ours.discriminator.parameters(), strict=True))
    # Returns of a reward of a million would show in the critic.
    assert np.abs(stock._V(states)).max() < 100.0


@pytest.mark.parametrize(
    "script", [pytest.param(script, marks=[pytest.mark.slow] if script == "training.py" else []) for script in MEASURES]
)
def test_a_benchmark_runs_and_writes_its_measures(script, tmp_path):
    path = tmp_path / "measures.json"
    # One thread, because two wait for each other for long where the machine is busy.
    command = [sys.executable, str(BENCHMARKS / script), "--quick", "--threads", "1", "--json", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    measures = json.loads(path.read_text())
    assert measures["rounds"] == 1
    assert all(measures[name] > 0.0 for name in MEASURES[script])
    assert measures["device"] == "cpu"


@pytest.mark.parametrize("script", MEASURES)
def test_a_round_too_few_is_refused_before_anything_is_measured(script):
    command = [sys.executable, str(BENCHMARKS / script), "--rounds", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (2, f"{script}: --rounds: must be at least 1, not 0\n")
