"""Discriminators of transitions: what each sees, its loss and its reward. Logits are high for the expert."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from qi_ext.learning.networks import MLP, Normalizer, adam, seeded_generator
from qi_ext.learning.transitions import Features, Transitions

__all__ = ["GAIL", "VAIL", "Discriminator", "Loss"]


class Loss(NamedTuple):
    """Loss of one minibatch: a scalar tensor, logits of either side without noise, (n,), and more {name: scalar tensor}."""

    value: torch.Tensor
    policy_logits: torch.Tensor
    expert_logits: torch.Tensor
    diagnostics: dict = {}  # noqa: RUF012 (never written to)


class Discriminator(nn.Module, ABC):
    """A network that tells the expert's transitions from the policy's, and pays the policy for what looks like the expert's.

    A subclass defines `loss` and `reward`, and may define `sees`, `make_network`, `logits_expert_is_high`, `draw_noise` and
    `after_step` anew. Inputs are normalized wherever a method takes them.
    """

    def __init__(
        self,
        expert: Transitions,
        seed: np.random.SeedSequence,
        generator: np.random.Generator,
        *,
        features: Features,
        hidden: Sequence[int],
        learning_rate: float,
        updates: int,
        batch_size: int,
        gradient_penalty: float = 0.0,
        reward_offset: float = 0.0,
    ) -> None:
        """expert: `Transitions` of the demonstrations, on the device to learn on. features: a function, see `sees`.

        seed: `numpy.random.SeedSequence` for weights and noise. generator: numpy's, draws the rows of minibatches.
        hidden: sizes of hidden layers. updates: minibatches a `fit`, each of batch_size rows of either side.
        gradient_penalty: weight of the mean of |d logit / d input|^2 over expert rows. reward_offset: as in `imitation_reward`.
        """
        super().__init__()
        self.features, self.updates, self.batch_size = features, updates, batch_size
        self.gradient_penalty, self.reward_offset = gradient_penalty, reward_offset
        self.generator, self.torch_generator = generator, seeded_generator(seed)
        self.expert = self.sees(expert)
        n_inputs = self.expert.shape[1]
        # A fall is far outside of what the expert does; unclipped, it alone would make the logits.
        self.normalizer = Normalizer(n_inputs, clip=10.0)
        self.network = self.make_network(n_inputs, hidden)
        self.to(self.expert.device)
        self.optimizer = adam(self, learning_rate)
        self.normalizer.update(self.expert)

    def sees(self, transitions: Transitions) -> torch.Tensor:
        """Return the inputs, (n, k), not normalized, that `Transitions` become."""
        return self.features(transitions)

    def make_network(self, n_inputs: int, hidden: Sequence[int]) -> nn.Module:
        """Return the module that `logits_expert_is_high` asks, its weights drawn from `torch_generator`."""
        return MLP([n_inputs, *hidden, 1], self.torch_generator)

    def logits_expert_is_high(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits, (n,), of inputs, (n, k), without noise."""
        return self.network(inputs).squeeze(-1)

    @abstractmethod
    def loss(self, policy_inputs: torch.Tensor, expert_inputs: torch.Tensor, noise: Any) -> Loss:
        """Return the `Loss` of a minibatch, without the gradient penalty; inputs (n, k) each, noise as `draw_noise` gave it."""

    @abstractmethod
    def reward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the rewards, (n,), of inputs, (n, k); must draw nothing at random."""

    def draw_noise(self, n_losses: int, n: int) -> Sequence[Any] | torch.Tensor:
        """Return one value for each of n_losses calls of `loss` with n inputs, both sides together; here None each.

        Drawn from `torch_generator`, on the CPU, so that it is the same on any device.
        """
        return [None] * n_losses

    def after_step(self) -> None:
        """Do what follows an optimizer step; here nothing."""

    @torch.no_grad()
    def rewards(self, transitions: Transitions) -> torch.Tensor:
        """Return the rewards, (n,), of `Transitions`."""
        return self.reward(self.normalizer(self.sees(transitions)))

    def penalized_loss(
        self, policy_inputs: torch.Tensor, expert_inputs: torch.Tensor, noise: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss with the gradient penalty, a scalar tensor, and diagnostics, {name: scalar tensor}."""
        penalized = self.gradient_penalty > 0.0
        expert_inputs.requires_grad_(penalized)
        total, policy_logits, expert_logits, diagnostics = self.loss(policy_inputs, expert_inputs, noise)
        diagnostics = {"discriminator_loss": total.detach()} | diagnostics
        diagnostics |= logit_diagnostics(policy_logits.detach(), expert_logits.detach())
        if penalized:
            penalty = gradient_penalty(expert_logits, expert_inputs)
            total = total + self.gradient_penalty * penalty
            diagnostics["gradient_penalty"] = penalty.detach()
        return total, diagnostics

    def fit(self, transitions: Transitions) -> dict[str, torch.Tensor]:
        """Update the statistics, then fit to the policy's `Transitions` against the expert's.

        Returns diagnostics averaged over the updates, {name: scalar tensor}.
        """
        seen = self.sees(transitions)
        n, n_expert = len(seen), len(self.expert)
        size = min(self.batch_size, n)
        # All that is drawn goes up together: n expert rows for the statistics, then rows of either side for each update.
        drawn = [self.generator.integers(n_expert, size=n)]
        for _ in range(self.updates):
            drawn += [self.generator.permutation(n)[:size], self.generator.integers(n_expert, size=size)]
        counted, *rows = torch.from_numpy(np.concatenate(drawn)).to(seen.device).split([n, *[size] * (2 * self.updates)])
        self.normalizer.update(torch.cat([seen, self.expert[counted]]))
        noises = self.draw_noise(self.updates, 2 * size)
        means: dict[str, torch.Tensor] = {}
        for of_policy, of_expert, noise in zip(rows[::2], rows[1::2], noises, strict=True):
            inputs = self.normalizer(seen[of_policy]), self.normalizer(self.expert[of_expert])
            total, diagnostics = self.penalized_loss(*inputs, noise)
            self.optimizer.zero_grad()
            total.backward()
            self.optimizer.step()
            self.after_step()
            for name, value in diagnostics.items():
                means[name] = means.get(name, 0.0) + value / self.updates
        return means


