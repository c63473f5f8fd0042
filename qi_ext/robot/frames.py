"""The frame of a command: x points along the commanded direction, y 90 degrees to the left of it; and angles within a turn."""

from typing import Any

import numpy as np

from qi_ext.robot import a1


def in_command_frame(x: Any, y: Any, cosine: Any, sine: Any) -> tuple[Any, Any]:
    """Turn a vector in the world frame into the command's frame: (along, across), in the shape of the inputs.

    x, y: the vector. cosine, sine: of the commanded direction. Numbers, numpy arrays or torch tensors.
    """
    return x * cosine + y * sine, y * cosine - x * sine


def velocity_in_command_frame(observations: Any) -> tuple[Any, Any]:
    """The trunk's velocity (along, across) the command, m/s, (...) each; observations (..., 37), numpy or torch."""
    cosine, sine = observations[..., a1.GOAL.start], observations[..., a1.GOAL.start + 1]
    return in_command_frame(observations[..., a1.TRUNK_VX], observations[..., a1.TRUNK_VY], cosine, sine)


def wrapped(angles: Any) -> Any:
    """Return angles in rad, numbers or numpy arrays of any shape, moved by whole turns into [-pi, pi)."""
    return (angles + np.pi) % (2.0 * np.pi) - np.pi
