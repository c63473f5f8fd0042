"""Kinematics and dynamics of the A1 that the trot expert computes with. Legs are ordered FR, FL, RR, RL."""

import mujoco
import numpy as np

from qi_ext.robot.a1 import LEG_JOINTS, LEGS
from qi_ext.robot.addresses import addresses


class RobotModel:
    """Feet, inertia and bias at a given qpos and qvel, on a scratch MjData; coordinates: trunk first, then the legs."""

    def __init__(self, model: mujoco.MjModel, foot_radius: float):
        self.model, self.data = model, mujoco.MjData(model)
        found = addresses(model)
        self.qpos, self.dof = found.qpos, found.qvel
        driven = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        if (model.nq, model.nv) != (18, 18) or not np.array_equal(driven, self.dof[6:]):
            raise ValueError(f"the model must have 18 coordinates and actuators, in this order, on {LEG_JOINTS}")
        self.leg_dof = self.dof[6:].reshape(4, 3)
        self.feet = [model.geom(f"{leg}_foot").id for leg in LEGS]
        self.bodies = [int(model.geom_bodyid[geom]) for geom in self.feet]
        self.origin = model.body_pos[found.trunk].copy()
        self.below = np.array([0.0, 0.0, -foot_radius])
        # Newer versions of MuJoCo compute the inertia in mj_makeM, of which mj_crb is only a part.
        self._inertia = getattr(mujoco, "mj_makeM", mujoco.mj_crb)
        self._unit, self._jacobian = np.eye(18), np.empty((4, 3, 18))

    def place(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres of the feet (4, 3); Jacobians of their contact points by trunk (4, 3, 6) and own leg (4, 3, 3)."""
        model, data = self.model, self.data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        feet = data.geom_xpos[self.feet]
        for jacobian, point, body in zip(self._jacobian, feet + self.below, self.bodies, strict=True):
            mujoco.mj_jac(model, data, jacobian, None, point, body)
        own_leg = self._jacobian[np.arange(4)[:, None], :, self.leg_dof].transpose(0, 2, 1)
        return feet, self._jacobian[:, :, self.dof[:6]], own_leg

    def mass_matrix(self) -> np.ndarray:
        """Inertia at the placed qpos, (18, 18), armature included."""
        self._inertia(self.model, self.data)
        mass = np.empty_like(self._unit)
        for row, unit in zip(mass, self._unit, strict=True):
            mujoco.mj_mulM(self.model, self.data, row, unit)
        return mass[np.ix_(self.dof, self.dof)]

    def bias(self, qvel: np.ndarray) -> np.ndarray:
        """Gravity, Coriolis and centrifugal forces at the placed qpos, (18,)."""
        self.data.qvel[:] = qvel
        mujoco.mj_comVel(self.model, self.data)
        force = np.empty(18)
        mujoco.mj_rne(self.model, self.data, 0, force)
        return force[self.dof]
