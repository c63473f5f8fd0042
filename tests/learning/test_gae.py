import numpy as np
import pytest
import torch
from mushroom_rl.utils.value_functions import compute_gae

from qi_ext.learning import gae

GAMMA, LAMBDA = 0.9, 0.8


def generalized_advantages(*columns, gamma=GAMMA, lam=LAMBDA):
    return gae.generalized_advantages(*map(torch.from_numpy, columns), gamma, lam).numpy()


def one_episode(length, seed=0):
    """Rewards, values, next values and flags of one episode that the time limit ends."""
    random = np.random.default_rng(seed)
    along = random.standard_normal(length + 1)
    last = np.zeros(length)
    last[-1] = 1.0
    return random.standard_normal(length), along[:-1], along[1:], np.zeros(length), last


def test_three_steps_by_hand():
    columns = [np.array(column) for column in ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [5.0, 6.0, 7.0], [0.0] * 3, [0.0, 0.0, 1.0])]
    # delta = 1 + 2.5 - 4, 2 + 3 - 5, 3 + 3.5 - 6, each carrying a quarter of what follows.
    advantages = generalized_advantages(*columns, gamma=0.5, lam=0.5)
    np.testing.assert_allclose(advantages, [-0.5 + 0.25 * 0.125, 0.0 + 0.25 * 0.5, 0.5], rtol=1e-12)


def test_constant_reward_and_value_give_each_env_the_geometric_sum_of_its_own():
    rewards = np.array([0.0, 1.5, -100.0])
    grid, last = np.ones((3, 7)), np.zeros((3, 7))
    last[:, -1] = 1.0
    advantages = generalized_advantages(rewards[:, None] * grid, 2.0 * grid, 2.0 * grid, 0.0 * grid, last)
    ratio, steps_left = GAMMA * LAMBDA, 7 - np.arange(7)
    expected = np.outer(rewards + GAMMA * 2.0 - 2.0, (1.0 - ratio**steps_left) / (1.0 - ratio))
    np.testing.assert_allclose(advantages, expected, rtol=1e-12)


def test_lambda_zero_is_the_td_error_and_lambda_one_the_monte_carlo_return_less_the_value():
    rewards, values, next_values, _, _ = columns = one_episode(6)
    np.testing.assert_allclose(generalized_advantages(*columns, lam=0.0), rewards + GAMMA * next_values - values, rtol=1e-12)
    returns = [sum(GAMMA ** (k - t) * rewards[k] for k in range(t, 6)) + GAMMA ** (6 - t) * next_values[-1] for t in range(6)]
    np.testing.assert_allclose(generalized_advantages(*columns, lam=1.0), returns - values, rtol=1e-12)


def test_an_absorbing_state_has_no_value_and_a_time_limit_bootstraps_from_the_state_it_reached():
    one = np.ones(1)
    np.testing.assert_allclose(generalized_advantages(2.0 * one, 3.0 * one, 10.0 * one, one, one), [2.0 - 3.0])
    np.testing.assert_allclose(generalized_advantages(2.0 * one, 3.0 * one, 10.0 * one, 0.0 * one, one), [2.0 + 9.0 - 3.0])


def test_episodes_laid_end_to_end_do_not_leak_into_each_other():
    episodes = [one_episode(length, seed=length) for length in (5, 1, 4)]
    together = generalized_advantages(*(np.concatenate(column) for column in zip(*episodes, strict=True)))
    np.testing.assert_array_equal(together, np.concatenate([generalized_advantages(*episode) for episode in episodes]))


def test_leading_axes_are_independent_and_inputs_are_left_alone():
    envs = [one_episode(5, seed=i) for i in range(6)]
    stacked = [np.stack(column).reshape(2, 3, 5) for column in zip(*envs, strict=True)]
    before = [column.copy() for column in stacked]
    together = generalized_advantages(*stacked)
    np.testing.assert_array_equal(together.reshape(6, 5), [generalized_advantages(*env) for env in envs])
    np.testing.assert_array_equal(stacked, before)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_mushroom_rl(seed):
    random = np.random.default_rng(seed)
    rewards, values, next_values = random.standard_normal((3, 50))
    last = random.random(50) < 0.2
    absorbing = last & (random.random(50) < 0.5)
    _, expected = compute_gae(lambda value: value, values, next_values, rewards, absorbing, last, GAMMA, LAMBDA)
    advantages = generalized_advantages(rewards, values, next_values, absorbing.astype(float), last.astype(float))
    np.testing.assert_allclose(advantages, expected, rtol=1e-12, atol=1e-12)
