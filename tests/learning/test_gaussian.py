import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from qi_ext.learning.gaussian import entropy, log_probability, mean_kl


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def diagonal_gaussian(mean, log_std):
    return Independent(Normal(mean, log_std.exp()), 1)


def test_all_three_are_torchs_own():
    actions, old, new = draw(9, 3), (draw(9, 3, seed=1), draw(3, seed=2)), (draw(9, 3, seed=3), draw(3, seed=4))
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(log_probability(actions, *old), diagonal_gaussian(*old).log_prob(actions), **close)
    torch.testing.assert_close(entropy(old[1]), diagonal_gaussian(*old).entropy()[0], **close)
    expected = kl_divergence(diagonal_gaussian(*old), diagonal_gaussian(*new)).mean()
    torch.testing.assert_close(mean_kl(*old, *new), expected, **close)


def test_mean_kl_of_one_std_apart_is_half_a_nat_an_action_and_of_none_nothing():
    mean, log_std = draw(9, 3), torch.full((3,), math.log(0.2), dtype=torch.float64)
    assert mean_kl(mean, log_std, mean + 0.2, log_std).item() == pytest.approx(1.5, rel=1e-12)
    assert mean_kl(mean, log_std, mean, log_std).item() == pytest.approx(0.0, abs=1e-15)


def test_entropy_of_one_action_in_closed_form():
    assert entropy(torch.tensor([math.log(0.3)])).item() == pytest.approx(0.5 * math.log(2.0 * math.pi * math.e * 0.09))
