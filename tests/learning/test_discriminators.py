import math

import numpy as np
import pytest
import torch

from qi_ext.learning import GAIL, VAIL, Discriminator, Loss, Transitions
from qi_ext.learning.discriminators import (
    cross_entropy,
    gradient_penalty,
    imitation_reward,
    kl_to_standard_normal,
    logit_diagnostics,
)

N_INPUTS = 6
BOTTLENECK = {"information_constraint": 0.5, "code_size": 8, "initial_beta": 0.1, "beta_learning_rate": 1e-2}
both = pytest.mark.parametrize("algorithm", [GAIL, VAIL])


def draw(n, seed=0, size=N_INPUTS):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed))


def transitions(observations):
    return Transitions(observations, observations, None)


def build(algorithm, expert=None, **settings):
    """A discriminator of N_INPUTS features of the state, its expert around 1."""
    expert = 1.0 + draw(200, seed=1) if expert is None else expert
    given = {"features": lambda seen: seen.observations, "hidden": [16], "learning_rate": 1e-2, "updates": 60}
    given |= {"batch_size": 200, "gradient_penalty": 0.2} | (BOTTLENECK if algorithm is VAIL else {}) | settings
    return algorithm(transitions(expert), np.random.SeedSequence(0), np.random.default_rng(0), **given)


def loss_of(discriminator, policy, expert):
    (noise,) = discriminator.draw_noise(1, len(policy) + len(expert))
    return discriminator.penalized_loss(policy.clone(), expert.clone(), noise)


def logits(discriminator, observations):
    with torch.no_grad():
        return discriminator.logits_expert_is_high(discriminator.normalizer(observations))


# Closed forms


def test_cross_entropy_is_the_mean_of_both_sides_negative_log_likelihoods():
    assert cross_entropy(torch.zeros(5), torch.zeros(9)).item() == pytest.approx(math.log(2.0), rel=1e-6)
    assert cross_entropy(torch.tensor([100.0]), torch.tensor([-100.0])).item() == pytest.approx(100.0)
    policy, expert = draw(4, seed=1)[:, 0].double(), draw(9, seed=2)[:, 0].double()
    expected = 0.5 * (-torch.log(1.0 - torch.sigmoid(policy)).mean() - torch.log(torch.sigmoid(expert)).mean())
    torch.testing.assert_close(cross_entropy(policy, expert), expected, rtol=1e-9, atol=0)


def test_reward_is_minus_log_of_one_minus_the_probability_of_the_expert_and_never_overflows():
    logits = torch.linspace(-20.0, 20.0, 41, dtype=torch.float64)
    torch.testing.assert_close(imitation_reward(logits), -torch.log1p(-torch.sigmoid(logits)), rtol=1e-6, atol=0)
    # As the reward of a discriminator to which the expert is e^2 times as likely as before.
    torch.testing.assert_close(
        imitation_reward(logits, 2.0), torch.log1p(math.exp(2.0) * torch.exp(logits)), rtol=1e-6, atol=1e-12
    )
    far = imitation_reward(torch.tensor([100.0, 50.0, -100.0]))
    assert far[:2].tolist() == [100.0, 50.0]
    assert 0.0 <= far[2] < 1e-30


def test_gradient_penalty_is_the_mean_over_samples_of_the_squared_slope():
    inputs, weights = draw(20).requires_grad_(), draw(1, seed=1)[0]
    torch.testing.assert_close(gradient_penalty(inputs @ weights + 3.0, inputs), weights @ weights)
    torch.testing.assert_close(gradient_penalty(0.5 * (inputs**2).sum(dim=-1), inputs), (inputs**2).sum(dim=-1).mean())


def test_diagnostics_of_known_logits():
    diagnostics = logit_diagnostics(torch.tensor([-1.0, -3.0, 2.0, -2.0]), torch.tensor([1.0, -1.0]))
    assert [float(value) for value in diagnostics.values()][:4] == [0.75, 0.5, -1.0, 0.0]
    entropy = logit_diagnostics(torch.zeros(3), torch.zeros(3))["discriminator_entropy"]
    assert entropy.item() == pytest.approx(math.log(2.0), rel=1e-6)


