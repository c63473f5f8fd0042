"""Trust region policy optimization on mushroom-rl's Agent interface."""

from dataclasses import dataclass

import numpy as np
import torch
from mushroom_rl.core import Agent
from mushroom_rl.utils.dataset import parse_dataset
from torch import nn

from qi_ext.imitation.gae import generalized_advantages
from qi_ext.imitation.networks import MLP, seeded_generator

KL_TOLERANCE = 1.5  # a step may overshoot max_kl by this factor, as in mushroom-rl's TRPO


@dataclass
class Batch:
    """One batch of N transitions, float32.

    observations, next_observations: (N, 37). actions: (N, 12). rewards: (N,). absorbing, last: (N,), or (lanes, time) with
    N = lanes x time, where the others go lane after lane; every lane ends with `last`.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    next_observations: torch.Tensor
    absorbing: np.ndarray
    last: np.ndarray


def gauss_newton_product(policy, observations):
    """A function v -> F v, F the Fisher matrix of the policy at its present weights, averaged over observations, (n, 37).

    For a diagonal Gaussian F is exactly J' S^-1 J / n for the weights of the mean, J their Jacobian, and 2 for each log-std.
    v and F v: flat vectors in the order of `policy.parameters()`. Source: Schulman et al. 2015, appendix C (arXiv 1502.05477).
    """
    weights = list(policy.network.parameters())
    sizes = [weight.numel() for weight in weights]
    mean = policy.mean_t(observations)
    precision = torch.exp(-2.0 * policy.log_std.detach()) / len(observations)
    # J' u is linear in u, so its derivative by u along v is J v: both products reuse this one forward pass.
    dual = torch.zeros_like(mean, requires_grad=True)
    transposed = torch.autograd.grad(mean, weights, dual, create_graph=True)

    def product(vector):
        *pieces, log_std = vector.split([*sizes, vector.numel() - sum(sizes)])
        pieces = [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]
        (along,) = torch.autograd.grad(transposed, dual, pieces, retain_graph=True)
        result = torch.autograd.grad(mean, weights, along * precision, retain_graph=True)
        return torch.cat([part.reshape(-1) for part in result] + [2.0 * log_std])

    return product


def conjugate_gradient(product, b, iterations, tolerance=1e-10):
    """x with `product`(x) = b, for a symmetric positive definite product; `b` is left as it was.

    Stops after `iterations`, or when the squared residual is under `tolerance` times that of x = 0.
    Source: Hestenes and Stiefel 1952.
    """
    x = torch.zeros_like(b)
    residual = b.clone()
    direction = b.clone()
    squared = residual @ residual
    enough = tolerance * squared
    for _ in range(iterations):
        if squared <= enough:
            break
        image = product(direction)
        step = squared / (direction @ image)
        x = x + step * direction
        residual = residual - step * image
        previous, squared = squared, residual @ residual
        direction = residual + (squared / previous) * direction
    return x


class TRPO(Agent):
    """TRPO with GAE; subclasses say what the reward is and what else is fitted.

    `fit` takes mushroom-rl's dataset. After it, `diagnostics` holds what happened, {name: float}.
    """

    def __init__(self, mdp_info, policy, config, seed):
        """config: as in qi_ext.training.config. seed: a `numpy.random.SeedSequence`."""
        weights, draws = seed.spawn(2)
        self.config = config
        self.critic = MLP([policy.sizes[0], *config.critic_hidden, 1], seeded_generator(weights))
        self._critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_learning_rate)
        self._generator = np.random.default_rng(draws)
        self.diagnostics = {}
        super().__init__(mdp_info, policy)

    def fit(self, dataset, **info):
        """One update from mushroom-rl's dataset, a list of transitions. Raises FloatingPointError on numbers not finite."""
        observations, actions, rewards, next_observations, absorbing, last = parse_dataset(dataset)
        last[-1] = 1.0  # the batch ends here, whatever the episode does
        self.update(
            Batch(
                *(torch.from_numpy(x.astype(np.float32)) for x in (observations, actions, rewards, next_observations)),
                absorbing.astype(np.float32),
                last.astype(np.float32),
            )
        )

    def fit_rollouts(self, rollouts):
        """One update from a `qi_ext.sampling.Rollouts`; as `fit` does with its dataset."""
        arrays = (rollouts.observations, rollouts.actions, rollouts.rewards[..., None], rollouts.next_observations)
        observations, actions, rewards, next_observations = (
            torch.from_numpy(array.reshape(-1, array.shape[-1]).astype(np.float32)) for array in arrays
        )
        self.update(
            Batch(
                observations,
                actions,
                rewards.squeeze(-1),
                next_observations,
                rollouts.absorbing.astype(np.float32),
                rollouts.last.astype(np.float32),
            )
        )

    def save(self, path, full_save=False):
        """Write the acting policy where `qi_ext.load_agent` reads it; never pickles, whatever `full_save`."""
        self.policy.save_agent(path, {"task": self.config.task, "algorithm": self.config.algorithm})

    def update(self, batch):
        """Policy step, critic fit, then the statistics: the old policy keeps those it acted with."""
        self._require_finite(batch.observations, "observations")
        rewards = self.rewards(batch)
        self._require_finite(rewards, "rewards")
        values, next_values = self._values(batch.observations), self._values(batch.next_observations)
        shape = batch.last.shape
        advantages = generalized_advantages(
            *(array.reshape(shape) for array in (rewards.numpy(), values, next_values)),
            batch.absorbing,
            batch.last,
            self.config.gamma,
            self.config.gae_lambda,
        ).reshape(-1)
        targets = advantages + values
        self.diagnostics = {
            "reward": float(rewards.mean()),
            "value": float(values.mean()),
            "explained_variance": float(1.0 - np.var(targets - values) / max(np.var(targets), 1e-12)),
        }
        self._policy_step(batch, torch.from_numpy((advantages - advantages.mean()) / (advantages.std() + 1e-8)))
        self._fit_critic(batch.observations, torch.from_numpy(targets))
        self._update_statistics(batch.observations)
        self.policy.sync()
        self._check_finite()

    def rewards(self, batch):
        """The rewards to learn from, (N,)."""
        return batch.rewards

    def minibatches(self, n_samples, size, epochs):
        """Index tensors of shuffled minibatches, `epochs` times over the data; a last smaller one is used too."""
        for _ in range(epochs):
            order = torch.from_numpy(self._generator.permutation(n_samples))
            yield from order.split(size)

    def _update_statistics(self, observations):
        normalizer = self.policy.normalizer
        mean, inverse_std = normalizer.mean.clone(), normalizer.inverse_std
        normalizer.update(observations)
        for network in (self.policy.network, self.critic):
            network.keep_function(mean, inverse_std, normalizer)

    @torch.no_grad()
    def _values(self, observations):
        return self.critic(self.policy.normalizer(observations)).squeeze(-1).numpy()

    def _policy_step(self, batch, advantages):
        config, policy = self.config, self.policy
        parameters = policy.parameters()
        with torch.no_grad():
            old = policy.distribution_t(batch.observations)
            old_log_prob = old.log_prob(batch.actions)

        def surrogate(distribution):
            ratio = torch.exp(distribution.log_prob(batch.actions) - old_log_prob)
            return (ratio * advantages).mean() + config.entropy_coefficient * policy.entropy_t()

        before = surrogate(policy.distribution_t(batch.observations))
        gradient = nn.utils.parameters_to_vector(torch.autograd.grad(before, parameters))
        n_states = max(1, round(config.cg_fraction * len(batch.observations)))
        chosen = torch.from_numpy(np.sort(self._generator.permutation(len(batch.observations))[:n_states]))
        fisher = gauss_newton_product(policy, batch.observations[chosen])

        def damped(vector):
            return fisher(vector) + config.cg_damping * vector

        direction = conjugate_gradient(damped, gradient, config.cg_iterations)
        curvature = 0.5 * direction @ damped(direction)
        full_step = direction * torch.sqrt(config.max_kl / curvature.clamp_min(1e-12))
        start = nn.utils.parameters_to_vector(parameters).detach()
        with torch.no_grad():
            for halvings in range(config.line_search_steps):
                scale = 0.5**halvings
                nn.utils.vector_to_parameters(start + scale * full_step, parameters)
                new = policy.distribution_t(batch.observations)
                kl = torch.distributions.kl_divergence(old, new).mean()
                improvement = surrogate(new) - before
                if kl <= KL_TOLERANCE * config.max_kl and improvement >= 0.0:
                    break
            else:
                scale, kl, improvement = 0.0, torch.zeros(()), torch.zeros(())
                nn.utils.vector_to_parameters(start, parameters)
        self.diagnostics |= {
            "kl": float(kl),
            "improvement": float(improvement),
            "line_search_step": scale,
            "entropy": float(policy.entropy_t().detach()),
            "std": float(policy.log_std.detach().exp().mean()),
        }

    def _fit_critic(self, observations, targets):
        inputs = self.policy.normalizer(observations)
        losses = []
        for index in self.minibatches(len(inputs), self.config.critic_batch_size, self.config.critic_epochs):
            loss = nn.functional.mse_loss(self.critic(inputs[index]).squeeze(-1), targets[index])
            self._critic_optimizer.zero_grad()
            loss.backward()
            self._critic_optimizer.step()
            losses.append(loss.detach())
        self.diagnostics["critic_loss"] = float(torch.stack(losses).mean())

    @staticmethod
    def _require_finite(values, name):
        if not torch.isfinite(values).all():
            raise FloatingPointError(
                f"training: {name} are not finite; nothing was learned from them (the last checkpoint is good)"
            )

    def _check_finite(self):
        bad = [name for name, value in self.diagnostics.items() if not np.isfinite(value)]
        if not np.all(np.isfinite(self.policy.get_weights())):
            bad.append("policy weights")
        if bad:
            raise FloatingPointError(
                f"training: {', '.join(bad)} not finite; the last checkpoint is good: try smaller learning rates or max_kl"
            )
