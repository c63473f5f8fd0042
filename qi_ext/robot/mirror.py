"""The A1's left-right symmetry: mirror images of observations and actions.

The mirror is the xz-plane: left and right legs change places, and coordinates along y or about x or z change their sign. The
simulated robot is symmetric but for 4 mm of its trunk's centre of mass, and some of its inertia.
"""

from typing import Any

import numpy as np

from qi_ext.robot import a1

__all__ = ["mirror_actions", "mirror_observations", "to_the_left", "to_the_right"]

SINE = a1.GOAL.start + 1  # of the commanded direction, in the observation
TOLERANCE = 1e-6  # because the sine of 180 degrees is 1e-16 in floating point

_OTHER_SIDE = {"FR": "FL", "FL": "FR", "RR": "RL", "RL": "RR"}
_ODD = ("trunk_ty", "trunk_list", "trunk_rotation", *(f"{leg}_hip_joint" for leg in a1.LEGS))


def _mirror(joints: tuple[str, ...]) -> tuple[list[int], list[float]]:
    """Return, for each joint, the index of its counterpart on the other side, and the sign that it takes there."""
    order = [joints.index(_OTHER_SIDE.get(joint[:2], joint[:2]) + joint[2:]) for joint in joints]
    return order, [-1.0 if joint in _ODD else 1.0 for joint in joints]


def _observations() -> tuple[list[int], list[float]]:
    (positions, of_position), (velocities, of_velocity) = _mirror(a1.JOINTS[2:]), _mirror(a1.JOINTS)
    order = positions + [a1.VELOCITY.start + index for index in velocities] + [SINE - 1, SINE, SINE + 1]
    return order, [*of_position, *of_velocity, 1.0, -1.0, 1.0]


def _arrays(order: list[int], sign: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(order), np.array(sign, dtype=np.float32)


# The mirror image of x is x[..., ORDER] * SIGN.
OBSERVATION_ORDER, OBSERVATION_SIGN = _arrays(*_observations())
ACTION_ORDER, ACTION_SIGN = _arrays(*_mirror(a1.LEG_JOINTS))


def mirror_observations(observations: np.ndarray) -> np.ndarray:
    """Return the mirror image of observations, (..., 37)."""
    return observations[..., OBSERVATION_ORDER] * OBSERVATION_SIGN


def mirror_actions(actions: np.ndarray) -> np.ndarray:
    """Return the mirror image of actions, (..., 12)."""
    return actions[..., ACTION_ORDER] * ACTION_SIGN


def to_the_right(observations: Any) -> Any:
    """Return True where the command points to the right of +x: bool, (..., 1), of observations, (..., 37), numpy or torch."""
    return observations[..., SINE : SINE + 1] < -TOLERANCE


def to_the_left(
    observations: np.ndarray, next_observations: np.ndarray, actions: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return transitions with those whose command points to the right mirrored, so that all commands point to the left.

    observations, next_observations: (..., 37). actions: (..., 12) or None.
    """
    right = to_the_right(observations)
    observations, next_observations = (np.where(right, mirror_observations(x), x) for x in (observations, next_observations))
    return observations, next_observations, actions if actions is None else np.where(right, mirror_actions(actions), actions)
