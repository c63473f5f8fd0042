"""The A1's left-right symmetry: mirror images of observations and actions.

Mirrored at the xz-plane: legs change sides, and what points along y, or turns about x or z, changes its sign. The robot is
symmetric but for 4 mm of its trunk's centre of mass, and some of its inertia.
"""

import numpy as np

from qi_ext.robot import a1

SINE = a1.GOAL.start + 1  # of the commanded direction
TOLERANCE = 1e-6  # the sine of 180 degrees is not quite 0

_OTHER_SIDE = {"FR": "FL", "FL": "FR", "RR": "RL", "RL": "RR"}
_ODD = ("trunk_ty", "trunk_list", "trunk_rotation", *(f"{leg}_hip_joint" for leg in a1.LEGS))


def _mirror(joints):
    """Where the mirror image of each joint lies, and its sign."""
    order = [joints.index(_OTHER_SIDE.get(joint[:2], joint[:2]) + joint[2:]) for joint in joints]
    return order, [-1.0 if joint in _ODD else 1.0 for joint in joints]


def _observations():
    (positions, of_position), (velocities, of_velocity) = _mirror(a1.JOINTS[2:]), _mirror(a1.JOINTS)
    order = positions + [a1.VELOCITY.start + index for index in velocities] + [SINE - 1, SINE, SINE + 1]
    return order, [*of_position, *of_velocity, 1.0, -1.0, 1.0]


def _arrays(order, sign):
    return np.array(order), np.array(sign, dtype=np.float32)


# The mirror image of x is x[..., ORDER] * SIGN.
OBSERVATION_ORDER, OBSERVATION_SIGN = _arrays(*_observations())
ACTION_ORDER, ACTION_SIGN = _arrays(*_mirror(a1.LEG_JOINTS))


def mirror_observations(observations):
    """The mirror image of observations, (..., 37)."""
    return observations[..., OBSERVATION_ORDER] * OBSERVATION_SIGN


def mirror_actions(actions):
    """The mirror image of actions, (..., 12)."""
    return actions[..., ACTION_ORDER] * ACTION_SIGN


def to_the_right(observations):
    """Whether the command is to walk to the right, by however little: (..., 1), bool, of observations (..., 37)."""
    return observations[..., SINE : SINE + 1] < -TOLERANCE


def to_the_left(observations, next_observations, actions):
    """The three, (..., 37), (..., 37) and (..., 12) or None, mirrored where the command is to walk to the right."""
    right = to_the_right(observations)
    observations, next_observations = (np.where(right, mirror_observations(x), x) for x in (observations, next_observations))
    return observations, next_observations, actions if actions is None else np.where(right, mirror_actions(actions), actions)
