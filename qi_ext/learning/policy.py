"""The Gaussian policy: torch to learn, numpy to act, both the same function."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mushroom_rl.policy.torch_policy import TorchPolicy
from torch import nn
from torch.distributions import Independent, Normal

from qi_ext.agents.acting import Actor, save_agent
from qi_ext.learning.gaussian import entropy
from qi_ext.learning.natural_gradient import as_layers, unflatten
from qi_ext.learning.networks import MLP, Activation, Normalizer, seeded_generator
from qi_ext.robot import mirror


class GaussianPolicy(TorchPolicy):
    """A diagonal Gaussian with a state-independent, learned standard deviation, on mushroom-rl's policy interface.

    It learns on its device. Actions are drawn in numpy, on the CPU, from the policy's own generator, with the weights as they
    were at the last `sync`; without noise where `deterministic` is set.
    """

    def __init__(
        self,
        n_observations: int,
        n_actions: int,
        hidden: Sequence[int],
        initial_std: float,
        seed: np.random.SeedSequence,
        device: str | torch.device = "cpu",
        symmetry: str = "none",
    ) -> None:
        """hidden: sizes of the hidden layers. initial_std: of every action. seed: a `numpy.random.SeedSequence`.

        symmetry: none or mirror, as `Actor` has it.
        """
        super().__init__(use_cuda=False)
        weights, acting = seed.spawn(2)
        self.sizes = [n_observations, *hidden, n_actions]
        self.normalizer = Normalizer(n_observations).to(device)
        self.network = MLP(self.sizes, seeded_generator(weights), output_gain=0.01).to(device)
        self.log_std = nn.Parameter(torch.full((n_actions,), math.log(initial_std), device=device))
        self.max_log_std = np.array(math.log(initial_std))  # numpy's, because it is the same on any device
        self.deterministic = False
        self.symmetry = symmetry
        if symmetry == "mirror":
            sides = (mirror.OBSERVATION_ORDER, mirror.OBSERVATION_SIGN, mirror.ACTION_ORDER, mirror.ACTION_SIGN)
            self._sides = tuple(torch.from_numpy(array).to(device) for array in sides)
        self.seed(acting)
        self.sync()

    @property
    def device(self) -> torch.device:
        return self.log_std.device

    def seed(self, seed: int | np.random.SeedSequence) -> None:
        """Restart the generator of the actions' noise from an int or a `numpy.random.SeedSequence`."""
        self.generator = np.random.default_rng(seed)

    @torch.no_grad()
    def sync(self) -> None:
        """Copy weights and statistics into a new `actor`; to be called whenever they have changed.

        On a GPU this is one transfer, and waits for all that the weights depend on. Raises FloatingPointError, and keeps the
        old actor, where they are not finite.
        """
        statistics = (self.normalizer.mean.float(), self.normalizer.inverse_std.float())
        parts = [*self.parameters(), *statistics]
        together = torch.cat([part.reshape(-1) for part in parts]).cpu().numpy()
        if not np.isfinite(together).all():
            raise FloatingPointError(
                "training: policy weights are not finite: try a smaller max_kl or learning rates, in a new run"
            )
        ends = np.cumsum([part.numel() for part in parts])
        arrays = [piece.reshape(part.shape) for piece, part in zip(np.split(together, ends[:-1]), parts, strict=True)]
        *layers, log_std, mean, inverse_std = arrays
        self.actor = Actor(as_layers(layers), mean, inverse_std, log_std, symmetry=self.symmetry, activation=Activation.NAME)

    def draw_action(self, state: np.ndarray) -> np.ndarray:
        """Draw actions, (..., 12), for observations, (..., 37), both numpy."""
        return self.actor.act(state, self.deterministic, self.generator)

    def draw_action_t(self, state: torch.Tensor) -> torch.Tensor:
        """Draw actions, (..., 12), for observations, (..., 37), on the policy's device."""
        return torch.from_numpy(self.draw_action(state.cpu().numpy())).to(self.device)

    def mean_t(self, state: torch.Tensor) -> torch.Tensor:
        """Return mean actions, (n, 12), for observations, (n, 37), float32, on any device."""
        return self.mean_of(self.network(self.inputs(state.to(self.device))))

    def inputs(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the network's inputs for observations, (n, 37): (n, 37), or each followed by its mirror image, (2n, 37)."""
        if self.symmetry == "mirror":
            order, sign, _, _ = self._sides
            observations = torch.stack([observations, observations[:, order] * sign], dim=1).flatten(0, 1)
        return self.normalizer(observations)

    def to_the_left(self, columns: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return observations, actions and next_observations of `columns`, tensors, as `transitions.one_sided` does."""
        columns = {name: columns[name] for name in ("observations", "actions", "next_observations")}
        if self.symmetry == "none":
            return columns
        right = mirror.to_the_right(columns["observations"])
        order, sign, of_actions, sign_of_actions = self._sides
        images = {name: column[..., order] * sign for name, column in columns.items() if name != "actions"}
        images["actions"] = columns["actions"][..., of_actions] * sign_of_actions
        return {name: torch.where(right, images[name], column) for name, column in columns.items()}

    def mean_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return mean actions, (n, 12), from the network's outputs for `inputs`."""
        if self.symmetry == "none":
            return outputs
        own, of_image = outputs.unflatten(0, (-1, 2)).unbind(dim=1)
        _, _, order, sign = self._sides
        return 0.5 * (own + of_image[:, order] * sign)

    def outputs_of(self, means: torch.Tensor) -> torch.Tensor:
        """Return J' u for u = means, (n, 12), J the Jacobian of `mean_of`, which is linear; shaped as the network's outputs."""
        if self.symmetry == "none":
            return means
        _, _, order, sign = self._sides
        half = 0.5 * means
        return torch.stack([half, half[:, order] * sign], dim=1).flatten(0, 1)

    def of_both_sides(self, stds: torch.Tensor) -> torch.Tensor:
        """Return figures of the actions' stds, (12,), averaged with those of the other side; as they are without a symmetry."""
        return stds if self.symmetry == "none" else 0.5 * (stds + stds[self._sides[2]])

    def distribution_t(self, state: torch.Tensor) -> Independent:
        """Return the distribution of actions, (12,), for observations, (n, 37), as n independent Gaussians."""
        return Independent(Normal(self.mean_t(state), self.log_std.exp(), validate_args=False), 1, validate_args=False)

    def log_prob_t(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return the log densities, (n, 1), nats, of actions, (n, 12), for observations, (n, 37)."""
        return self.distribution_t(state).log_prob(action.to(self.device))[:, None]

    def entropy_t(self, state: torch.Tensor | None = None) -> torch.Tensor:
        """Return the differential entropy, nats, a scalar: it is the same in every state."""
        return entropy(self.log_std)

    def parameters(self) -> list[nn.Parameter]:
        """Return what is learned: weights and biases of the layers in turn, then the log-stds, (12,)."""
        return [*self.network.parameters(), self.log_std]

    def get_weights(self) -> np.ndarray:
        """Return all parameters as one flat numpy array."""
        return nn.utils.parameters_to_vector(self.parameters()).detach().cpu().numpy().copy()

    def set_weights(self, weights: np.ndarray) -> None:
        """Set all parameters from a flat numpy array, and `sync`."""
        self.set_parameters(torch.tensor(weights, dtype=torch.float32, device=self.device))
        self.sync()

    @torch.no_grad()
    def set_parameters(self, vector: torch.Tensor) -> None:
        """Copy a flat vector, on the policy's device, into the parameters; the actor has them after `sync`."""
        for parameter, piece in zip(self.parameters(), unflatten(vector, self.parameters()), strict=True):
            parameter.copy_(piece)

    @torch.no_grad()
    def set_std(self, std: float) -> None:
        """Set the standard deviation of every action, and the bound on it, to `std`."""
        self.log_std.fill_(math.log(std))
        self.max_log_std[...] = math.log(std)

    @property
    def max_std(self) -> float:
        """Bound on the standard deviations."""
        return math.exp(self.max_log_std)

    @torch.no_grad()
    def lower_max_std(self, halvings: float, final: float) -> None:
        """Halve the bound on the standard deviations so many times, a real number, but not to below `final`."""
        lower = max(self.max_log_std - halvings * math.log(2.0), math.log(final))
        self.max_log_std[...] = min(self.max_log_std, lower)
        self.log_std.clamp_(max=float(self.max_log_std))

    def save_agent(self, path: str | Path, metadata: dict[str, str]) -> None:
        """Write the agent as of the last `sync`, which an interrupted update has not touched; see `acting.save_agent`."""
        save_agent(path, self.actor, metadata)
