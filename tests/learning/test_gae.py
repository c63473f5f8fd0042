import numpy as np
import pytest
import torch
from mushroom_rl.utils.value_functions import compute_gae

from qi_ext.learning import gae

GAMMA, LAMBDA = 0.9, 0.8


def generalized_advantages(*columns_and_settings):
    """The learner's, of numpy arrays; the last two are gamma and lambda."""
    *columns, gamma, lam = columns_and_settings
    return gae.generalized_advantages(*map(torch.from_numpy, columns), gamma, lam).numpy()


def recursion(rewards, values, next_values, absorbing, last, gamma, lam):
    """A_t = delta_t + gamma lambda (1 - last_t) A_{t+1}, one step after the other, of (lanes, time)."""
    advantages, following = np.zeros_like(rewards), np.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * (1.0 - absorbing[:, t]) * next_values[:, t] - values[:, t]
        advantages[:, t] = following = delta + gamma * lam * (1.0 - last[:, t]) * following
    return advantages


def one_episode(length, seed=0):
    """Rewards, values, next values and flags of one episode that the time limit ends."""
    random = np.random.default_rng(seed)
    along = random.standard_normal(length + 1)
    last = np.zeros(length)
    last[-1] = 1.0
    return random.standard_normal(length), along[:-1], along[1:], np.zeros(length), last


def test_three_steps_by_hand():
    advantages = generalized_advantages(
        np.array([1.0, 2.0, 3.0]),
        np.array([4.0, 5.0, 6.0]),
        np.array([5.0, 6.0, 7.0]),
        np.zeros(3),
        np.array([0, 0, 1.0]),
        0.5,
        0.5,
    )
    # delta = 1 + 2.5 - 4, 2 + 3 - 5, 3 + 3.5 - 6, each carrying a quarter of what follows.
    np.testing.assert_allclose(advantages, [-0.5 + 0.25 * 0.125, 0.0 + 0.25 * 0.5, 0.5], rtol=1e-12)


def test_constant_reward_and_value_give_the_geometric_sum():
    length, reward, value = 7, 1.5, 2.0
    constant = np.ones(length)
    advantages = generalized_advantages(
        reward * constant, value * constant, value * constant, 0 * constant, 0 * constant, GAMMA, LAMBDA
    )
    delta, ratio = reward + GAMMA * value - value, GAMMA * LAMBDA
    steps_left = length - np.arange(length)
    np.testing.assert_allclose(advantages, delta * (1.0 - ratio**steps_left) / (1.0 - ratio), rtol=1e-12)


def test_each_lane_has_the_geometric_sum_of_its_own():
    rewards = np.array([0.0, 1.5, -100.0])
    grid = np.ones((3, 7))
    last = np.zeros((3, 7))
    last[:, -1] = 1.0
    value = 2.0 * grid
    advantages = generalized_advantages(rewards[:, None] * grid, value, value, 0 * grid, last, GAMMA, LAMBDA)
    ratio, steps_left = GAMMA * LAMBDA, 7 - np.arange(7)
    expected = np.outer(rewards + GAMMA * 2.0 - 2.0, (1.0 - ratio**steps_left) / (1.0 - ratio))
    np.testing.assert_allclose(advantages, expected, rtol=1e-12)


def test_lambda_zero_is_the_td_error():
    rewards, values, next_values, absorbing, last = one_episode(6)
    advantages = generalized_advantages(rewards, values, next_values, absorbing, last, GAMMA, 0.0)
    np.testing.assert_allclose(advantages, rewards + GAMMA * next_values - values, rtol=1e-12)


def test_lambda_one_is_the_monte_carlo_return_less_the_value():
    rewards, values, next_values, absorbing, last = one_episode(6)
    advantages = generalized_advantages(rewards, values, next_values, absorbing, last, GAMMA, 1.0)
    returns = [sum(GAMMA ** (k - t) * rewards[k] for k in range(t, 6)) + GAMMA ** (6 - t) * next_values[-1] for t in range(6)]
    np.testing.assert_allclose(advantages, returns - values, rtol=1e-12)


