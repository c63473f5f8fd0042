"""Trust region policy optimization on mushroom-rl's Agent interface."""

import math

import numpy as np
import torch
from mushroom_rl.core import Agent
from mushroom_rl.utils.dataset import parse_dataset
from torch import nn

from qi_ext.learning.batch import Batch
from qi_ext.learning.gae import generalized_advantages
from qi_ext.learning.natural_gradient import (
    KL_TOLERANCE,
    Linearized,
    as_layers,
    conjugate_gradient,
    entropy,
    gauss_newton_product,
    log_probability,
    mean_kl,
    search_rounds,
    unflatten,
)
from qi_ext.learning.networks import MLP, forward_pass, seeded_generator
from qi_ext.robot import mirror


class TRPO(Agent):
    """TRPO with GAE; subclasses say what the reward is and what else is fitted.

    `fit` takes mushroom-rl's dataset. After it, `diagnostics` holds what happened, {name: float}. Everything is learned on the
    policy's device, to which a batch goes up once, and from which weights and diagnostics come down once. Random numbers are
    drawn on the CPU, so that they are the same on any device.
    """

    acts_before_all_is_fitted = True  # for `ParallelCore`: `fit_rollouts` says when the policy is ready to act

    def __init__(self, mdp_info, policy, config, seed):
        """config: as in qi_ext.training.config. seed: a `numpy.random.SeedSequence`."""
        weights, draws = seed.spawn(2)
        self.config = config
        self.device = policy.device
        self.critic = MLP([policy.sizes[0], *config.critic_hidden, 1], seeded_generator(weights)).to(self.device)
        self.critic_optimizer = adam(self.critic, config.critic_learning_rate)
        self.generator = np.random.default_rng(draws)
        self.diagnostics = {}
        self._measured = {}  # tensors on the device, until they come down at the end of an update
        super().__init__(mdp_info, policy)

    def fit(self, dataset, **info):
        """One update from mushroom-rl's dataset, a list of transitions. Raises FloatingPointError on numbers not finite."""
        self.update(self._batch(*parse_dataset(dataset)))

    def fit_rollouts(self, rollouts, ready=lambda: None):
        """One update from a `qi_ext.sampling.Rollouts`; as `fit` does with its dataset.

        ready(): called once the policy is the one that acts next; what is fitted after that does not change it.
        """
        arrays = (rollouts.observations, rollouts.actions, rollouts.rewards, rollouts.next_observations)
        self.update(self._batch(*arrays, rollouts.absorbing, rollouts.last), ready)

    def save(self, path, full_save=False):
        """Write the acting policy where `qi_ext.load_agent` reads it; never pickles, whatever `full_save`."""
        self.policy.save_agent(path, {"task": self.config.task.task, "algorithm": self.config.algorithm})

    def update(self, batch, ready=lambda: None):
        """Policy step, then the statistics: the old policy keeps those it acted with. Then the rest is fitted."""
        self.diagnostics, self._measured = {}, {}
        with torch.no_grad():
            rewards = self.rewards(batch)
            advantages, targets = self._advantages(batch, rewards)
            spread, mean = torch.std_mean(advantages, correction=0)
        self._policy_step(batch, ((advantages - mean) / (spread + 1e-8)).float())
        self.policy.lower_max_std(len(batch) / self.config.std_half_life, self.config.final_std)
        self._update_statistics(batch.observations)
        self.policy.sync()
        ready()
        self._measure(reward=rewards.mean(), reward_std=rewards.std(correction=0))
        self._fit_rest(batch, targets)
        self.diagnostics |= zip(self._measured, torch.stack(list(self._measured.values())).tolist(), strict=True)
        bad = [name for name, value in self.diagnostics.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"training: {', '.join(bad)} not finite: "
                "try smaller learning rates, max_kl or gradient_penalty, in a new run; the last checkpoint is good"
            )

    @property
    def trust_region(self):
        """The KL divergence that the next policy step may have, nats: smaller as the bound on the standard deviation falls."""
        config = self.config
        initial_std = config.warm_start_std if config.warm_start.warm_start else config.initial_std
        return min(config.max_kl, max(config.max_kl * self.policy.max_std / initial_std, config.final_max_kl))

    def rewards(self, batch):
        """The rewards to learn from, (N,)."""
        return batch.rewards

    def parts(self):
        """All that learning goes on from, by name: modules, parameters, arrays, optimizers and generators."""
        return {
            "policy.network": self.policy.network,
            "policy.log_std": self.policy.log_std,
            "policy.max_log_std": self.policy.max_log_std,
            "policy.normalizer": self.policy.normalizer,
            "policy.generator": self.policy.generator,
            "critic": self.critic,
            "critic_optimizer": self.critic_optimizer,
            "generator": self.generator,
        }

    def _batch(self, observations, actions, rewards, next_observations, absorbing, last):
        """What was gathered, on the device.

        Where the policy is symmetric, robots that walk to the right are their mirror images: to the policy it makes no
        difference, and critic and discriminator have one side to learn.
        """
        if self.policy.symmetry == "mirror":
            observations, next_observations, actions = mirror.to_the_left(observations, next_observations, actions)
        return Batch.upload(observations, actions, rewards, next_observations, absorbing, last, self.device)

    def _measure(self, **tensors):
        """Tensors for the diagnostics; they come down together at the end of the update."""
        self._measured |= {name: tensor.detach().float() for name, tensor in tensors.items()}

    def _advantages(self, batch, rewards):
        """Advantages, (N,), float64, and the critic's targets, (N,)."""
        normalizer, critic = self.policy.normalizer, self.critic
        values = critic(normalizer(batch.observations)).squeeze(-1)
        # A row's next value is its successor's value, but for rows that nothing follows.
        next_values = torch.roll(values, -1)
        next_values[batch.cuts] = critic(normalizer(batch.next_observations[batch.cuts])).squeeze(-1)
        # In float64, which costs nothing here, so that a lane's advantages do not depend on what lies beside it.
        columns = (rewards, values, next_values, batch.absorbing, batch.last)
        advantages = generalized_advantages(
            *(column.double().view(batch.last.shape) for column in columns), self.config.gamma, self.config.gae_lambda
        ).view(-1)
        targets = (advantages + values).float()
        unexplained = (targets - values).var(correction=0) / targets.var(correction=0).clamp_min(1e-12)
        self._measure(value=values.mean(), explained_variance=1.0 - unexplained)
        return advantages, targets

    def _update_statistics(self, observations):
        normalizer = self.policy.normalizer
        mean, inverse_std = normalizer.mean.clone(), normalizer.inverse_std
        normalizer.update(observations)
        for network in (self.policy.network, self.critic):
            network.keep_function(mean, inverse_std, normalizer)
        self._measure(normalizer_drift=((normalizer.mean - mean).abs() * inverse_std).max())

    def _policy_step(self, batch, advantages):
        config, policy, parameters = self.config, self.policy, self.policy.parameters()
        linearized = Linearized(policy, batch.observations)
        old_mean, old_log_std = linearized.mean, policy.log_std.detach()
        max_log_std = float(policy.max_log_std)
        old_log_prob = log_probability(batch.actions, old_mean, old_log_std)
        before = advantages.mean() + config.entropy_coefficient * entropy(old_log_std)
        start = nn.utils.parameters_to_vector(parameters).detach()
        full_step = self._full_step(self._gradient(batch, advantages, linearized), batch.observations, linearized)

        def trial(halvings):
            """The parameters after so many halvings of the step, and how the mean KL and the surrogate then change."""
            vector = start + 0.5**halvings * full_step
            vector[-len(old_log_std) :].clamp_(math.log(config.min_std), max_log_std)
            *weights, log_std = unflatten(vector, parameters)
            new_mean = policy.mean_of(forward_pass(as_layers(weights), linearized.inputs))
            ratio = torch.exp(log_probability(batch.actions, new_mean, log_std) - old_log_prob)
            gain = (ratio * advantages).mean() + config.entropy_coefficient * entropy(log_std) - before
            return vector, mean_kl(old_mean, old_log_std, new_mean, log_std), gain

        self.diagnostics |= {"kl": 0.0, "improvement": 0.0, "line_search_step": 0.0}
        with torch.no_grad():
            accepted = self._search(trial, advantages)
            if accepted is not None:
                policy.set_parameters(accepted)
            self._measure(entropy=policy.entropy_t(), std=policy.log_std.exp().mean())

    def _gradient(self, batch, advantages, linearized):
        """Of the surrogate, mean(ratio * advantage) + coefficient * entropy, where the ratio is 1."""
        inverse_std = torch.exp(-self.policy.log_std.detach())
        z = (batch.actions - linearized.mean) * inverse_std
        weighted = advantages[:, None] / len(advantages)
        for_log_std = (weighted * (z**2 - 1.0)).sum(dim=0) + self.config.entropy_coefficient
        # Where the policy is symmetric, its stds are: they are so at first, and then move alike.
        for_log_std = self.policy.of_both_sides(for_log_std)
        return torch.cat([linearized.pulled_back(weighted * z * inverse_std), for_log_std])

    def _full_step(self, gradient, observations, linearized):
        """The natural gradient, as long as the trust region is wide. linearized: of all observations."""
        config = self.config
        n_states = max(1, round(config.cg_fraction * len(observations)))
        if n_states < len(observations):
            chosen = np.sort(self.generator.permutation(len(observations))[:n_states])
            linearized = Linearized(self.policy, observations[torch.from_numpy(chosen).to(self.device)])
        fisher = gauss_newton_product(self.policy, linearized)
        direction, residual = conjugate_gradient(
            lambda vector: fisher(vector) + config.cg_damping * vector, gradient, config.cg_iterations
        )
        # x' A x without another product, since A x = b - r.
        curvature = 0.5 * direction @ (gradient - residual)
        return direction * torch.sqrt(self.trust_region / curvature.clamp_min(1e-12))

    def _search(self, trial, advantages):
        """The parameters of the longest step within the trust region that makes the surrogate no worse, or None."""
        for halvings in search_rounds(self.config.line_search_steps):
            trials = [trial(number) for number in halvings]
            figures = [figure for _, *pair in trials for figure in pair]
            *figures, finite = torch.stack([*figures, advantages.isfinite().all().float()]).tolist()
            if not finite:
                raise FloatingPointError("training: rewards or values are not finite; the last checkpoint is good")
            for number, (vector, *_), kl, gain in zip(halvings, trials, figures[::2], figures[1::2], strict=True):
                if kl <= KL_TOLERANCE * self.trust_region and gain >= 0.0:
                    self.diagnostics |= {"kl": kl, "improvement": gain, "line_search_step": 0.5**number}
                    return vector
        return None

    def _fit_rest(self, batch, targets):
        """Fit what does not act: here the critic."""
        config, n = self.config, len(batch)
        inputs = self.policy.normalizer(batch.observations)
        orders = np.stack([self.generator.permutation(n) for _ in range(config.critic_epochs)])
        losses = []
        for order in torch.from_numpy(orders).to(self.device):
            # Shuffled once an epoch, because picking rows for every minibatch costs more.
            minibatches = zip(*(column[order].split(config.critic_batch_size) for column in (inputs, targets)), strict=True)
            for chosen, wanted in minibatches:
                loss = nn.functional.mse_loss(self.critic(chosen).squeeze(-1), wanted)
                self.critic_optimizer.zero_grad()
                loss.backward()
                self.critic_optimizer.step()
                losses.append(loss.detach())
        self._measure(critic_loss=torch.stack(losses).mean())


def adam(module, learning_rate):
    """Adam on a module's parameters, in one kernel a step."""
    return torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)
