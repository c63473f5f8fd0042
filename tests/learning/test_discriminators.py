import math

import pytest
import torch

from qi_ext.learning.discriminators import (
    Discriminator,
    VariationalDiscriminator,
    cross_entropy,
    gradient_penalty,
    imitation_reward,
    kl_to_standard_normal,
    logit_diagnostics,
)

N_INPUTS = 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(n, seed=0, size=N_INPUTS):
    return torch.randn(n, size, generator=seeded(seed))


def build(algorithm, small_config, **settings):
    chosen = {"gail": Discriminator, "vail": VariationalDiscriminator}[algorithm]
    return chosen(N_INPUTS, small_config(algorithm, **settings), seeded())


def loss_of(discriminator, policy, expert, seed=0):
    """Loss and diagnostics, with noise of its own seed."""
    (noise,) = discriminator.noise(1, len(policy) + len(expert), seeded(seed))
    return discriminator.loss(policy, expert, noise)


def fit(discriminator, policy, expert, steps, learning_rate=1e-2):
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=learning_rate)
    generator = seeded(1)
    for noise in discriminator.noise(steps, len(policy) + len(expert), generator):
        loss, diagnostics = discriminator.loss(policy, expert, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        discriminator.after_step()
    return diagnostics


def test_loss_is_ln_2_where_the_logits_say_nothing():
    assert cross_entropy(torch.zeros(5), torch.zeros(9)).item() == pytest.approx(math.log(2.0), rel=1e-6)


def test_loss_is_the_mean_of_both_sides_negative_log_likelihoods():
    policy, expert = draw(4, seed=1)[:, 0].double(), draw(9, seed=2)[:, 0].double()
    expected = 0.5 * (-torch.log(1.0 - torch.sigmoid(policy)).mean() - torch.log(torch.sigmoid(expert)).mean())
    torch.testing.assert_close(cross_entropy(policy, expert), expected, rtol=1e-9, atol=0)


def test_reward_is_minus_log_of_one_minus_the_probability_of_the_expert():
    logits = torch.linspace(-20.0, 20.0, 41, dtype=torch.float64)
    torch.testing.assert_close(imitation_reward(logits), -torch.log1p(-torch.sigmoid(logits)), rtol=1e-6, atol=0)


def test_reward_neither_overflows_nor_saturates():
    rewards = imitation_reward(torch.tensor([100.0, 50.0, -100.0]))
    assert rewards[:2].tolist() == [100.0, 50.0]
    assert 0.0 <= rewards[2] < 1e-30


def test_loss_is_finite_where_the_judgement_is_certain_and_wrong():
    assert cross_entropy(torch.tensor([100.0]), torch.tensor([-100.0])).item() == pytest.approx(100.0)


def test_gradient_penalty_of_a_linear_logit_is_the_squared_norm_of_its_weights():
    weights, inputs = draw(1)[0], draw(20, seed=1).requires_grad_()
    torch.testing.assert_close(gradient_penalty(inputs @ weights + 3.0, inputs), weights @ weights)


def test_gradient_penalty_is_the_mean_over_samples_of_the_squared_slope():
    inputs = draw(20).requires_grad_()
    logits = 0.5 * (inputs**2).sum(dim=-1)
    torch.testing.assert_close(gradient_penalty(logits, inputs), (inputs**2).sum(dim=-1).mean())


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_gradient_penalty_of_the_expert_logits_is_part_of_the_loss(algorithm, small_config):
    policy, expert = draw(8), draw(8, seed=1)
    without = build(algorithm, small_config, gradient_penalty=0.0)
    with_penalty = build(algorithm, small_config, gradient_penalty=2.0)
    inputs = expert.clone().requires_grad_()
    added = 2.0 * gradient_penalty(without.logits(inputs), inputs)
    losses = [loss_of(discriminator, policy, expert)[0] for discriminator in (without, with_penalty)]
    torch.testing.assert_close(losses[1] - losses[0], added, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_logits_become_high_for_the_expert(algorithm, small_config):
    discriminator = build(algorithm, small_config)
    policy, expert = draw(200) - 1.0, draw(200, seed=1) + 1.0
    fit(discriminator, policy, expert, steps=60)
    with torch.no_grad():
        assert discriminator(expert).mean() > 0.5
        assert discriminator(policy).mean() < -0.5


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_loss_and_logits_leave_the_statistics_to_update(algorithm, small_config):
    discriminator = build(algorithm, small_config)
    discriminator.normalizer.update(draw(50))
    before = [buffer.clone() for buffer in discriminator.normalizer.buffers()]
    loss_of(discriminator, draw(8) + 5.0, draw(8) - 5.0)
    discriminator(draw(8) + 9.0)
    assert all(torch.equal(*pair) for pair in zip(before, discriminator.normalizer.buffers(), strict=True))


def test_diagnostics_of_known_logits():
    diagnostics = logit_diagnostics(torch.tensor([-1.0, -3.0, 2.0, -2.0]), torch.tensor([1.0, -1.0]))
    assert diagnostics["discriminator_accuracy_policy"] == 0.75
    assert diagnostics["discriminator_accuracy_expert"] == 0.5
    assert diagnostics["logit_policy"] == -1.0
    assert diagnostics["logit_expert"] == 0.0


def test_the_judgements_entropy_is_ln_2_where_the_logits_say_nothing():
    entropy = logit_diagnostics(torch.zeros(3), torch.zeros(3))["discriminator_entropy"]
    assert entropy.item() == pytest.approx(math.log(2.0), rel=1e-6)


def test_information_is_the_kl_divergence_to_a_standard_normal():
    mean, log_variance = draw(7, seed=1).double(), draw(7, seed=2).double()
    code = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).sum(dim=-1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_a_code_that_is_standard_normal_carries_no_information():
    assert not kl_to_standard_normal(torch.zeros(3, 4), torch.zeros(3, 4)).any()


def test_variational_logits_are_those_of_the_mean_code(small_config):
    discriminator = build("vail", small_config)
    transitions = draw(8)
    with torch.no_grad():
        mean, _ = discriminator.network(transitions).chunk(2, dim=-1)
        torch.testing.assert_close(discriminator(transitions), discriminator.head(mean)[:, 0], rtol=0, atol=0)


def test_variational_logits_draw_no_random_numbers(small_config):
    discriminator = build("vail", small_config)
    transitions = draw(8)
    first = discriminator(transitions)
    torch.rand(1)  # moves the global generator on
    assert torch.equal(discriminator(transitions), first)


def test_variational_loss_is_drawn_from_the_generator_it_is_given(small_config):
    discriminator = build("vail", small_config)
    losses = [loss_of(discriminator, draw(8), draw(8, seed=1), seed)[0].item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_each_variational_loss_has_noise_of_its_own(small_config):
    discriminator = build("vail", small_config)
    first, second = discriminator.noise(2, 16, seeded())
    assert first.shape == second.shape == (16, discriminator.config.code_size)
    assert not torch.equal(first, second)


def test_without_a_code_to_sample_a_loss_draws_nothing(small_config):
    generator = seeded()
    before = generator.get_state()
    assert build("gail", small_config).noise(3, 16, generator) == [None] * 3
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_a_loss_of_given_noise_draws_from_no_generator(algorithm, small_config):
    discriminator = build(algorithm, small_config)
    before = torch.get_rng_state()
    first, second = (loss_of(discriminator, draw(8), draw(8, seed=1))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_beta_rises_by_the_excess_of_information(small_config):
    discriminator = build("vail", small_config, information_constraint=0.0, initial_beta=0.5, beta_learning_rate=0.1)
    _, diagnostics = loss_of(discriminator, draw(8), draw(8, seed=1))
    discriminator.after_step()
    assert diagnostics["information"] > 0.0
    assert discriminator.beta.item() == pytest.approx(0.5 + 0.1 * diagnostics["information"].item(), rel=1e-6)


def test_beta_falls_to_zero_and_not_below(small_config):
    discriminator = build("vail", small_config, information_constraint=100.0, initial_beta=0.5, beta_learning_rate=0.003)
    betas = []
    for _ in range(4):
        loss_of(discriminator, draw(8), draw(8, seed=1))
        discriminator.after_step()
        betas.append(discriminator.beta.item())
    assert 0.0 < betas[0] < 0.5
    assert betas[-2:] == [0.0, 0.0]


def test_the_bottleneck_holds_the_information_at_its_constraint(small_config):
    discriminator = build("vail", small_config, information_constraint=0.2, initial_beta=0.1, beta_learning_rate=0.1)
    diagnostics = fit(discriminator, draw(200) - 1.0, draw(200, seed=1) + 1.0, steps=300)
    assert diagnostics["information"].item() == pytest.approx(0.2, abs=0.1)
