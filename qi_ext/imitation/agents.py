"""GAIL and VAIL: TRPO on the reward of a discriminator that is fitted beside it."""

import torch

from qi_ext import a1
from qi_ext.errors import UserError
from qi_ext.imitation.discriminators import Discriminator, VariationalDiscriminator, imitation_reward
from qi_ext.imitation.networks import seeded_generator
from qi_ext.imitation.policy import GaussianPolicy
from qi_ext.imitation.trpo import TRPO

# What the discriminator sees, by the config's name for it: keys of the demonstrations' dataset.
INPUTS = {"next_state": ("states", "next_states"), "state": ("states",), "action": ("states", "actions")}


class GAIL(TRPO):
    """Generative adversarial imitation learning: by default from states alone, (state, next state) against the demonstrated.

    Source: Ho and Ermon 2016 (arXiv 1606.03476); from states only, Torabi et al. 2018 (arXiv 1807.06158).
    """

    discriminator_class = Discriminator

    def __init__(self, mdp_info, demonstrations, config, seed):
        """demonstrations: `Demonstrations`. config: as in qi_ext.training.config. seed: a `numpy.random.SeedSequence`.

        Raises UserError where the discriminator is to see actions and the demonstrations have none.
        """
        policy_seed, trpo_seed, discriminator_seed = seed.spawn(3)
        n_observations = mdp_info.observation_space.shape[0]
        policy = GaussianPolicy(n_observations, a1.N_ACTIONS, config.policy_hidden, config.initial_std, policy_seed)
        super().__init__(mdp_info, policy, config, trpo_seed)
        dataset = demonstrations.dataset()
        self._inputs = INPUTS[config.discriminator_input]
        if not set(self._inputs) <= dataset.keys():
            raise UserError(
                f"--discriminator_input: {demonstrations.source} holds no actions; use next_state, or --demonstrations trot"
            )
        self._expert = torch.cat([torch.from_numpy(dataset[key]).float() for key in self._inputs], dim=1)
        self._torch_generator = seeded_generator(discriminator_seed)
        self.discriminator = self.discriminator_class(self._expert.shape[1], config, self._torch_generator)
        self._discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=config.discriminator_learning_rate)
        # Both start from what the expert does; the policy's batches then add what it does itself.
        self.discriminator.normalizer.update(self._expert)
        policy.normalizer.update(self._expert[:, :n_observations])
        policy.sync()

    @torch.no_grad()
    def rewards(self, batch):
        """Imitation rewards of the batch's transitions, (N,)."""
        return imitation_reward(self.discriminator(self._transitions(batch)))

    def update(self, batch):
        """TRPO's update, then the discriminator's."""
        super().update(batch)
        self._fit_discriminator(self._transitions(batch))
        self._check_finite()

    def _transitions(self, batch):
        # Clipped, as the actuators do, because the demonstrated actions never exceed the limits and would give the expert away.
        actions = batch.actions.clamp(-1.0, 1.0)
        columns = {"states": batch.observations, "next_states": batch.next_observations, "actions": actions}
        return torch.cat([columns[key] for key in self._inputs], dim=1)

    def _fit_discriminator(self, transitions):
        config, discriminator = self.config, self.discriminator
        expert = self._draw_expert(len(transitions))
        discriminator.normalizer.update(torch.cat([transitions, expert]))
        size = min(config.discriminator_batch_size, len(transitions))
        totals = {}
        for _ in range(config.discriminator_updates):
            chosen = torch.from_numpy(self._generator.permutation(len(transitions))[:size])
            loss, diagnostics = discriminator.loss(transitions[chosen], self._draw_expert(size), self._torch_generator)
            self._discriminator_optimizer.zero_grad()
            loss.backward()
            self._discriminator_optimizer.step()
            discriminator.after_step()
            for name, value in diagnostics.items():
                totals[name] = totals.get(name, 0.0) + value / config.discriminator_updates
        self.diagnostics |= {name: float(value) for name, value in totals.items()}

    def _draw_expert(self, n):
        return self._expert[torch.from_numpy(self._generator.integers(len(self._expert), size=n))]


class VAIL(GAIL):
    """GAIL with a variational information bottleneck in the discriminator. Source: Peng et al. 2019 (arXiv 1810.00821)."""

    discriminator_class = VariationalDiscriminator
