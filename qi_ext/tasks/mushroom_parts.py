"""Parts of mushroom-rl's MuJoCo environment that ours has in another form, and the keywords that ours takes."""

import inspect
from collections.abc import Iterable
from typing import Any

import mujoco
import numpy as np
from mushroom_rl.utils.mujoco import MujocoViewer, ObservationHelper

from qi_ext.robot.addresses import addresses
from qi_ext.utils.drawing import drawing_context
from qi_ext.utils.words import did_you_mean

# Keywords of upstream's constructors that `QuadrupedDirection` sets, or that are set on the way to them.
_TAKEN = {"self", "kwargs", "xml_handles", "action_spec", "observation_spec", "collision_groups", "random_start"}
_TAKEN |= {"model", "dt", "record", "viewer_params"}


def require_known(names: Iterable[str], *classes: type) -> None:
    """Raise TypeError for a name that is no keyword of the constructors of `classes`, of which the first is ours."""
    found = dict.fromkeys(name for each in classes for name in inspect.signature(each.__init__).parameters)
    known = [name for name in found if name not in _TAKEN]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, alike=0.6) or f"; known are {', '.join(known)}"
            raise TypeError(f"{classes[0].__name__}: unknown keyword {name!r}{hint}")


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
