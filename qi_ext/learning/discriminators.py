"""Discriminators of transitions: logits, high for the expert, and the losses that fit them."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from qi_ext.learning.networks import MLP, Normalizer


def imitation_reward(logits):
    """-log(1 - D) = softplus(logit), exact for any logit. Source: Ho and Ermon 2016 (arXiv 1606.03476), D of the expert."""
    return softplus(logits)


def cross_entropy(policy_logits, expert_logits):
    """Mean binary cross entropy of both halves, labels 0 and 1; ln 2 where the logits say nothing."""
    policy = binary_cross_entropy_with_logits(policy_logits, torch.zeros_like(policy_logits))
    expert = binary_cross_entropy_with_logits(expert_logits, torch.ones_like(expert_logits))
    return 0.5 * (policy + expert)


def gradient_penalty(logits, inputs):
    """Mean squared norm of d logit / d input; inputs (n, k) require grad. Source: Mescheder et al. 2018, R1 (1801.04406)."""
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return (gradient**2).sum(dim=-1).mean()


class Discriminator(nn.Module):
    """GAIL's: (state, next state) -> logit."""

    def __init__(self, n_inputs, config, generator):
        """n_inputs: of state and next state together."""
        super().__init__()
        self.config = config
        # A fall is far outside of what the expert does; unclipped, it alone would make the logits.
        self.normalizer = Normalizer(n_inputs, clip=10.0)
        self.network = self._build(n_inputs, generator)

    def _build(self, n_inputs, generator):
        return MLP([n_inputs, *self.config.discriminator_hidden, 1], generator)

    def logits(self, normalized):
        """Logits, (n,), of normalized inputs, (n, k); without any sampling."""
        return self.network(normalized).squeeze(-1)

    def forward(self, transitions):
        """Logits, (n,), of transitions, (n, k)."""
        return self.logits(self.normalizer(transitions))

    def noise(self, n_losses, n, generator):
        """What `loss` samples, drawn on the CPU for so many losses of n transitions, both sides together: one value a loss."""
        return [None] * n_losses

    def loss(self, policy, expert, noise=None):
        """Loss and diagnostics of transitions, (n, k) each. noise: of this loss, from `noise`."""
        policy, expert = self.normalizer(policy), self.normalizer(expert)
        penalized = self.config.gradient_penalty > 0.0
        expert.requires_grad_(penalized)
        loss, policy_logits, expert_logits, diagnostics = self._loss(policy, expert, noise)
        diagnostics |= logit_diagnostics(policy_logits.detach(), expert_logits.detach())
        if penalized:
            penalty = gradient_penalty(expert_logits, expert)
            loss = loss + self.config.gradient_penalty * penalty
            diagnostics["gradient_penalty"] = penalty.detach()
        return loss, diagnostics

    def _loss(self, policy, expert, noise):
        """Loss without penalty, logits of either side without sampling, and diagnostics of the loss."""
        policy_logits, expert_logits = self.logits(policy), self.logits(expert)
        loss = cross_entropy(policy_logits, expert_logits)
        return loss, policy_logits, expert_logits, {"discriminator_loss": loss.detach()}

    def after_step(self):
        """Called after each optimizer step."""


class VariationalDiscriminator(Discriminator):
    """VAIL's: an encoder to a Gaussian code, a linear logit of it, and a bound on the information the code carries.

    Losses sample the code; rewards use its mean. Source: Peng et al. 2019, eq. 7 - 9 (arXiv 1810.00821).
    """

    def _build(self, n_inputs, generator):
        size = self.config.code_size
        self.register_buffer("beta", torch.tensor(float(self.config.initial_beta)))
        self.head = MLP([size, 1], generator)
        return MLP([n_inputs, *self.config.discriminator_hidden, 2 * size], generator, output_gain=0.1)

    def noise(self, n_losses, n, generator):
        drawn = torch.empty(n_losses, n, self.config.code_size).normal_(generator=generator)
        return drawn.to(self.beta.device)

    def logits(self, normalized):
        mean, _ = self.network(normalized).chunk(2, dim=-1)
        return self.head(mean).squeeze(-1)

    def _loss(self, policy, expert, noise):
        n_policy = len(policy)
        mean, log_variance = self.network(torch.cat([policy, expert])).chunk(2, dim=-1)
        sampled = self.head(mean + torch.exp(0.5 * log_variance) * noise).squeeze(-1)
        loss = cross_entropy(sampled[:n_policy], sampled[n_policy:])
        information = kl_to_standard_normal(mean, log_variance).mean()
        excess = information - self.config.information_constraint
        self._excess = excess.detach()
        logits = self.head(mean).squeeze(-1)
        diagnostics = {"discriminator_loss": loss.detach(), "information": information.detach(), "beta": self.beta.clone()}
        return loss + self.beta * excess, logits[:n_policy], logits[n_policy:], diagnostics

    @torch.no_grad()
    def after_step(self):
        """Dual ascent on beta: beta <- max(0, beta + rate (KL - constraint)), eq. 9."""
        self.beta.add_(self.config.beta_learning_rate * self._excess).clamp_(min=0.0)


def kl_to_standard_normal(mean, log_variance):
    """KL(N(mean, exp(log_variance)) || N(0, 1)), (n,), of diagonal Gaussians, (n, k); nats."""
    return 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)


def logit_diagnostics(policy_logits, expert_logits):
    """What a user looks at, tensors: share of each side judged rightly, mean logits, entropy of the judgement in nats."""
    logits = torch.cat([policy_logits, expert_logits])
    return {
        "discriminator_accuracy_policy": (policy_logits < 0).float().mean(),
        "discriminator_accuracy_expert": (expert_logits > 0).float().mean(),
        "logit_policy": policy_logits.mean(),
        "logit_expert": expert_logits.mean(),
        "discriminator_entropy": (softplus(logits) - torch.sigmoid(logits) * logits).mean(),
    }