class GAIL(Discriminator):
    """Cross entropy, and the reward -log(1 - D).

    Source: Ho and Ermon 2016 (arXiv 1606.03476); from states only, Torabi et al. 2018 (arXiv 1807.06158).
    """

    def loss(self, policy_inputs: torch.Tensor, expert_inputs: torch.Tensor, noise: Any) -> Loss:
        policy_logits, expert_logits = map(self.logits_expert_is_high, (policy_inputs, expert_inputs))
        return Loss(cross_entropy(policy_logits, expert_logits), policy_logits, expert_logits)

    def reward(self, inputs: torch.Tensor) -> torch.Tensor:
        return imitation_reward(self.logits_expert_is_high(inputs), self.reward_offset)


class VAIL(GAIL):
    """GAIL through a bottleneck: an encoder to a Gaussian code, a linear logit of it, a bound on the code's information.

    Losses sample the code; rewards use its mean. Source: Peng et al. 2019, eq. 7 - 9 (arXiv 1810.00821).
    """

    beta: torch.Tensor

    def __init__(
        self,
        expert: Transitions,
        seed: np.random.SeedSequence,
        generator: np.random.Generator,
        *,
        information_constraint: float,
        code_size: int,
        initial_beta: float,
        beta_learning_rate: float,
        **settings: Any,
    ) -> None:
        """information_constraint: bound on the mean information, nats. code_size: of the code.

        initial_beta: first weight of the bound; beta_learning_rate: step of its dual ascent. The rest: as `Discriminator`.
        """
        self.code_size, self.information_constraint = code_size, information_constraint  # before `make_network` asks
        self.beta_learning_rate = beta_learning_rate
        super().__init__(expert, seed, generator, **settings)
        self.register_buffer("beta", torch.tensor(float(initial_beta), device=self.expert.device))

    def make_network(self, n_inputs: int, hidden: Sequence[int]) -> nn.Module:
        self.head = MLP([self.code_size, 1], self.torch_generator)
        return MLP([n_inputs, *hidden, 2 * self.code_size], self.torch_generator, output_gain=0.1)

    def draw_noise(self, n_losses: int, n: int) -> torch.Tensor:
        drawn = torch.empty(n_losses, n, self.code_size).normal_(generator=self.torch_generator)
        return drawn.to(self.beta.device)

    def logits_expert_is_high(self, inputs: torch.Tensor) -> torch.Tensor:
        mean, _ = self.network(inputs).chunk(2, dim=-1)
        return self.head(mean).squeeze(-1)

    def loss(self, policy_inputs: torch.Tensor, expert_inputs: torch.Tensor, noise: Any) -> Loss:
        n_policy = len(policy_inputs)
        mean, log_variance = self.network(torch.cat([policy_inputs, expert_inputs])).chunk(2, dim=-1)
        sampled = self.head(mean + torch.exp(0.5 * log_variance) * noise).squeeze(-1)
        loss = cross_entropy(sampled[:n_policy], sampled[n_policy:])
        information = kl_to_standard_normal(mean, log_variance).mean()
        excess = information - self.information_constraint
        self._excess = excess.detach()
        logits = self.head(mean).squeeze(-1)
        diagnostics = {"discriminator_loss": loss.detach(), "information": information.detach(), "beta": self.beta.clone()}
        return Loss(loss + self.beta * excess, logits[:n_policy], logits[n_policy:], diagnostics)

    @torch.no_grad()
    def after_step(self) -> None:
        """Dual ascent on beta: beta <- max(0, beta + rate (KL - constraint)), eq. 9."""
        self.beta.add_(self.beta_learning_rate * self._excess).clamp_(min=0.0)


