"""A discriminator that sees joints only, as `--discriminator_input joints`."""

import torch

from qi_ext.learning import INPUTS
from qi_ext.robot import a1


def joints(transitions):
    """Leg positions and velocities of the state and the next one, (N, 48)."""
    states = (transitions.observations, transitions.next_observations)
    return torch.cat([state[:, part] for state in states for part in (a1.LEG_POSITION, a1.LEG_VELOCITY)], dim=1)


INPUTS["joints"] = joints
