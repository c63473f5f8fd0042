"""A trotting expert for the Unitree A1 torque model: Raibert foot placement and one-shot inverse dynamics.

SI units and radians throughout. Legs are ordered FR, FL, RR, RL.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from qi_ext.demonstrations.gaits import GRAVITY, LEG_SIDE, Gait, quintic
from qi_ext.demonstrations.robot_model import RobotModel
from qi_ext.robot.a1 import CONTROL_DT


def standing_qpos(model: mujoco.MjModel, gait: Gait | None = None) -> np.ndarray:
    """Pose, (nq,), with the trunk level above the world's origin at the gait's height, feet at their neutral positions."""
    gait = gait or Gait()
    return _pose(RobotModel(model, foot_radius=0.0), gait, gait.neutral_feet)


def walking_state(model: mujoco.MjModel, gait: Gait, velocity: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Return qpos and qvel, (nq,) each, of the nominal walk at a phase, above the world's origin, its heading along +x.

    velocity: of the walk, (2,), m/s.
    """
    robot, (sway, sway_velocity, _) = RobotModel(model, foot_radius=0.0), gait.sway(phase)
    places, rates = gait.nominal_feet(np.array(phase), velocity)
    qpos, qvel = _pose(robot, gait, gait.neutral_feet + places - [0.0, sway, 0.0]), np.zeros(model.nv)
    qvel[robot.dof[:2]] = velocity + [0.0, sway_velocity]
    _, by_trunk, by_leg = robot.place(qpos)
    relative = rates - by_trunk @ qvel[robot.dof[:6]]
    qvel[robot.leg_dof] = np.linalg.solve(by_leg, relative[..., None])[..., 0]
    return qpos, qvel


def _pose(robot, gait, feet):
    """Pose, (nq,), with the trunk level at the gait's height and the feet's centres at `feet` from it, (4, 3), m."""
    qpos = np.zeros(robot.model.nq)
    qpos[robot.qpos[:3]] = np.array([0.0, 0.0, gait.trunk_height]) - robot.origin
    qpos[robot.qpos[6:]] = np.tile([0.0, 0.9, -1.8], 4)
    for _ in range(20):
        found, _, own_leg = robot.place(qpos)
        error = feet + [0.0, 0.0, gait.trunk_height] - found
        qpos[robot.qpos[6:]] += np.linalg.solve(own_leg, error[..., None]).ravel()
    return qpos


