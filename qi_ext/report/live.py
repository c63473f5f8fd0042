"""An agent in MuJoCo's viewer, on a screen: the camera moves freely, and the mouse pushes the robot."""

import sys
import time
import warnings

import glfw
import mujoco.viewer
import numpy as np
from loco_mujoco.environments import UnitreeA1

from qi_ext.evaluation.stock import ActorPolicy, ExpertPolicy
from qi_ext.robot import a1
from qi_ext.sampling.envs import episode_seed
from qi_ext.utils.errors import UserError

STEPS_PER_PICTURE = 3


def watch(agent, environment, command, seed, deterministic=True):
    """Run episode after episode in real time until the window is closed; a fall ends an episode.

    agent: an `EvaluatedAgent`. environment: its `QuadrupedDirection`. command: a `Command`.
    Raises UserError where there is no screen.
    """
    if not _has_screen():
        raise UserError("--live: there is no screen here (DISPLAY names none that answers); make a film with --output walk.mp4")
    policy = ExpertPolicy() if agent.actor is None else ActorPolicy(agent.actor, deterministic)
    episode = 0
    with mujoco.viewer.launch_passive(environment.model, environment.data) as viewer:
        viewer.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        viewer.cam.trackbodyid, viewer.cam.distance = environment.model.body("trunk").id, 2.0
        while viewer.is_running():
            start, noise = episode_seed(seed, agent.step, command, episode).spawn(2)
            environment.seed(start)
            observation = environment.reset(command=command)
            policy.begin(environment, command, np.random.default_rng(noise))
            due = time.monotonic()
            for t in range(environment.info.horizon):
                observation, _, absorbing, _ = environment.step(policy.draw_action(observation))
                if t % STEPS_PER_PICTURE == 0:
                    # The arrow is for the picture only, so the environment does not turn it.
                    UnitreeA1._set_goal_arrow(environment)
                    viewer.sync()
                due += a1.CONTROL_DT
                time.sleep(max(0.0, due - time.monotonic()))
                if absorbing or not viewer.is_running():
                    break
            episode += 1


def _has_screen():
    """Return True where a window can be opened; only Linux tells beforehand."""
    if sys.platform != "linux":
        return True
    with warnings.catch_warnings(action="ignore"):
        return bool(glfw.init())
