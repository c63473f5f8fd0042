"""What a worker must know of an environment: the compiled model, indices, limits and start states, without the environment."""

from dataclasses import dataclass

import mujoco
import numpy as np

from qi_ext.sampling.envs import DRAWN

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclass(frozen=True, eq=False)
class Starts:
    """Start states, and how an episode's goal is drawn.

    rows: (R, p + v), float64: values of the joints named by `Specification.start_qpos` (p) and `start_qvel` (v).
    ranges: (K, 2), int64: begin and end of rows that are drawn from with equal chances.
    range_of_goal: (C,), int64: an episode first draws one of C goals, and with it the range of its start.
    goals: (C, 3), goal features; or (R, 3), one for each row, where `goal_of_row`.
    """

    rows: np.ndarray
    ranges: np.ndarray
    range_of_goal: np.ndarray
    goals: np.ndarray
    goal_of_row: bool = False

    def draw(self, generator, start_range=DRAWN, goal=None):
        """A row and the goal features of the episode, which are `goal` where `start_range` is given."""
        if start_range == DRAWN:
            choice = int(generator.integers(len(self.range_of_goal)))
            start_range, goal = self.range_of_goal[choice], None if self.goal_of_row else self.goals[choice]
        begin, end = self.ranges[start_range]
        row = int(begin + generator.integers(end - begin))
        return self.rows[row], self.goals[row] if goal is None else goal


@dataclass(frozen=True, eq=False)
class Specification:
    """One environment of the loco-mujoco A1.

    model: `mujoco.MjModel`. name: what it is, for messages.
    position_index (16,), velocity_index (18,): into qpos and qvel, in the order of the observation.
    start_qpos, start_qvel: into qpos and qvel, of the columns of `starts.rows`.
    actuators (12,): into ctrl, which is action * scale + offset.
    n_substeps, horizon: substeps of a control step, control steps of an episode.
    falls: whether a fall ends the episode. rewarded: whether there is a reward (VelocityVectorReward), else it is 0.
    """

    name: str
    model: mujoco.MjModel
    position_index: np.ndarray
    velocity_index: np.ndarray
    start_qpos: np.ndarray
    start_qvel: np.ndarray
    actuators: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    n_substeps: int
    horizon: int
    falls: bool
    rewarded: bool
    starts: Starts

    @property
    def state_size(self):
        """Length of a lane's `state`."""
        return mujoco.mj_stateSize(self.model, STATE)
