"""Frames about the vertical: of a command, x along the commanded direction; of a heading; and angles within a turn."""

from math import asin, atan2, cos, sin
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


def turned(positions: Any, velocities: Any, angle: float, rate: float = 0.0) -> tuple[list[float], list[float]]:
    """Return the trunk's coordinates, six positions and six velocities, in a world turned by `angle` about the vertical.

    positions, velocities: of `a1.TRUNK_JOINTS`: m and rad, m/s and rad/s; angles are intrinsic x-y-z, their velocities the
    rates of these angles, not body rates. angle: rad, counter-clockwise. rate: rad/s, at which that world goes on turning
    about the trunk, which its rotation gains. Turning by `-angle` and `-rate` turns back, to rounding.
    """
    x, y, z, roll, pitch, yaw = map(float, positions)
    vx, vy, vz, roll_rate, pitch_rate, yaw_rate = map(float, velocities)
    c, s = cos(angle), sin(angle)
    ca, sa, cb, sb, cc, sc = cos(roll), sin(roll), cos(pitch), sin(pitch), cos(yaw), sin(yaw)
    # Of the orientation, only its first row and last column are needed: R = Rx(roll) Ry(pitch) Rz(yaw), turned Rz(angle) R.
    roll, pitch, yaw = (
        atan2(c * sa * cb - s * sb, ca * cb),
        asin(min(1.0, max(-1.0, c * sb + s * sa * cb))),
        atan2(c * cb * sc + s * (ca * cc - sa * sb * sc), c * cb * cc - s * (ca * sc + sa * sb * cc)),
    )
    # The angular velocity in the world, turned, and back to rates of the new angles.
    wx, wy = roll_rate + sb * yaw_rate, ca * pitch_rate - sa * cb * yaw_rate
    wx, wy, wz = c * wx - s * wy, s * wx + c * wy, sa * pitch_rate + ca * cb * yaw_rate + rate
    ca, sa, cb, sb = cos(roll), sin(roll), cos(pitch), sin(pitch)
    yaw_rate = (ca * wz - sa * wy) / cb
    return (
        [c * x - s * y, s * x + c * y, z, roll, pitch, yaw],
        [c * vx - s * vy, s * vx + c * vy, vz, wx - sb * yaw_rate, ca * wy + sa * wz, yaw_rate],
    )
