"""The Unitree A1 of loco-mujoco as numbers: joints, layout of observation and action, limits of a fall, reward.

Source: loco_mujoco 0.4.1, environments/quadrupeds/unitreeA1.py and unitree_a1_torque.xml; tests compare every number here
with them.
"""

import numpy as np
from numpy.typing import ArrayLike

TRUNK_JOINTS = ("trunk_tx", "trunk_ty", "trunk_tz", "trunk_list", "trunk_tilt", "trunk_rotation")
LEGS = ("FR", "FL", "RR", "RL")
LEG_JOINTS = tuple(f"{leg}_{part}_joint" for leg in LEGS for part in ("hip", "thigh", "calf"))
JOINTS = TRUNK_JOINTS + LEG_JOINTS
ACTUATORS = tuple(joint.removesuffix("_joint") for joint in LEG_JOINTS)

HORIZON = 1000
CONTROL_DT = 0.01  # s
N_SUBSTEPS = 10  # of 1 ms
MAX_TORQUE = 34.0  # Nm at action 1

N_OBSERVATIONS = 37
N_ACTIONS = len(ACTUATORS)

# Observation layout: 16 positions (trunk x and y left out), 18 velocities, 3 goal features.
POSITION = slice(0, 16)
VELOCITY = slice(16, 34)
GOAL = slice(34, 37)
TRUNK_Z, ROLL, PITCH, YAW = 0, 1, 2, 3
LEG_POSITION = slice(4, 16)
TRUNK_VX, TRUNK_VY = 16, 17
LEG_VELOCITY = slice(22, 34)

LEG_RANGE = np.array([(-0.802851, 0.802851), (-1.0472, 4.18879), (-2.69653, -0.916298)] * 4)  # rad

MAX_ROLL = 0.2793  # rad
MAX_PITCH = 0.192  # rad
STEEPEST = 1.0  # rad, of other limits of the pitch, such as a canter takes
MIN_TRUNK_Z = -0.24  # m, relative to 0.43 m


def has_fallen(observations: ArrayLike, max_pitch: float = MAX_PITCH) -> np.ndarray:
    """Return True where the trunk is past loco-mujoco's limits of roll, pitch or height: bool, (...).

    observations: (..., 37), of which the first three entries suffice. max_pitch: rad, in place of loco-mujoco's.
    """
    o = np.asarray(observations)
    return (np.abs(o[..., ROLL]) > MAX_ROLL) | (np.abs(o[..., PITCH]) > max_pitch) | (o[..., TRUNK_Z] < MIN_TRUNK_Z)


def environment_reward(observations: ArrayLike) -> np.ndarray:
    """loco-mujoco's reward of a step taken from `observations`: exp(-5 |v_xy - v_command|), in (0, 1].

    observations: (..., 37), before the step. Returns (...). Source: loco_mujoco/utils/reward.py, VelocityVectorReward.
    """
    return np.exp(-5.0 * velocity_error(observations))


def velocity_error(observations: ArrayLike) -> np.ndarray:
    """Distance |v_xy - v_command| in m/s, (...), of observations, (..., 37)."""
    o = np.asarray(observations)
    commanded = o[..., 36:37] * o[..., 34:36]
    return np.linalg.norm(o[..., TRUNK_VX : TRUNK_VY + 1] - commanded, axis=-1)


def observation_table() -> list[tuple[int, str, str, str]]:
    """Rows (index, quantity, joint, unit), one for each of the 37 entries of the observation."""

    def unit(joint: str) -> str:
        return "m" if joint in TRUNK_JOINTS[:3] else "rad"

    rows = [("position", joint, unit(joint)) for joint in JOINTS[2:]]
    rows += [("velocity", joint, unit(joint) + "/s") for joint in JOINTS]
    rows += [
        ("cosine of the commanded direction", "-", "1"),
        ("sine of the commanded direction", "-", "1"),
        ("commanded speed", "-", "m/s"),
    ]
    return [(index, *entry) for index, entry in enumerate(rows)]
