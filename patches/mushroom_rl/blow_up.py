"""Patch of MuJoCo environments: a simulation that blows up raises after the step, not inside of MuJoCo."""

import os
import signal

from patches.library import Seen
from patches.mushroom_rl.library import LIBRARY

_FALLING = """
<mujoco>
  <worldbody>
    <body name="ball"><joint name="slide" type="slide" axis="0 0 1"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><motor name="lift" joint="slide"/></actuator>
</mujoco>
"""


def _probe_abort():
    child = os.fork()
    if not child:
        code = 1
        try:
            _blow_up()
        except RuntimeError:
            code = 0
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended == -signal.SIGABRT:
        return "the process aborts"
    return "" if ended == 0 else f"no RuntimeError, but exit code {ended}"


def _blow_up():
    import tempfile

    from mushroom_rl.environments.mujoco import MuJoCo
    from mushroom_rl.utils.mujoco import ObservationType

    class Ball(MuJoCo):
        def reward(self, *arguments):
            return 0.0

        def is_absorbing(self, observation):
            return False

    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(_FALLING)
        file.flush()
        ball = Ball(file.name, ["lift"], [("height", "slide", ObservationType.JOINT_POS)], gamma=0.9, horizon=10)
    ball.reset()
    ball._data.qvel[:] = 1e12
    ball.step([0.0])


@LIBRARY.patch(
    "blow-up-aborts",
    target="mushroom_rl.environments.mujoco:MuJoCo",
    sees="with MuJoCo 4.0, a simulation that blows up aborts the process, because the library raises inside MuJoCo's callback",
    remedy="the same RuntimeError is raised once MuJoCo's step is over",
    probe=_probe_abort,
)
def _blow_up_aborts(edits):
    import mujoco
    from mushroom_rl.environments import mujoco as module

    def mj_step(*arguments):
        seen, handler = [], mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(seen.append)
        try:
            mujoco.mj_step(*arguments)
        finally:
            mujoco.set_mju_user_warning(handler)
        if seen:
            module.MuJoCo.user_warning_raise_exception(seen[0])

    edits.replace(module, "mujoco", Seen(mujoco, mj_step=mj_step, set_mju_user_warning=lambda handler: None))
