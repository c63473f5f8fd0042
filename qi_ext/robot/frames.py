"""The command's frame: its x axis points along the commanded direction, its y axis 90 degrees to the left of it."""

from typing import Any

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
