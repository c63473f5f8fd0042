"""An agent in MuJoCo's viewer, on a screen: the camera moves freely, the mouse pushes the robot, and a person can steer it."""

import itertools
import sys
import time
import warnings

import glfw
import mujoco.viewer
import numpy as np

from qi_ext.demonstrations.trot import Gait, TrotController
from qi_ext.evaluation.stock import ActorPolicy
from qi_ext.report.gamepad import Gamepad
from qi_ext.report.steering import HELP, Steering
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.envs import episode_seed
from qi_ext.utils.display import say
from qi_ext.utils.errors import UserError

STEPS_PER_PICTURE = 3


def watch(agent, environment, command, seed, deterministic=True, steered_by=""):
    """Run episode after episode in real time until the window is closed; a fall ends an episode.

    agent: an `EvaluatedAgent`. environment: its `QuadrupedDirection`. command: a `Command` or `Course`.
    steered_by: keyboard or gamepad, on follow: a person commands instead, and an episode ends by a fall only.
    Raises UserError where there is no screen, or no gamepad.
    """
    if not _has_screen():
        raise UserError("--live: there is no screen here (DISPLAY names none that answers); make a film with --output walk.mp4")
    policy = _Expert() if agent.actor is None else ActorPolicy(agent.actor, deterministic)
    steering, gamepad = Steering(), Gamepad() if steered_by == "gamepad" else None
    if steered_by:
        command = Command(0.0, 0.0)
    if steered_by == "keyboard":
        say(HELP)
    on_key = steering.key if steered_by == "keyboard" else None
    with mujoco.viewer.launch_passive(environment.model, environment.data, key_callback=on_key) as viewer:
        viewer.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        viewer.cam.trackbodyid, viewer.cam.distance = environment.model.body("trunk").id, 2.0
        for episode in itertools.count():
            start, noise = episode_seed(seed, agent.step, command, episode).spawn(2)
            environment.seed(start)
            observation = environment.reset(command=command)
            steering.stop()
            policy.begin(environment, command, np.random.default_rng(noise))
            due = time.monotonic()
            for t in itertools.count() if steered_by else range(environment.info.horizon):
                if gamepad:
                    steering.sticks(*gamepad.sticks())
                if steered_by:
                    environment.command_array = steering.command(environment.command_array)
                observation, _, absorbing, _ = environment.step(policy.draw_action(observation))
                if t % STEPS_PER_PICTURE == 0:
                    environment.show_command()
                    viewer.sync()
                due += a1.CONTROL_DT
                time.sleep(max(0.0, due - time.monotonic()))
                if not viewer.is_running():
                    return
                if absorbing:
                    break


class _Expert:
    """The trot controller, told at each step what the environment commands."""

    def begin(self, environment, command, generator):
        """Prepare for an episode, after the simulation was reset."""
        self._environment = environment
        self._trot = TrotController(environment.model, *self._steering(), gait=Gait(**environment.task.expert_gait))
        self._trot.reset(environment.data)

    def draw_action(self, state):
        """Return an action, (12,)."""
        self._trot.steer(*self._steering())
        return self._trot.action(self._environment.data)

    def _steering(self):
        return self._environment.task.steering(self._environment.command_array)


def _has_screen():
    """Return True where a window can be opened; only Linux tells beforehand."""
    if sys.platform != "linux":
        return True
    with warnings.catch_warnings(action="ignore"):
        return bool(glfw.init())
