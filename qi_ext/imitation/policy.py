"""The Gaussian policy: torch to learn, numpy to act, both the same function."""

import math

import numpy as np
import torch
from mushroom_rl.policy.torch_policy import TorchPolicy
from torch import nn
from torch.distributions import Independent, Normal

from qi_ext.acting import Actor, save_agent
from qi_ext.imitation.networks import MLP, Normalizer, seeded_generator


class GaussianPolicy(TorchPolicy):
    """A diagonal Gaussian with a state-independent, learned standard deviation, on mushroom-rl's policy interface.

    Actions are drawn in numpy, from the policy's own generator, with the weights as they were at the last `sync`.
    """

    def __init__(self, n_observations, n_actions, hidden, initial_std, seed):
        """hidden: sizes of the hidden layers. initial_std: of every action. seed: a `numpy.random.SeedSequence`."""
        super().__init__(use_cuda=False)
        weights, acting = seed.spawn(2)
        self.sizes = [n_observations, *hidden, n_actions]
        self.normalizer = Normalizer(n_observations)
        self.network = MLP(self.sizes, seeded_generator(weights), output_gain=0.01)
        self.log_std = nn.Parameter(torch.full((n_actions,), math.log(initial_std)))
        self.deterministic = False
        self.seed(acting)
        self.sync()

    def seed(self, seed):
        """Restart the generator of the actions' noise from an int or a `numpy.random.SeedSequence`."""
        self._generator = np.random.default_rng(seed)

    def sync(self):
        """Make the acting weights those of the networks; call it whenever weights or statistics have changed."""
        self.actor = Actor(
            [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in self.network.linears],
            self.normalizer.mean.float().numpy(),
            self.normalizer.inverse_std.float().numpy(),
            self.log_std.detach().numpy().copy(),
        )

    def draw_action(self, state):
        """Actions, (..., 12), for observations, (..., 37), both numpy."""
        return self.actor.act(state, self.deterministic, self._generator)

    def draw_action_t(self, state):
        return torch.from_numpy(self.draw_action(state.numpy()))

    def mean_t(self, state):
        """Mean actions, (n, 12), for observations, (n, 37), float32."""
        return self.network(self.normalizer(state))

    def distribution_t(self, state):
        return Independent(Normal(self.mean_t(state), self.log_std.exp(), validate_args=False), 1, validate_args=False)

    def log_prob_t(self, state, action):
        return self.distribution_t(state).log_prob(action)[:, None]

    def entropy_t(self, state=None):
        return self.log_std.sum() + 0.5 * len(self.log_std) * math.log(2.0 * math.pi * math.e)

    def parameters(self):
        return [*self.network.parameters(), self.log_std]

    def get_weights(self):
        return nn.utils.parameters_to_vector(self.parameters()).detach().numpy().copy()

    def set_weights(self, weights):
        with torch.no_grad():
            # A copy: the parameters become views of the vector they are set from.
            nn.utils.vector_to_parameters(torch.tensor(weights, dtype=torch.float32), self.parameters())
        self.sync()

    def save_agent(self, path, metadata):
        """Write the agent as of the last `sync`, which an interrupted update has not touched; see `acting.save_agent`."""
        save_agent(path, self.actor, metadata)
