"""Transitions of the policy and of the expert, prepared alike, and the features of them that a discriminator can see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qi_ext.demonstrations.dataset import Demonstrations
from qi_ext.learning.batch import Batch
from qi_ext.robot import a1, mirror
from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.utils.errors import UserError

__all__ = ["Features", "Transitions"]


@dataclass(frozen=True)
class Transitions:
    """N transitions, float32, on one device.

    observations, next_observations: (N, 37). recorded_actions: (N, 12), in [-1, 1], or None where there are none.
    source: where they come from, for messages.
    """

    observations: torch.Tensor
    next_observations: torch.Tensor
    recorded_actions: torch.Tensor | None
    source: str = "the policy"

    @property
    def actions(self) -> torch.Tensor:
        """Actions, (N, 12), in [-1, 1]. Raises UserError where there are none."""
        if self.recorded_actions is None:
            raise UserError(f"--discriminator_input: {self.source} holds no actions; use next_state, or --demonstrations trot")
        return self.recorded_actions


def policy_transitions(batch: Batch) -> Transitions:
    """Return the `Transitions` of a `Batch`."""
    # Clipped, as by the actuators: demonstrated actions never exceed the limits, which would give the expert away.
    return Transitions(batch.observations, batch.next_observations, batch.actions.clamp(-1.0, 1.0))


def expert_transitions(demonstrations: Demonstrations, symmetry: str, device: str | torch.device) -> Transitions:
    """Return the `Transitions` of `Demonstrations`, within their segments, on `device`; symmetry: as in `one_sided`."""
    dataset = demonstrations.dataset()
    arrays = one_sided(symmetry, dataset["states"], dataset["next_states"], dataset.get("actions"))
    states, next_states, *actions = (torch.from_numpy(array).float().to(device) for array in arrays if array is not None)
    return Transitions(states, next_states, actions[0] if actions else None, demonstrations.source)


def one_sided(
    symmetry: str, observations: np.ndarray, next_observations: np.ndarray, actions: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Return numpy arrays (N, 37), (N, 37) and (N, 12) or None as critic and discriminator learn from them.

    Where symmetry is `mirror`, transitions under a command to the right are their mirror images: to a symmetric policy it makes
    no difference, and critic and discriminator have one side to learn. Where it is `none`, all stay as they are.
    """
    if symmetry == "none":
        return observations, next_observations, actions
    return mirror.to_the_left(observations, next_observations, actions)


# Features: functions of `Transitions` that return (N, k).
Features = Callable[[Transitions], torch.Tensor]


def state(transitions: Transitions) -> torch.Tensor:
    """The state alone, (N, 37)."""
    return transitions.observations


def next_state(transitions: Transitions) -> torch.Tensor:
    """State and next state, (N, 74)."""
    return torch.cat([transitions.observations, transitions.next_observations], dim=1)


def tracking(transitions: Transitions) -> torch.Tensor:
    """State, next state, and the tracking error of either, (N, 78)."""
    states = (transitions.observations, transitions.next_observations)
    return torch.cat([*states, *map(tracking_error, states)], dim=1)


def stepping(transitions: Transitions) -> torch.Tensor:
    """As `tracking`, and how fast the legs move in either state, (N, 80).

    A robot that stands still is in the middle of the states that a walking one goes round: joints at their mean, velocities of
    0. To a smooth function of the states alone it looks like walking.
    """
    states = (transitions.observations, transitions.next_observations)
    return torch.cat([tracking(transitions), *map(leg_speed, states)], dim=1)


def action(transitions: Transitions) -> torch.Tensor:
    """State and action, (N, 49)."""
    return torch.cat([transitions.observations, transitions.actions], dim=1)


def tracking_error(observations: torch.Tensor) -> torch.Tensor:
    """Velocity of the trunk less the commanded one, (N, 2), m/s: along the command, and across to its left.

    observations: (N, 37).
    """
    along, across = velocity_in_command_frame(observations)
    return torch.stack([along - observations[:, a1.GOAL.stop - 1], across], dim=1)


def leg_speed(observations: torch.Tensor) -> torch.Tensor:
    """Logarithm of the root mean square of the leg joints' velocities, (N, 1), of at least 0.1 rad/s; observations: (N, 37)."""
    return 0.5 * torch.log(observations[:, a1.LEG_VELOCITY].square().mean(dim=1, keepdim=True) + 0.01)
