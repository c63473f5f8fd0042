"""Indices of the A1's joints, actuators and trunk in a compiled MuJoCo model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from qi_ext.robot import a1


@dataclass(frozen=True, eq=False)
class Addresses:
    """Indices into the arrays of `mujoco.MjModel` and `mujoco.MjData`.

    qpos: (18,), into qpos, in the order of `a1.JOINTS`. qvel: (18,), into qvel, likewise.
    actuators: (12,), into ctrl, in the order of `a1.ACTUATORS`. trunk: the trunk, into arrays of bodies.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    actuators: np.ndarray
    trunk: int


def addresses(model: Any) -> Addresses:
    """Return the `Addresses` in `model`, a `mujoco.MjModel` of the A1. Raises KeyError, naming a joint that it lacks."""
    joints = [model.joint(name) for name in a1.JOINTS]
    return Addresses(
        qpos=np.array([joint.qposadr[0] for joint in joints]),
        qvel=np.array([joint.dofadr[0] for joint in joints]),
        actuators=np.array([model.actuator(name).id for name in a1.ACTUATORS]),
        trunk=model.body("trunk").id,
    )
