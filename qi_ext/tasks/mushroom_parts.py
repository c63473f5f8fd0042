"""Parts of mushroom-rl's MuJoCo environment that ours has in another form."""

from typing import Any

import mujoco
import numpy as np
from mushroom_rl.utils.mujoco import MujocoViewer, ObservationHelper

from qi_ext.robot.addresses import addresses
from qi_ext.utils.drawing import drawing_context


class IndexedObservationHelper(ObservationHelper):
    """Upstream's helper, reading positions and velocities by index: the named look-ups of every step cost more than physics."""

    def __init__(self, observation_spec: Any, model: Any, data: Any) -> None:
        super().__init__(observation_spec, model, data, max_joint_velocity=None)
        self.addresses = addresses(model)
        self._arrow = model.site("dir_arrow").id

    def _build_obs(self, data: mujoco.MjData) -> np.ndarray:
        parts = data.qpos[self.addresses.qpos], data.qvel[self.addresses.qvel], data.site_xmat[self._arrow]
        return np.concatenate(parts)


class Viewer(MujocoViewer):
    """Upstream's viewer, drawing without a screen by what works there; upstream takes GLFW, whose failure it does not see."""

    def setup_opengl_backend_headless(self, width: int, height: int) -> Any:
        return drawing_context(width, height)
