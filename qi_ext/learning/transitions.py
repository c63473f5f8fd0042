"""Transitions of the policy and of the expert, prepared alike, and the features of them that a discriminator can see."""

from dataclasses import dataclass

import torch

from qi_ext.robot import a1, mirror
from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.utils.errors import UserError


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
    def actions(self):
        """Actions, (N, 12), in [-1, 1]. Raises UserError where there are none."""
        if self.recorded_actions is None:
            raise UserError(f"--discriminator_input: {self.source} holds no actions; use next_state, or --demonstrations trot")
        return self.recorded_actions


def policy_transitions(batch):
    """Return the `Transitions` of a `Batch`."""
    # Clipped, as by the actuators: demonstrated actions never exceed the limits, which would give the expert away.
    return Transitions(batch.observations, batch.next_observations, batch.actions.clamp(-1.0, 1.0))


def expert_transitions(demonstrations, symmetry, device):
    """Return the `Transitions` of `Demonstrations`, within their segments, on `device`; symmetry: as in `one_sided`."""
    dataset = demonstrations.dataset()
    arrays = one_sided(symmetry, *(dataset.get(name) for name in ("states", "next_states", "actions")))
    tensors = (None if array is None else torch.from_numpy(array).float().to(device) for array in arrays)
    return Transitions(*tensors, demonstrations.source)


def one_sided(symmetry, observations, next_observations, actions):
    """Return numpy arrays (N, 37), (N, 37) and (N, 12) or None as critic and discriminator learn from them.

    Where symmetry is `mirror`, transitions under a command to the right are their mirror images: to a symmetric policy it makes
    no difference, and critic and discriminator have one side to learn. Where it is `none`, all stay as they are.
    """
    if symmetry == "none":
        return observations, next_observations, actions
    return mirror.to_the_left(observations, next_observations, actions)


# Features: a function of `Transitions` that returns (N, k).


def state(transitions):
    """The state alone, (N, 37)."""
    return transitions.observations


def next_state(transitions):
    """State and next state, (N, 74)."""
    return torch.cat([transitions.observations, transitions.next_observations], dim=1)


def tracking(transitions):
    """State, next state, and the tracking error of either, (N, 78)."""
    states = (transitions.observations, transitions.next_observations)
    return torch.cat([*states, *map(tracking_error, states)], dim=1)


def action(transitions):
    """State and action, (N, 49)."""
    return torch.cat([transitions.observations, transitions.actions], dim=1)


def tracking_error(observations):
    """Velocity of the trunk less the commanded one, (N, 2), m/s: along the command, and across to its left.

    observations: (N, 37).
    """
    along, across = velocity_in_command_frame(observations)
    return torch.stack([along - observations[:, a1.GOAL.stop - 1], across], dim=1)
