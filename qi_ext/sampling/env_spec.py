"""Description of an environment that is sent to the workers in place of the environment itself."""

from dataclasses import dataclass

import mujoco
import numpy as np

from qi_ext.robot.addresses import Addresses
from qi_ext.tasks.task import Task

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclass(frozen=True, eq=False)
class EnvSpec:
    """One environment of the loco-mujoco A1.

    task: commands, observations, rewards, falls and start states. model: compiled. addresses: of the robot in it.
    scale, offset: (12,); controls are action * scale + offset.
    n_substeps, horizon: substeps of a control step, control steps of an episode.
    falls: whether a fall ends the episode. rewarded: whether steps have the task's reward, else it is 0.
    """

    task: Task
    model: mujoco.MjModel
    addresses: Addresses
    scale: np.ndarray
    offset: np.ndarray
    n_substeps: int
    horizon: int
    falls: bool
    rewarded: bool

    @property
    def state_size(self):
        """Length of an env's `state`."""
        return mujoco.mj_stateSize(self.model, STATE)
