"""The benchmarks of learner and loop: the stock contender does what ours does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qi_ext.training.config import make_config
from qi_ext.training.learner import make_learner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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
    np.testing.assert_allclose(stock._V(states).squeeze(-1), values.detach(), atol=1e-5)


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
