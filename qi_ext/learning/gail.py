"""GAIL and VAIL: TRPO on the reward of a discriminator that is fitted beside it."""

import numpy as np
import torch

from qi_ext.learning.discriminators import Discriminator, VariationalDiscriminator, imitation_reward
from qi_ext.learning.networks import seeded_generator
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.trpo import TRPO, adam
from qi_ext.robot import a1, mirror
from qi_ext.utils.errors import UserError

# What the discriminator sees, by the config's name for it: keys of the demonstrations' dataset.
INPUTS = {
    "tracking": ("states", "next_states"),
    "next_state": ("states", "next_states"),
    "state": ("states",),
    "action": ("states", "actions"),
}


def discriminator_inputs(config, demonstrations):
    """The keys of the demonstrations' dataset that the discriminator sees. Raises UserError where it lacks one."""
    inputs = INPUTS[config.discriminator_input]
    if "actions" in inputs and demonstrations.actions is None:
        raise UserError(
            f"--discriminator_input: {demonstrations.source} holds no actions; use next_state, or --demonstrations trot"
        )
    return inputs


def tracking_error(observations):
    """Velocity of the trunk less the commanded one, in the command's frame, (n, 2), m/s: along it, and across to its left.

    observations: (n, 37).
    """
    velocity_x, velocity_y = observations[:, a1.TRUNK_VX], observations[:, a1.TRUNK_VY]
    cosine, sine, speed = observations[:, a1.GOAL].unbind(dim=1)
    return torch.stack([velocity_x * cosine + velocity_y * sine - speed, velocity_y * cosine - velocity_x * sine], dim=1)


class GAIL(TRPO):
    """Generative adversarial imitation learning: by default from states alone, (state, next state) against the demonstrated.

    Source: Ho and Ermon 2016 (arXiv 1606.03476); from states only, Torabi et al. 2018 (arXiv 1807.06158).
    """

    discriminator_class = Discriminator

    def __init__(self, mdp_info, demonstrations, config, seed, device="cpu"):
        """demonstrations: `Demonstrations`. config: as in qi_ext.training.config. seed: a `numpy.random.SeedSequence`.

        device: torch's, to learn on. Raises UserError where the discriminator is to see actions and the demonstrations have
        none.
        """
        policy_seed, trpo_seed, discriminator_seed = seed.spawn(3)
        n_observations = mdp_info.observation_space.shape[0]
        sizes = (n_observations, a1.N_ACTIONS, config.policy_hidden)
        policy = GaussianPolicy(*sizes, config.initial_std, policy_seed, device, config.symmetry)
        super().__init__(mdp_info, policy, config, trpo_seed)
        dataset = demonstrations.dataset()
        if config.symmetry == "mirror":
            names = ("states", "next_states", "actions")
            dataset |= zip(names, mirror.to_the_left(*map(dataset.get, names)), strict=True)
        self._inputs = discriminator_inputs(config, demonstrations)
        self._expert = self._seen({key: torch.from_numpy(dataset[key]).float().to(device) for key in self._inputs})
        self._torch_generator = seeded_generator(discriminator_seed)
        self.discriminator = self.discriminator_class(self._expert.shape[1], config, self._torch_generator).to(device)
        self.discriminator_optimizer = adam(self.discriminator, config.discriminator_learning_rate)
        # Both start from what the expert does; the policy's batches then add what it does itself.
        self.discriminator.normalizer.update(self._expert)
        policy.normalizer.update(self._expert[:, :n_observations])
        policy.sync()

    def rewards(self, batch):
        """Rewards of the batch's transitions, (N,): the discriminator's, but for baselines."""
        if self.config.reward == "constant":
            return torch.ones_like(batch.rewards)
        if self.config.reward == "environment":
            return batch.rewards
        with torch.no_grad():
            return imitation_reward(self.discriminator(self._transitions(batch)))

    def parts(self):
        return super().parts() | {
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
            "discriminator.generator": self._torch_generator,
        }

    def _transitions(self, batch):
        # Clipped, as the actuators do, because the demonstrated actions never exceed the limits and would give the expert away.
        actions = batch.actions.clamp(-1.0, 1.0)
        columns = {"states": batch.observations, "next_states": batch.next_observations, "actions": actions}
        return self._seen(columns)

    def _seen(self, columns):
        """What the discriminator sees of transitions, {name: (n, ...)}, as (n, k)."""
        parts = [columns[key] for key in self._inputs]
        if self.config.discriminator_input == "tracking":
            parts += [tracking_error(columns[key]) for key in self._inputs]
        return torch.cat(parts, dim=1)

    def _fit_rest(self, batch, targets):
        """Fit the critic, then the discriminator."""
        super()._fit_rest(batch, targets)
        self.fit_discriminator(batch)

    def fit_discriminator(self, batch):
        """Fit the discriminator to a batch against as many expert transitions."""
        config, discriminator = self.config, self.discriminator
        transitions = self._transitions(batch)
        n, n_expert, updates = len(transitions), len(self._expert), config.discriminator_updates
        size = min(config.discriminator_batch_size, n)
        # All that is drawn goes up together: as many expert rows as there are, then rows of either side for each update.
        drawn = [self.generator.integers(n_expert, size=n)]
        for _ in range(updates):
            drawn += [self.generator.permutation(n)[:size], self.generator.integers(n_expert, size=size)]
        seen, *rows = torch.from_numpy(np.concatenate(drawn)).to(self.device).split([n, *[size] * (2 * updates)])
        discriminator.normalizer.update(torch.cat([transitions, self._expert[seen]]))
        noises = discriminator.noise(updates, 2 * size, self._torch_generator)
        totals = {}
        for chosen, of_expert, noise in zip(rows[::2], rows[1::2], noises, strict=True):
            loss, diagnostics = discriminator.loss(transitions[chosen], self._expert[of_expert], noise)
            self.discriminator_optimizer.zero_grad()
            loss.backward()
            self.discriminator_optimizer.step()
            discriminator.after_step()
            for name, value in diagnostics.items():
                totals[name] = totals.get(name, 0.0) + value / updates
        self._measure(**totals)


class VAIL(GAIL):
    """GAIL with a variational information bottleneck in the discriminator. Source: Peng et al. 2019 (arXiv 1810.00821)."""

    discriminator_class = VariationalDiscriminator