def test_information_is_the_kl_divergence_to_a_standard_normal():
    mean, log_variance = draw(7, seed=1).double(), draw(7, seed=2).double()
    code = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).sum(dim=-1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
    assert not kl_to_standard_normal(torch.zeros(3, 4), torch.zeros(3, 4)).any()


# GAIL and VAIL


@both
def test_the_penalty_on_the_expert_logits_is_part_of_the_loss(algorithm):
    policy, expert = draw(8), draw(8, seed=1)
    without, penalized = (build(algorithm, gradient_penalty=weight) for weight in (0.0, 2.0))
    inputs = expert.clone().requires_grad_()
    added = 2.0 * gradient_penalty(without.logits_expert_is_high(inputs), inputs)
    losses = [loss_of(discriminator, policy, expert)[0] for discriminator in (without, penalized)]
    torch.testing.assert_close(losses[1] - losses[0], added, rtol=1e-3, atol=1e-6)


@both
def test_a_fit_makes_logits_and_rewards_high_for_the_expert(algorithm):
    discriminator, policy = build(algorithm, reward_offset=0.5), draw(200) - 1.0
    diagnostics = discriminator.fit(transitions(policy))
    assert logits(discriminator, discriminator.expert).mean() > 0.5
    assert logits(discriminator, policy).mean() < -0.5
    expected = imitation_reward(logits(discriminator, policy), 0.5)
    assert torch.equal(discriminator.rewards(transitions(policy)), expected)
    assert diagnostics["discriminator_accuracy_expert"] > 0.7 and diagnostics["discriminator_accuracy_policy"] > 0.7


@both
def test_a_fit_counts_each_policy_row_and_as_many_of_the_experts_once_and_nothing_else_changes_the_statistics(algorithm):
    discriminator = build(algorithm, updates=3, batch_size=32)
    assert discriminator.normalizer.count == 200
    torch.testing.assert_close(discriminator.normalizer.mean, discriminator.expert.double().mean(dim=0))
    before = [buffer.clone() for buffer in discriminator.normalizer.buffers()]
    loss_of(discriminator, draw(8) + 5.0, draw(8) - 5.0)
    discriminator.rewards(transitions(draw(8) + 9.0))
    assert all(torch.equal(*pair) for pair in zip(before, discriminator.normalizer.buffers(), strict=True))
    discriminator.fit(transitions(draw(50)))
    assert discriminator.normalizer.count == 300


@both
def test_without_updates_a_fit_changes_the_statistics_alone(algorithm):
    discriminator = build(algorithm, updates=0)
    weights = [parameter.clone() for parameter in discriminator.parameters()]
    assert discriminator.fit(transitions(draw(50))) == {}
    assert all(torch.equal(*pair) for pair in zip(weights, discriminator.parameters(), strict=True))


def test_variational_logits_are_those_of_the_mean_code_and_draw_nothing():
    discriminator, inputs = build(VAIL), draw(8)
    before = discriminator.torch_generator.get_state(), torch.get_rng_state()
    with torch.no_grad():
        mean, _ = discriminator.network(inputs).chunk(2, dim=-1)
        assert torch.equal(discriminator.logits_expert_is_high(inputs), discriminator.head(mean)[:, 0])
    after = discriminator.torch_generator.get_state(), torch.get_rng_state()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_noise_is_drawn_from_the_discriminators_own_generator_for_each_loss_and_by_vail_alone():
    one, other, gail = build(VAIL), build(VAIL), build(GAIL)
    first, second = one.draw_noise(2, 16)
    assert first.shape == (16, 8) and not torch.equal(first, second)
    assert torch.equal(other.draw_noise(2, 16)[1], second)
    before = gail.torch_generator.get_state()
    assert gail.draw_noise(3, 16) == [None] * 3
    assert torch.equal(gail.torch_generator.get_state(), before)


def test_beta_rises_by_the_excess_of_information_and_falls_to_zero_and_not_below():
    rising = build(VAIL, information_constraint=0.0, initial_beta=0.5, beta_learning_rate=0.1)
    _, diagnostics = loss_of(rising, draw(8), draw(8, seed=1))
    rising.after_step()
    assert diagnostics["information"] > 0.0
    assert rising.beta.item() == pytest.approx(0.5 + 0.1 * diagnostics["information"].item(), rel=1e-6)
    falling, betas = build(VAIL, information_constraint=100.0, initial_beta=0.5, beta_learning_rate=0.003), []
    for _ in range(4):
        loss_of(falling, draw(8), draw(8, seed=1))
        falling.after_step()
        betas.append(falling.beta.item())
    assert 0.0 < betas[0] < 0.5
    assert betas[-2:] == [0.0, 0.0]


def test_the_bottleneck_holds_the_information_at_its_constraint():
    discriminator = build(VAIL, information_constraint=0.2, beta_learning_rate=0.1, updates=300)
    discriminator.fit(transitions(draw(200) - 1.0))
    _, diagnostics = loss_of(discriminator, *map(discriminator.normalizer, (draw(200) - 1.0, discriminator.expert)))
    assert diagnostics["information"].item() == pytest.approx(0.2, abs=0.1)


# One from outside


class LeastSquares(Discriminator):
    """Sees two features, pays max(0, 1 - (logit - 1)^2 / 4). Source: Peng et al. 2021, eq. 6 - 7 (arXiv 2104.02180)."""

    def sees(self, transitions):
        return transitions.observations[:, :2]

    def loss(self, policy_inputs, expert_inputs, noise):
        policy_logits, expert_logits = map(self.logits_expert_is_high, (policy_inputs, expert_inputs))
        return Loss(((policy_logits + 1.0) ** 2).mean() + ((expert_logits - 1.0) ** 2).mean(), policy_logits, expert_logits)

    def reward(self, inputs):
        return (1.0 - 0.25 * (self.logits_expert_is_high(inputs) - 1.0) ** 2).clamp_min(0.0)


def test_a_subclass_says_what_it_sees_its_loss_and_its_reward():
    discriminator, policy = build(LeastSquares, features=None), draw(200) - 1.0
    assert discriminator.expert.shape == (200, 2)
    diagnostics = discriminator.fit(transitions(policy))
    paid, expert = (
        discriminator.rewards(transitions(policy)),
        discriminator.reward(discriminator.normalizer(discriminator.expert)),
    )
    assert paid.mean() < 0.4 < 0.6 < expert.mean() <= 1.0
    assert {"discriminator_loss", "gradient_penalty", "logit_expert"} <= diagnostics.keys()
