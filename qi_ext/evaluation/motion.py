"""Measures of how an agent moves: velocity errors, drift of the heading, energy, torques at their limit."""

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.frames import velocity_in_command_frame


class Motion:
    """A measure for `evaluate`; each number is over all steps of a direction's episodes.

    velocity_error_along, velocity_error_across: m/s, signed means of the trunk's velocity less the commanded one, along the
    command and 90 degrees to its left.
    yaw_drift: degrees/s, |yaw at the end - yaw at the start|, summed over episodes and divided by their duration.
    heading_error: rad, root of the mean squared yaw from the commanded heading.
    energy_per_metre: J/m, the integral of |torque * joint velocity|, summed over joints (no energy is regained in braking),
    divided by the length of the trunk's path in the plane; None where it does not move. The joint velocity in a step is the
    mean of those at its ends.
    torque_saturation: share of the 12 torques, over all steps, at the actuators' limit of 34 Nm.
    """

    def __init__(self, command, episodes):
        """command: not used, each observation holds its own. episodes: how many are added."""
        self._sums = np.zeros((episodes, 8))

    def add(self, episode, rollouts):
        before, after, actions = rollouts.observations[0], rollouts.next_observations[0], rollouts.actions[0]
        along, across = velocity_in_command_frame(before)
        xy, joints = slice(a1.TRUNK_VX, a1.TRUNK_VY + 1), a1.LEG_VELOCITY
        torque = a1.MAX_TORQUE * np.clip(actions, -1.0, 1.0)
        self._sums[episode] = (
            len(before),
            np.sum(along - before[:, a1.GOAL.stop - 1]),
            np.sum(across),
            np.abs(after[-1, a1.YAW] - before[0, a1.YAW]),
            np.sum(before[:, a1.YAW] ** 2),
            a1.CONTROL_DT * np.abs(torque * (before[:, joints] + after[:, joints]) / 2).sum(),
            a1.CONTROL_DT * np.linalg.norm((before[:, xy] + after[:, xy]) / 2, axis=1).sum(),
            np.count_nonzero(np.abs(actions) >= 1.0),
        )

    def result(self):
        steps, along, across, yaw, squared_yaw, energy, distance, saturated = self._sums.sum(axis=0).tolist()
        return {
            "velocity_error_along": along / steps,
            "velocity_error_across": across / steps,
            "yaw_drift": float(np.degrees(yaw)) / (steps * a1.CONTROL_DT),
            "heading_error": float(np.sqrt(squared_yaw / steps)),
            "energy_per_metre": energy / distance if distance > 0.0 else None,
            "torque_saturation": saturated / (steps * a1.N_ACTIONS),
        }
