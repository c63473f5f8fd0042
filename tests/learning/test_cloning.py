from dataclasses import replace

import numpy as np
import pytest
import torch

from qi_ext.learning.cloning import clone
from qi_ext.utils.errors import UserError


@pytest.fixture
def linear(demonstrations):
    """Demonstrated states with actions that are a linear map of them, in [-1, 1]."""
    random = np.random.default_rng(0)
    normalized = (demonstrations.states - demonstrations.states.mean(axis=0)) / (demonstrations.states.std(axis=0) + 0.1)
    return replace(demonstrations, actions=0.1 * normalized @ random.standard_normal((37, 12)) / np.sqrt(37.0) + 0.05)


@pytest.fixture
def ready(make_policy, demonstrations):
    """ready(seed=0, hidden=(32,)): a policy that knows the demonstrations' statistics, as an agent's does."""

    def make(seed=0, hidden=(32,)):
        policy = make_policy(hidden, seed=seed)
        policy.normalizer.update(torch.from_numpy(demonstrations.states))
        return policy

    return make


def test_fits_actions_that_are_a_linear_map_of_the_states(ready, linear, small_config):
    policy = ready()
    config = small_config(warm_start_learning_rate=1e-2)
    loss = clone(policy, linear, 20, config, np.random.SeedSequence(0))
    error = np.mean((policy.actor.mean(linear.states) - linear.actions) ** 2)
    assert error < 0.02 * np.var(linear.actions, axis=0).mean()
    assert loss < 0.05 * np.var(linear.actions, axis=0).mean()


def test_sets_the_standard_deviation_of_the_warm_start(ready, linear, small_config):
    policy = ready()
    clone(policy, linear, 1, small_config(warm_start_std=0.08), np.random.SeedSequence(0))
    np.testing.assert_allclose(policy.actor.std, 0.08, rtol=1e-6)


def test_leaves_the_statistics_bit_identical(ready, linear, small_config):
    policy = ready()
    before = [buffer.clone() for buffer in policy.normalizer.buffers()]
    clone(policy, linear, 1, small_config(), np.random.SeedSequence(0))
    assert all(torch.equal(*pair) for pair in zip(before, policy.normalizer.buffers(), strict=True))


def test_the_same_seed_gives_the_same_weights(ready, linear, small_config):
    weights = []
    for seed in (0, 0, 1):
        policy = ready()
        clone(policy, linear, 1, small_config(), np.random.SeedSequence(seed))
        weights.append(policy.get_weights())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_progress_is_told_after_each_epoch(ready, linear, small_config):
    said = []
    loss = clone(ready(), linear, 3, small_config(), np.random.SeedSequence(0), lambda epoch, loss: said.append((epoch, loss)))
    assert [epoch for epoch, _ in said] == [1, 2, 3]
    assert said[-1][1] == loss < said[0][1]


def test_demonstrations_without_actions_are_refused_and_change_nothing(ready, linear, small_config):
    policy = ready()
    before = policy.get_weights()
    with pytest.raises(UserError, match="no actions") as caught:
        clone(policy, replace(linear, actions=None), 1, small_config(), np.random.SeedSequence(0))
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(policy.get_weights(), before)