def imitation_reward(logits: torch.Tensor, offset: float = 0.0) -> torch.Tensor:
    """-log(1 - D) = softplus(logit + offset), exact for any logit; D takes the expert to be e^offset times as frequent.

    Source: Ho and Ermon 2016 (arXiv 1606.03476), D of the expert, with an offset of 0. The reward is then flattest for what is
    least like the expert, so that the policy learns least about that. An offset makes it more nearly linear in the logit, and
    each step before a fall worth more.
    """
    return softplus(logits + offset)


def cross_entropy(policy_logits: torch.Tensor, expert_logits: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy of both halves, labels 0 and 1; ln 2 where the logits are 0."""
    policy = binary_cross_entropy_with_logits(policy_logits, torch.zeros_like(policy_logits))
    expert = binary_cross_entropy_with_logits(expert_logits, torch.ones_like(expert_logits))
    return 0.5 * (policy + expert)


def gradient_penalty(logits: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Mean squared norm of d logit / d input; inputs (n, k) require grad. Source: Mescheder et al. 2018, R1 (1801.04406)."""
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return (gradient**2).sum(dim=-1).mean()


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)), (n,), of diagonal Gaussians, (n, k); nats."""
    return 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)


def logit_diagnostics(policy_logits: torch.Tensor, expert_logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Share of each side judged rightly, mean logit of each side, mean entropy of the judgement in nats; scalar tensors."""
    logits = torch.cat([policy_logits, expert_logits])
    return {
        "discriminator_accuracy_policy": (policy_logits < 0).float().mean(),
        "discriminator_accuracy_expert": (expert_logits > 0).float().mean(),
        "logit_policy": policy_logits.mean(),
        "logit_expert": expert_logits.mean(),
        "discriminator_entropy": (softplus(logits) - torch.sigmoid(logits) * logits).mean(),
    }
