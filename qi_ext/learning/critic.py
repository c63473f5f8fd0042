"""The critic: a network that estimates the value of a state, and its fit."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from qi_ext.learning.networks import MLP, Normalizer, adam, seeded_generator


class Critic:
    """State values by a network that shares the policy's normalizer. Attributes: network, optimizer."""

    def __init__(
        self,
        normalizer: Normalizer,
        seed: np.random.SeedSequence,
        generator: np.random.Generator,
        *,
        hidden: Sequence[int],
        learning_rate: float,
        epochs: int,
        batch_size: int,
    ) -> None:
        """normalizer: the policy's `Normalizer`, on the device to learn on. seed: `numpy.random.SeedSequence` for the weights.

        generator: numpy's, draws the order of samples. hidden: sizes of hidden layers. epochs: passes over the batch a fit, in
        minibatches of batch_size.
        """
        self.normalizer, self.generator = normalizer, generator
        self.network = MLP([len(normalizer.mean), *hidden, 1], seeded_generator(seed)).to(normalizer.mean.device)
        self.optimizer = adam(self.network, learning_rate)
        self.epochs, self.batch_size = epochs, batch_size

    def values(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the values, (n,), of observations, (n, 37)."""
        return self.network(self.normalizer(observations)).squeeze(-1)

    def fit(self, observations: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Fit the values of observations, (n, 37), to targets, (n,), by least squares; returns the mean loss, a tensor."""
        inputs = self.normalizer(observations)
        orders = np.stack([self.generator.permutation(len(inputs)) for _ in range(self.epochs)])
        losses = []
        for order in torch.from_numpy(orders).to(inputs.device):
            # Shuffled once an epoch, because picking rows for every minibatch costs more.
            minibatches = zip(*(column[order].split(self.batch_size) for column in (inputs, targets)), strict=True)
            for chosen, wanted in minibatches:
                loss = nn.functional.mse_loss(self.network(chosen).squeeze(-1), wanted)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.detach())
        return torch.stack(losses).mean()
