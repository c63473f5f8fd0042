from dataclasses import replace

import numpy as np
import pytest
import torch

from qi_ext.learning.cloning import clone
from qi_ext.training.learner import warm_start
from qi_ext.utils.errors import UserError

SETTINGS = {"std": 0.08, "learning_rate": 1e-2, "nominal_weight": 0.25, "batch_size": 256}


@pytest.fixture
def linear(demonstrations):
    """Demonstrated states with actions that are a linear map of them, in [-1, 1]."""
    random = np.random.default_rng(0)
    normalized = (demonstrations.states - demonstrations.states.mean(axis=0)) / (demonstrations.states.std(axis=0) + 0.1)
    return replace(demonstrations, actions=0.1 * normalized @ random.standard_normal((37, 12)) / np.sqrt(37.0) + 0.05)


@pytest.fixture
def make_ready(make_policy, demonstrations):
    """make_ready(): a policy that knows the demonstrations' statistics, as a learner's does."""

    def make():
        policy = make_policy((32,))
        policy.normalizer.update(torch.from_numpy(demonstrations.states))
        return policy

    return make


def test_fits_a_linear_map_sets_the_standard_deviation_and_leaves_the_statistics(make_ready, linear):
    policy, said = make_ready(), []
    before = [buffer.clone() for buffer in policy.normalizer.buffers()]
    seed = np.random.SeedSequence(0)
    loss = clone(policy, linear, 20, seed, **SETTINGS, progress=lambda epoch, loss: said.append((epoch, loss)))
    error, variance = np.mean((policy.actor.mean(linear.states) - linear.actions) ** 2), np.var(linear.actions, axis=0).mean()
    assert error < 0.02 * variance
    assert said[-1][1] == loss < 0.05 * variance
    assert [epoch for epoch, _ in said] == list(range(1, 21))
    np.testing.assert_allclose(policy.actor.std, 0.08, rtol=1e-6)
    assert policy.max_std == pytest.approx(0.08)
    assert all(torch.equal(*pair) for pair in zip(before, policy.normalizer.buffers(), strict=True))


def test_the_weights_follow_from_the_seed_and_the_configs_settings(make_ready, linear, small_config):
    weights = []
    for seed, rate in ((0, 1e-2), (0, 1e-2), (1, 1e-2), (0, 1e-3)):
        policy = make_ready()
        warm_start(small_config(warm_start=1, warm_start_learning_rate=rate), policy, linear, np.random.SeedSequence(seed))
        weights.append(policy.get_weights().tobytes())
    assert weights[0] == weights[1]
    assert len(set(weights)) == 3


def test_demonstrations_without_actions_are_refused_and_change_nothing(make_ready, linear):
    policy = make_ready()
    before = policy.get_weights()
    with pytest.raises(UserError, match="no actions") as caught:
        clone(policy, replace(linear, actions=None), 1, np.random.SeedSequence(0), **SETTINGS)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(policy.get_weights(), before)
