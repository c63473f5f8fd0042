"""Adversarial imitation: TRPO on the reward of a discriminator that is fitted beside it."""

import math
from typing import Any

import numpy as np
import torch
from mushroom_rl.utils.dataset import parse_dataset

from qi_ext.learning.batch import COLUMNS, Batch
from qi_ext.learning.critic import Critic
from qi_ext.learning.discriminators import Discriminator
from qi_ext.learning.gae import generalized_advantages
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.state import StatefulAgent
from qi_ext.learning.transitions import one_sided, policy_transitions
from qi_ext.learning.trpo import TRPO


class AdversarialLearner(StatefulAgent):
    """A policy, its optimizer, a critic and a discriminator, on mushroom-rl's Agent interface.

    An update is a sequence of phases: `batch`, `rewards`, `advantages`, `policy_step`, `fit_critic`, `fit_discriminator`,
    `diagnostics`; `fit` runs them all. After `policy_step` the policy is ready to act, and the later phases leave it alone.

    Everything is learned on the policy's device. A batch goes up once, weights and diagnostics come down once; only the
    advantages are summed on the CPU. Random numbers are drawn there, too, so that they are the same on any device.
    """

    def __init__(
        self,
        mdp_info: Any,
        policy: GaussianPolicy,
        policy_optimizer: TRPO,
        critic: Critic,
        discriminator: Discriminator,
        generator: np.random.Generator,
        *,
        gamma: float,
        gae_lambda: float,
        std_half_life: float,
        final_std: float,
        reward: str = "imitation",
        metadata: dict[str, str] | None = None,
    ) -> None:
        """policy: `GaussianPolicy`. policy_optimizer: `TRPO`. critic: `Critic`. discriminator: `Discriminator`.

        generator: numpy's, the one that the three draw from. gamma, gae_lambda: of generalized advantage estimation.
        std_half_life: environment steps in which the bound on the policy's standard deviations halves, down to final_std.
        reward: imitation (the discriminator's), constant (1 a step) or environment (as it was gathered).
        metadata: {str: str}, written by `save`.
        """
        self.policy_optimizer, self.critic, self.discriminator = policy_optimizer, critic, discriminator
        self.generator = generator
        self.gamma, self.gae_lambda = gamma, gae_lambda
        self.std_half_life, self.final_std = std_half_life, final_std
        self.reward = reward
        # Of this update: numbers, and tensors that have not come down yet.
        self._figures: dict[str, float] = {}
        self._on_device: dict[str, torch.Tensor] = {}
        super().__init__(mdp_info, policy, metadata)

    @property
    def device(self) -> torch.device:
        return self.policy.device

    def fit(self, dataset: Any, **info: Any) -> None:
        """Make one update from mushroom-rl's dataset, or a `Rollouts`. Raises FloatingPointError on what is not finite."""
        self.update(self.batch(dataset))

    def update(self, batch: Batch) -> None:
        """Run the phases that follow `batch`."""
        advantages, targets = self.advantages(batch, self.rewards(batch))
        self.policy_step(batch, advantages)
        self.fit_critic(batch, targets)
        self.fit_discriminator(batch)
        self.diagnostics()

    def batch(self, rollouts: Any) -> Batch:
        """Return the `Batch` on the device of a `Rollouts`, or of mushroom-rl's dataset, a list of transitions.

        Rollouts with `tensors`, {name: tensor}, are on the device already, and stay there.
        Raises FloatingPointError where it is not finite.
        """
        tensors = getattr(rollouts, "tensors", None)
        if tensors is not None:
            columns = {name: tensors[name] for name in COLUMNS}
            return Batch.of_tensors(**columns | self.policy.to_the_left(columns))
        if isinstance(rollouts, list):
            observations, actions, rewards, next_observations, absorbing, last = parse_dataset(rollouts)
        else:
            observations, actions, rewards = rollouts.observations, rollouts.actions, rollouts.rewards
            next_observations, absorbing, last = rollouts.next_observations, rollouts.absorbing, rollouts.last
        observations, next_observations, actions = one_sided(self.policy.symmetry, observations, next_observations, actions)
        return Batch.upload(observations, actions, rewards, next_observations, absorbing, last, self.device)

    @torch.no_grad()
    def rewards(self, batch: Batch) -> torch.Tensor:
        """Return the rewards to learn from, (N,)."""
        if self.reward == "constant":
            return torch.ones_like(batch.rewards)
        if self.reward == "environment":
            return batch.rewards
        return self.discriminator.rewards(policy_transitions(batch))

    @torch.no_grad()
    def advantages(self, batch: Batch, rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the advantages, (N,), float64, and the critic's targets, (N,), float32, for rewards, (N,)."""
        values = self.critic.values(batch.observations)
        # A row's next value is its successor's value, but for rows that nothing follows.
        next_values = torch.roll(values, -1)
        next_values[batch.cuts] = self.critic.values(batch.next_observations[batch.cuts])

        def in_time(column: torch.Tensor) -> torch.Tensor:
            # In float64, which costs nothing here, so that an env's advantages do not depend on its neighbours in the batch.
            return column.double().view(batch.last.shape)

        advantages = generalized_advantages(
            in_time(rewards),
            in_time(values),
            in_time(next_values),
            in_time(batch.absorbing),
            in_time(batch.last),
            self.gamma,
            self.gae_lambda,
        ).view(-1)
        targets = (advantages + values).float()
        unexplained = (targets - values).var(correction=0) / targets.var(correction=0).clamp_min(1e-12)
        self._figures, self._on_device = {}, {}
        self._measure(reward=rewards.mean(), reward_std=rewards.std(correction=0))
        self._measure(value=values.mean(), explained_variance=1.0 - unexplained)
        return advantages, targets

    def policy_step(self, batch: Batch, advantages: torch.Tensor) -> None:
        """Step the policy, lower the bound on its standard deviations, update the statistics, and let it act so.

        The old policy keeps the statistics that it acted with. advantages: (N,); normalized here. Raises FloatingPointError,
        and leaves the policy, where they are not finite.
        """
        spread, mean = torch.std_mean(advantages, correction=0)
        self._measure(**self.policy_optimizer.step(batch, ((advantages - mean) / (spread + 1e-8)).float()))
        self.policy.lower_max_std(len(batch) / self.std_half_life, self.final_std)
        self._update_statistics(batch.observations)
        self.policy.sync()

    def fit_critic(self, batch: Batch, targets: torch.Tensor) -> None:
        """Fit the critic to targets, (N,)."""
        self._measure(critic_loss=self.critic.fit(batch.observations, targets))

    def fit_discriminator(self, batch: Batch) -> None:
        """Fit the discriminator to the batch against the expert."""
        self._measure(**self.discriminator.fit(policy_transitions(batch)))

    def diagnostics(self) -> dict[str, float]:
        """Return figures of the last update, {name: float}; the first call after it waits for the device.

        Raises FloatingPointError where one of them is not finite.
        """
        if self._on_device:
            self._figures |= zip(self._on_device, torch.stack(list(self._on_device.values())).tolist(), strict=True)
            self._on_device = {}
            bad = [name for name, value in self._figures.items() if not math.isfinite(value)]
            if bad:
                raise FloatingPointError(
                    f"training: {', '.join(bad)} not finite: "
                    "try smaller learning rates, max_kl or gradient_penalty, in a new run; the last checkpoint is good"
                )
        return dict(self._figures)

    def parts(self) -> dict[str, Any]:
        return {
            "policy.network": self.policy.network,
            "policy.log_std": self.policy.log_std,
            "policy.max_log_std": self.policy.max_log_std,
            "policy.normalizer": self.policy.normalizer,
            "policy.generator": self.policy.generator,
            "critic": self.critic.network,
            "critic_optimizer": self.critic.optimizer,
            "generator": self.generator,
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator.optimizer,
            "discriminator.generator": self.discriminator.torch_generator,
        }

    def _measure(self, **figures: float | torch.Tensor) -> None:
        """Note figures of this update: floats, or tensors, which come down together at its end."""
        for name, figure in figures.items():
            if isinstance(figure, torch.Tensor):
                self._on_device[name] = figure.detach().float()
            else:
                self._figures[name] = figure

    def _update_statistics(self, observations: torch.Tensor) -> None:
        normalizer = self.policy.normalizer
        mean, inverse_std = normalizer.mean.clone(), normalizer.inverse_std
        normalizer.update(observations)
        for network in (self.policy.network, self.critic.network):
            network.keep_function(mean, inverse_std, normalizer)
        self._measure(normalizer_drift=((normalizer.mean - mean).abs() * inverse_std).max())
