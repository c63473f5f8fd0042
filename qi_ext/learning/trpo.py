"""Trust region policy optimization: one natural gradient step of a Gaussian policy."""

import math

import numpy as np
import torch
from torch import nn

from qi_ext.learning.batch import Batch
from qi_ext.learning.gaussian import entropy, log_probability, mean_kl
from qi_ext.learning.natural_gradient import Linearized, as_layers, conjugate_gradient, gauss_newton_product, unflatten
from qi_ext.learning.networks import forward_pass
from qi_ext.learning.policy import GaussianPolicy

KL_TOLERANCE = 1.5  # a step may overshoot max_kl by this factor, as in mushroom-rl's TRPO


class TRPO:
    """Steps of a `GaussianPolicy` within a trust region. Source: Schulman et al. 2015 (arXiv 1502.05477)."""

    def __init__(
        self,
        policy: GaussianPolicy,
        generator: np.random.Generator,
        *,
        max_kl: float,
        final_max_kl: float,
        initial_std: float,
        min_std: float,
        entropy_coefficient: float,
        cg_iterations: int,
        cg_damping: float,
        cg_fraction: float,
        line_search_steps: int,
    ) -> None:
        """generator: numpy's, draws the states of Fisher products.

        max_kl: mean KL divergence of a step, nats, while the policy's bound on its standard deviation is initial_std; it falls
        with that bound, down to final_max_kl. min_std: lower bound on the standard deviations. entropy_coefficient: weight of
        the entropy in the surrogate. cg_iterations, cg_damping: of conjugate gradient; cg_fraction: share of the states in
        Fisher products. line_search_steps: lengths of the step that are tried, each half of the one before.
        """
        self.policy, self.generator = policy, generator
        self.max_kl, self.final_max_kl, self.initial_std = max_kl, final_max_kl, initial_std
        self.min_std, self.entropy_coefficient = min_std, entropy_coefficient
        self.cg_iterations, self.cg_damping, self.cg_fraction = cg_iterations, cg_damping, cg_fraction
        self.line_search_steps = line_search_steps

    @property
    def trust_region(self) -> float:
        """KL divergence that the next step may have, nats: smaller as the bound on the standard deviation falls."""
        return min(self.max_kl, max(self.max_kl * self.policy.max_std / self.initial_std, self.final_max_kl))

    def step(self, batch: Batch, advantages: torch.Tensor) -> dict[str, float | torch.Tensor]:
        """Move the policy's parameters to a better surrogate, mean(ratio * advantage) + coefficient * entropy; no `sync`.

        batch: `Batch`, of which observations and actions are used. advantages: (N,), float32. Returns kl (nats), improvement
        and line_search_step, floats, which are 0 where no step is good enough, and entropy (nats) and std, scalar tensors.
        Raises FloatingPointError, and leaves the policy, where advantages are not finite.
        """
        policy = self.policy
        linearized = Linearized(policy, batch.observations)
        gradient = self._gradient(batch.actions, advantages, linearized)
        full_step = self._full_step(gradient, batch.observations, linearized)
        with torch.no_grad():
            figures = self._line_search(batch.actions, advantages, linearized, full_step)
            return figures | {"entropy": policy.entropy_t(), "std": policy.log_std.exp().mean()}

    def _gradient(self, actions: torch.Tensor, advantages: torch.Tensor, linearized: Linearized) -> torch.Tensor:
        """Gradient of the surrogate where the ratio is 1."""
        inverse_std = torch.exp(-self.policy.log_std.detach())
        z = (actions - linearized.mean) * inverse_std
        weighted = advantages[:, None] / len(advantages)
        for_log_std = (weighted * (z**2 - 1.0)).sum(dim=0) + self.entropy_coefficient
        # Where the policy is symmetric, its stds are: they are so at first, and then move alike.
        for_log_std = self.policy.of_both_sides(for_log_std)
        return torch.cat([linearized.pulled_back(weighted * z * inverse_std), for_log_std])

    def _full_step(self, gradient: torch.Tensor, observations: torch.Tensor, linearized: Linearized) -> torch.Tensor:
        """Natural gradient, as long as the trust region is wide. linearized: of all observations."""
        n_states = max(1, round(self.cg_fraction * len(observations)))
        if n_states < len(observations):
            chosen = np.sort(self.generator.permutation(len(observations))[:n_states])
            linearized = Linearized(self.policy, observations[torch.from_numpy(chosen).to(observations.device)])
        fisher = gauss_newton_product(self.policy, linearized)
        direction, residual = conjugate_gradient(
            lambda vector: fisher(vector) + self.cg_damping * vector, gradient, self.cg_iterations
        )
        # x' A x without another product, since A x = b - r.
        curvature = 0.5 * direction @ (gradient - residual)
        return direction * torch.sqrt(self.trust_region / curvature.clamp_min(1e-12))

    def _line_search(
        self, actions: torch.Tensor, advantages: torch.Tensor, linearized: Linearized, full_step: torch.Tensor
    ) -> dict[str, float]:
        """Take the longest step within the trust region that makes the surrogate no worse, or none."""
        policy, parameters = self.policy, self.policy.parameters()
        old_mean, old_log_std = linearized.mean, policy.log_std.detach().clone()
        old_log_prob = log_probability(actions, old_mean, old_log_std)
        before = advantages.mean() + self.entropy_coefficient * entropy(old_log_std)
        start = nn.utils.parameters_to_vector(parameters).detach()
        finite = advantages.isfinite().all().float()
        for halvings in range(self.line_search_steps):
            vector = start + 0.5**halvings * full_step
            vector[-len(old_log_std) :].clamp_(math.log(self.min_std), float(policy.max_log_std))
            *weights, log_std = unflatten(vector, parameters)
            mean = policy.mean_of(forward_pass(as_layers(weights), linearized.inputs))
            ratio = torch.exp(log_probability(actions, mean, log_std) - old_log_prob)
            gain = (ratio * advantages).mean() + self.entropy_coefficient * entropy(log_std) - before
            # One transfer a trial.
            kl, gain, all_finite = torch.stack([mean_kl(old_mean, old_log_std, mean, log_std), gain, finite]).tolist()
            if not all_finite:
                raise FloatingPointError("training: rewards or values are not finite; the last checkpoint is good")
            if kl <= KL_TOLERANCE * self.trust_region and gain >= 0.0:
                policy.set_parameters(vector)
                return {"kl": kl, "improvement": gain, "line_search_step": 0.5**halvings}
        return {"kl": 0.0, "improvement": 0.0, "line_search_step": 0.0}