class TrotController:
    """Trot in a commanded direction at a commanded speed, facing a commanded heading; all may change at each step.

    Feet are placed as in Raibert, *Legged Robots That Balance* (1986): half a stance ahead of the hip plus a share of
    the velocity error. Desired accelerations of trunk and feet give those of the joints; the equations of motion of the
    floating base, M qdd + h = S^T tau + J^T f, then give contact forces by weighted least squares (trunk rows) and
    joint torques (leg rows).

    model: compiled Unitree A1 torque model, nq = nv = 18. direction: of travel in the world frame, rad; 0 is +x, pi/2 is +y.
    speed: along that direction, m/s. gait: None for `Gait()`. control_dt: time between calls of `torque`, s, over which the
    torque is held. Raises KeyError where the model lacks one of the A1's joints or feet, ValueError where it has further
    coordinates, or its actuators are in another order.
    """

    def __init__(
        self,
        model,
        direction: float,
        speed: float = 0.5,
        heading: float = 0.0,
        turn_rate: float = 0.0,
        gait: Gait | None = None,
        control_dt: float = CONTROL_DT,
    ):
        self.gait = gait = gait or Gait()
        self.control_dt, self.phase = control_dt, 0.0
        self.velocity = speed * np.array([np.cos(direction), np.sin(direction)])
        self.heading, self.turn_rate, self._acceleration = heading, turn_rate, np.zeros(2)
        self._robot = RobotModel(model, gait.foot_radius)
        legs = self._robot.leg_dof
        self._damping, self._frictionloss = model.dof_damping[legs], model.dof_frictionloss[legs]
        self._gear = model.actuator_gear[:, 0].copy()
        self._neutral = gait.neutral_feet

    def steer(self, direction: float, speed: float, heading: float = 0.0, turn_rate: float = 0.0) -> None:
        """Command a direction of travel, rad, and a heading, rad, in the world frame; m/s; rad/s at which the heading turns.

        Called before each step, it makes the trunk accelerate as the command does.
        """
        velocity = speed * np.array([np.cos(direction), np.sin(direction)])
        self._acceleration = _bounded((velocity - self.velocity) / self.control_dt, self.gait.max_acceleration)
        self.velocity, self.heading, self.turn_rate = velocity, heading, turn_rate

    def reset(self, data: mujoco.MjData, phase: float | None = None) -> None:
        """Begin at the qpos and qvel of `data`, FR and RL at `phase` in [0, 1), 0 being their touch-down.

        None estimates the phase from the feet. The desired position becomes the present one.
        """
        gait = self.gait
        position, velocity, feet, _, _, foot_velocity, _ = self._observe(data)
        self.phase = self._estimate_phase(position, velocity, feet, foot_velocity) if phase is None else float(phase) % 1.0
        self._desired = self._on_the_path(position)[:2].copy()
        _, swing = gait.clock(self.phase)
        # A swing that is under way began where the nominal walk would have lifted the foot.
        since_lift_off = np.clip(swing, 0.0, 1.0) * gait.swing_time
        self._lift_off = self._hips(self._on_the_path(position))
        self._lift_off[:, :2] -= np.outer(gait.stance_time / 2 + since_lift_off, self.velocity)
        self._target = self._touchdown(position, self._nominal_velocity(), feet, swing)
        self._was_swinging = swing >= 0.0
        # A foot found on the ground in mid-swing cannot catch up with its swing: it bears load until the next one.
        self._held = (swing > 0.15) & (feet[:, 2] < gait.touchdown_height + 0.01)

    def action(self, data: mujoco.MjData) -> np.ndarray:
        """Return `torque` as controls, (12,): divided by the actuators' gear (34 Nm) and clipped to [-1, 1]."""
        return np.clip(self.torque(data) / self._gear, -1.0, 1.0)

    def torque(self, data: mujoco.MjData) -> np.ndarray:
        """Return the joint torques, (12,), Nm, not clipped: hip, thigh, calf of FR, FL, RR, RL.

        Call once per control period, after `reset`: it advances the gait's clock. Only reads qpos and qvel of `data`.
        """
        gait, robot = self.gait, self._robot
        position, velocity, feet, by_trunk, by_leg, foot_velocity, foot_bias = self._observe(data)
        stance_time, swing = gait.clock(self.phase)
        self._held &= swing >= 0.0
        swinging = (swing >= 0.0) & ~self._held
        goal, goal_velocity, foot_acceleration = self._swing(position, velocity, feet, swing, swinging)
        feedback = gait.swing_gains[0] * (goal - feet) + gait.swing_gains[1] * (goal_velocity - foot_velocity)
        foot_acceleration = (foot_acceleration + feedback) * swinging[:, None]

        from_foot = np.linalg.inv(by_leg)
        trunk_acceleration = self._trunk_acceleration(position, velocity)
        relative = foot_acceleration - foot_bias - by_trunk @ trunk_acceleration
        acceleration = np.concatenate([trunk_acceleration, np.einsum("lij,lj->li", from_foot, relative).ravel()])
        load = robot.mass_matrix() @ acceleration + robot.bias(data.qvel)
        force = self._contact_forces(by_trunk.reshape(12, 6), load[:6], position, velocity, stance_time)
        # Joint losses are fed forward at the goal's speed: at the measured one they would undo the real damping.
        joint_velocity = np.einsum("lij,lj->li", from_foot, goal_velocity - by_trunk @ velocity)
        losses = self._damping * joint_velocity + self._frictionloss * np.tanh(joint_velocity / gait.friction_speed)
        self.phase = (self.phase + self.control_dt / gait.period) % 1.0
        return load[6:] + (losses - np.einsum("lij,li->lj", by_leg, force)).ravel()

    def _observe(self, data):
        """Trunk position and velocity (6,); feet and Jacobians as in `place`; feet's velocity and J' q' (4, 3)."""
        robot, ahead = self._robot, 1e-6
        trunk_velocity, leg_velocity = data.qvel[robot.dof[:6]], data.qvel[robot.leg_dof][..., None]
        _, trunk_ahead, leg_ahead = robot.place(data.qpos + ahead * data.qvel)
        feet, by_trunk, by_leg = robot.place(data.qpos)
        foot_velocity = by_trunk @ trunk_velocity + (by_leg @ leg_velocity)[..., 0]
        foot_bias = (trunk_ahead @ trunk_velocity + (leg_ahead @ leg_velocity)[..., 0] - foot_velocity) / ahead
        position = data.qpos[robot.qpos[:6]]
        position[:3] += robot.origin
        return position, trunk_velocity, feet, by_trunk, by_leg, foot_velocity, foot_bias

    @property
    def _left(self) -> np.ndarray:
        """Unit vector to the left of the commanded heading, (2,)."""
        return np.array([-math.sin(self.heading), math.cos(self.heading)])

    def _on_the_path(self, position: np.ndarray) -> np.ndarray:
        """Return the trunk's coordinates, (6,), without the gait's sway."""
        position = position.copy()
        position[:2] -= self.gait.sway(self.phase)[0] * self._left
        return position

    def _nominal_velocity(self) -> np.ndarray:
        """The trunk's horizontal velocity as commanded, with the gait's sway, (2,)."""
        return self.velocity + self.gait.sway(self.phase)[1] * self._left

    def _hips(self, position, ahead=0.0) -> np.ndarray:
        """Neutral feet under the trunk, turned by its yaw in `ahead` s, a number or (4,), at touch-down height, (4, 3)."""
        yaw = np.broadcast_to(position[5] + ahead * self.turn_rate, 4)
        c, s = np.cos(yaw), np.sin(yaw)
        x, y = self._neutral[:, :2].T
        return np.column_stack(
            [position[0] + c * x - s * y, position[1] + s * x + c * y, np.full(4, self.gait.touchdown_height)]
        )

    def _touchdown(self, position, velocity, feet, swing) -> np.ndarray:
        """Positions in which the feet should land, (4, 3) (Raibert 1986, chapter 2)."""
        gait = self.gait
        ahead = (1.0 - swing) * gait.swing_time + gait.stance_time / 2
        target = self._hips(self._on_the_path(position), ahead)
        target[:, :2] += np.outer(ahead, self.velocity) + np.outer(
            ahead**2 / 2 - gait.trunk_height / GRAVITY, self._acceleration
        )
        error = velocity[:2] - self._nominal_velocity()
        if gait.sways:
            error = error - (error @ self._left) * self._left
            target[:, :2] += np.outer(self._catching(position, velocity, feet, swing), self._left)
        target[:, :2] += gait.velocity_feedback * error
        return target

    def _catching(self, position, velocity, feet, swing) -> np.ndarray:
        """How far to the left of their nominal place feet should land so that the trunk sways as it should, (4,), m.

        Until they do, it falls away from the feet that bear it, as an inverted pendulum; then they stand under its capture
        point (Pratt et al., Capture Point: A Step toward Humanoid Push Recovery, 2006).
        """
        gait, left = self.gait, self._left
        stance_time, bearing = gait.clock(self.phase)
        load = gait.load(stance_time) * (bearing < 0.0)
        if not load.any():
            return np.zeros(4)
        load /= load.sum()
        sway, sway_velocity, _ = gait.sway(self.phase)
        drift = self.velocity @ left
        nominal = LEG_SIDE[:, 1] * gait.foot_offset[1] - drift * (stance_time - gait.stance_time / 2)
        away = (position[:2] - load @ feet[:, :2]) @ left - (sway - load @ nominal)
        rate = velocity[:2] @ left - drift - sway_velocity
        w, time = gait.frequency, np.clip(1.0 - swing, 0.0, 1.0) * gait.swing_time
        return (away + rate / w) * np.exp(w * time) - away

    def _swing(self, position, velocity, feet, swing, swinging):
        """Reference position, velocity and acceleration of the feet, (4, 3) each; velocity is 0 in stance."""
        gait = self.gait
        lifting, free = swinging & ~self._was_swinging, swinging & (swing < 1.0 - gait.freeze)
        self._was_swinging = swinging
        self._lift_off[lifting] = feet[lifting]
        self._target[free] = self._touchdown(position, velocity, feet, swing)[free]
        s = np.where(swinging, swing, 0.0)[:, None]
        value, rate, rate2 = (x * (self._target - self._lift_off) for x in quintic(s))
        angle = 2 * np.pi * s[:, 0]
        value[:, 2] += gait.clearances * (1 - np.cos(angle)) / 2
        rate[:, 2] += gait.clearances * np.pi * np.sin(angle)
        rate2[:, 2] += gait.clearances * 2 * np.pi**2 * np.cos(angle)
        return self._lift_off + value, rate / gait.swing_time, rate2 / gait.swing_time**2

    def _trunk_acceleration(self, position, velocity) -> np.ndarray:
        """Desired acceleration of the trunk's coordinates, (6,); moves the desired position on."""
        gait, place = self.gait, self._on_the_path(position)
        self._desired = place[:2] + _bounded(self._desired - place[:2], gait.max_position_error)
        error = np.array([*self._desired, gait.trunk_height, 0.0, 0.0, self.heading]) - place
        error[5] = math.remainder(error[5], 2 * math.pi)
        rates = np.array([*self._nominal_velocity(), 0.0, 0.0, 0.0, self.turn_rate]) - velocity
        acceleration = gait.position_gains * error + gait.velocity_gains * rates
        acceleration[:2] = _bounded(acceleration[:2] + self._acceleration, gait.max_acceleration)
        acceleration[:2] += gait.sway(self.phase)[2] * self._left
        self._desired = self._desired + self.velocity * self.control_dt
        return acceleration

    def _contact_forces(self, grasp, wrench, position, velocity, stance_time) -> np.ndarray:
        """Contact forces, (4, 3): min |sum J^T f - wrench|^2_W + sum alpha |f|^2, then bounds and friction; grasp: (12, 6)."""
        gait = self.gait
        ramp = gait.load(stance_time)
        ramp[self._held] = 1.0
        compliance = np.repeat(ramp**2 / gait.force_weight, 3)
        # Near a fall the moments that right the trunk matter more than its velocity.
        danger = np.abs(position[3:5]) + 0.1 * np.abs(velocity[3:5])
        weights = np.array(gait.wrench_weights)
        weights[3:5] *= 1.0 + 5.0 * np.clip((danger - 0.1) / 0.1, 0.0, 4.0)
        # The minimiser in its 6 x 6 form: feet in the air have no compliance and drop out by themselves.
        slack = np.diag(1.0 / weights)
        if gait.sways:
            slack[:2, :2] += (1.0 / gait.swaying_weight - 1.0) * np.outer(self._left, self._left)
        gram = (grasp.T * compliance) @ grasp + slack
        force = (compliance * (grasp @ np.linalg.solve(gram, wrench))).reshape(4, 3)
        force[:, 2] = np.clip(force[:, 2], *gait.force_range) * ((stance_time < gait.stance_time) | self._held)
        limit = gait.friction * force[:, 2] / np.maximum(np.hypot(force[:, 0], force[:, 1]), 1e-9)
        force[:, :2] *= np.minimum(1.0, limit)[:, None]
        return force

    def _estimate_phase(self, position, velocity, feet, foot_velocity) -> float:
        """Phase of the walk, at the velocity of the trunk, that explains the feet's positions and velocities best."""
        gait, candidates = self.gait, np.arange(200) / 200
        places, rates = gait.nominal_feet(candidates, velocity[:2])
        places = places + self._hips(position)
        places[..., :2] -= gait.sway(candidates)[0][:, None, None] * self._left
        expected = np.concatenate([places, rates], axis=-1)
        error = np.concatenate([feet, foot_velocity], axis=1) - expected
        # This time makes height and vertical velocity of a swing weigh the same.
        error[..., 3:] *= gait.swing_time / np.pi
        return float(candidates[np.argmin(np.square(error).sum((1, 2)))])


def _bounded(vector: np.ndarray, bound: float) -> np.ndarray:
    return vector * min(1.0, bound / max(float(np.hypot(*vector)), 1e-9))