def test_an_absorbing_state_has_no_value():
    one = np.ones(1)
    advantages = generalized_advantages(2.0 * one, 3.0 * one, 1e6 * one, one, one, GAMMA, LAMBDA)
    np.testing.assert_allclose(advantages, [2.0 - 3.0])


def test_a_time_limit_bootstraps_from_the_state_it_reached():
    one = np.ones(1)
    advantages = generalized_advantages(2.0 * one, 3.0 * one, 10.0 * one, 0.0 * one, one, GAMMA, LAMBDA)
    np.testing.assert_allclose(advantages, [2.0 + GAMMA * 10.0 - 3.0])


def test_episodes_laid_end_to_end_do_not_leak_into_each_other():
    episodes = [one_episode(length, seed=length) for length in (5, 1, 4)]
    together = generalized_advantages(*(np.concatenate(column) for column in zip(*episodes, strict=True)), GAMMA, LAMBDA)
    apart = [generalized_advantages(*episode, GAMMA, LAMBDA) for episode in episodes]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_leading_axes_are_independent_lanes():
    lanes = [one_episode(5, seed=i) for i in range(6)]
    stacked = [np.stack(column).reshape(2, 3, 5) for column in zip(*lanes, strict=True)]
    together = generalized_advantages(*stacked, GAMMA, LAMBDA)
    apart = np.stack([generalized_advantages(*lane, GAMMA, LAMBDA) for lane in lanes])
    np.testing.assert_array_equal(together.reshape(6, 5), apart)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_mushroom_rl(seed):
    random = np.random.default_rng(seed)
    rewards, values, next_values = random.standard_normal((3, 50))
    last = random.random(50) < 0.2
    absorbing = last & (random.random(50) < 0.5)
    _, expected = compute_gae(lambda value: value, values, next_values, rewards, absorbing, last, GAMMA, LAMBDA)
    advantages = generalized_advantages(
        rewards, values, next_values, absorbing.astype(float), last.astype(float), GAMMA, LAMBDA
    )
    np.testing.assert_allclose(advantages, expected, rtol=1e-12, atol=1e-12)


def test_float32_stays_float32():
    inputs = [column.astype(np.float32) for column in one_episode(5)]
    assert generalized_advantages(*inputs, GAMMA, LAMBDA).dtype == np.float32


@pytest.mark.parametrize("length", range(1, 41))
def test_doubling_gives_what_the_recursion_gives(length):
    random = np.random.default_rng(length)
    for share_of_ends in (0.0, 0.1, 0.5, 1.0):
        rewards, values, next_values = random.standard_normal((3, 5, length))
        last = (random.random((5, length)) < share_of_ends).astype(float)
        absorbing = last * (random.random((5, length)) < 0.5)
        columns = (rewards, values, next_values, absorbing, last)
        np.testing.assert_allclose(
            generalized_advantages(*columns, 0.99, 0.97), recursion(*columns, 0.99, 0.97), rtol=1e-12, atol=1e-12
        )


def test_a_lane_does_not_change_what_lies_beside_it():
    lanes = [np.stack(column) for column in zip(*(one_episode(13, seed=i) for i in range(3)), strict=True)]
    before = generalized_advantages(*lanes, GAMMA, LAMBDA)
    rewards, values, *rest = lanes
    rewards[1] += 1e9
    values[1] -= 1e9
    after = generalized_advantages(rewards, values, *rest, GAMMA, LAMBDA)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).all()


def test_the_inputs_are_left_alone():
    columns = one_episode(9)
    before = [column.copy() for column in columns]
    generalized_advantages(*columns, GAMMA, LAMBDA)
    for column, expected in zip(columns, before, strict=True):
        np.testing.assert_array_equal(column, expected)
