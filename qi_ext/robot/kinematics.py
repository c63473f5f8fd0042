"""The A1's feet in closed form: positions and velocities of their centres, from those of the joints.

Source: lengths and axes of loco_mujoco 0.4.1, unitree_a1_torque.xml; a test compares them with MuJoCo's kinematics.
"""

import numpy as np

from qi_ext.robot import a1

HIPS = np.array([(0.183, -0.047, 0.0), (0.183, 0.047, 0.0), (-0.183, -0.047, 0.0), (-0.183, 0.047, 0.0)])  # m, from the trunk
THIGH_OFFSETS = np.array([-0.08505, 0.08505, -0.08505, 0.08505])  # m, sideways from hip to thigh
THIGH_LENGTH = CALF_LENGTH = 0.2  # m
TRUNK_HEIGHT = 0.43  # m, of the trunk above the ground where trunk_tz is 0
_STEP = 1e-4  # s, of the central difference; its error is under 1e-6 m/s at joint velocities of 20 rad/s


def joint_positions(states: np.ndarray) -> np.ndarray:
    """Return the positions of `a1.JOINTS`, (N, 18), of states, (N, 34) or wider; x and y, which these leave out, are 0."""
    return np.concatenate([np.zeros((len(states), 2)), states[:, a1.POSITION]], axis=1)


def feet(positions: np.ndarray) -> np.ndarray:
    """Return the centres of the feet in the world frame, (..., 4, 3), m, in the order of `a1.LEGS`.

    positions: (..., 18), of `a1.JOINTS`: the trunk's x, y, z in m, relative to (0, 0, 0.43), its intrinsic x-y-z angles and the
    angles of the legs in rad. The soles are 0.01 to 0.02 m lower.
    """
    trunk, legs = positions[..., :6, None], positions[..., 6:]
    hip, thigh, calf = np.moveaxis(legs.reshape(*legs.shape[:-1], 4, 3), -1, 0)
    x = -THIGH_LENGTH * np.sin(thigh) - CALF_LENGTH * np.sin(thigh + calf)
    z = -THIGH_LENGTH * np.cos(thigh) - CALF_LENGTH * np.cos(thigh + calf)
    y, z = _turn(THIGH_OFFSETS, z, hip)
    x, y, z = x + HIPS[:, 0], y + HIPS[:, 1], z + HIPS[:, 2]
    roll, pitch, yaw = (trunk[..., index, :] for index in (3, 4, 5))
    x, y = _turn(x, y, yaw)
    z, x = _turn(z, x, pitch)
    y, z = _turn(y, z, roll)
    return np.stack([x + trunk[..., 0, :], y + trunk[..., 1, :], z + trunk[..., 2, :] + TRUNK_HEIGHT], axis=-1)


def feet_velocities(positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Return the velocities of the feet's centres, (..., 4, 3), m/s in the world frame; arguments (..., 18)."""
    return (feet(positions + _STEP * velocities) - feet(positions - _STEP * velocities)) / (2.0 * _STEP)


def _turn(first, second, angle):
    """Turn (first, second) by an angle from the first axis to the second."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return first * cosine - second * sine, first * sine + second * cosine
