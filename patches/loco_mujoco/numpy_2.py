"""Patches for numpy 1.24 and later, which have no ragged arrays, np.Inf or arrays in "%f"."""

import numpy as np

from patches.library import Seen, crash
from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.synthetic import a1


def _probe_fallen():
    environment = a1()
    observation = environment.reset()
    observation[environment.get_obs_idx("q_trunk_tz")] = -1.0
    return crash(environment._has_fallen, observation, return_err_msg=True)


class _Numbers(np.ndarray):
    """Array that converts to a float where it holds one number; any array did until numpy 2.4."""

    def __float__(self):
        return float(self.item())


@LIBRARY.patch(
    "fallen-message",
    target="loco_mujoco.environments.quadrupeds.unitreeA1:UnitreeA1._get_from_obs",
    sees="TypeError in place of the message that says why a state counts as fallen",
    remedy="the one-element arrays that go into the message can be formatted as numbers",
    probe=_probe_fallen,
)
def _install_fallen(edits):
    from loco_mujoco.environments import UnitreeA1

    @edits.wrap(UnitreeA1, "_get_from_obs")
    def get_from_obs(original, self, obs, keys):
        return original(self, obs, keys).view(_Numbers)


def _probe_rotation():
    return crash(a1(setup_random_rot=True).reset)


@LIBRARY.patch(
    "random-rotation",
    target="loco_mujoco.utils.math:rotate_obs",
    sees="UnitreeA1(setup_random_rot=True) ends at its first reset: ValueError, inhomogeneous shape",
    remedy="samples, numbers and one rotation matrix, are handed on as arrays of objects, which numpy once made of them",
    probe=_probe_rotation,
)
def _install_rotation(edits):
    import loco_mujoco.environments  # noqa: F401  (imports the function by name)
    from loco_mujoco.utils import math

    @edits.wrap_everywhere(math, "rotate_obs")
    def rotate_obs(original, state, *arguments, **keywords):
        if len({np.shape(entry) for entry in state}) > 1:
            entries = list(state)
            state = np.empty(len(entries), dtype=object)
            for i, entry in enumerate(entries):
                state[i] = entry
        return original(state, *arguments, **keywords)


def _probe_infinity():
    import loco_mujoco  # noqa: F401  (it and its submodule import each other)
    from dm_control import mjcf
    from loco_mujoco.utils.domain_randomization import set_joint_conf

    joint = mjcf.RootElement().worldbody.add("body").add("joint", name="knee", damping=1.0)
    return crash(set_joint_conf, {"damping": {"sigma": 0.1}}, joint)


@LIBRARY.patch(
    "randomization-infinity",
    target="loco_mujoco.utils.domain_randomization:np",
    sees="domain randomization with sigma ends in AttributeError: `np.Inf` was removed in the NumPy 2.0 release",
    remedy="the module sees a numpy that has Inf",
    probe=_probe_infinity,
)
def _install_infinity(edits):
    import loco_mujoco  # noqa: F401  (it and its submodule import each other)
    from loco_mujoco.utils import domain_randomization

    edits.replace(domain_randomization, "np", Seen(np, Inf=np.inf))
