"""Patches of the A1's demonstrations: velocities, directions and speeds are those of the recording."""

import numpy as np

from patches.library import Seen, crash
from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.synthetic import PERFECT_SIMPLE, SPEED, a1, data_sets, perfect_set, quiet, real_set

_QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _direction(observation):
    """Direction of the goal in an A1 observation, deg."""
    return float(np.degrees(np.arctan2(observation[35], observation[34])))


def _probe_first_velocity():
    states = a1(n_trajectories=2).create_dataset()["states"]
    first, second = states[:2, 16]
    return "" if abs(first - second) < 1e-9 else f"{first:.3f} m/s at the first sample, {second:.3f} at the second"


@LIBRARY.patch(
    "first-velocity",
    target="loco_mujoco.environments.quadrupeds.unitreeA1:UnitreeA1._interpolate_remap",
    sees="all velocities of the first sample of each resampled trajectory are 0, in the demonstrations and after resets to it",
    remedy="the first sample gets the forward difference, which is the second's velocity",
    changes_results="first samples of demonstrations, and episodes that start at them, move as the recording does",
    probe=_probe_first_velocity,
)
def _install_first_velocity(edits):
    from loco_mujoco.environments import UnitreeA1

    @edits.wrap(UnitreeA1, "_interpolate_remap")
    def interpolate_remap(original, traj, **params):
        trajectory = original(traj, **params)
        for i in params["velocity_indices"]:
            if len(trajectory[i]) > 1:
                trajectory[i][0] = trajectory[i][1]
        return trajectory


def _probe_arrow():
    quiet()
    from loco_mujoco.environments import UnitreeA1
    from mushroom_rl.utils.angles import euler_to_mat

    environment = UnitreeA1(random_start=False)
    files = real_set(n_trajectories=1)
    # A goal of 90 degrees is an arrow at 180, on either side of which a recording's rounding falls.
    angles = np.pi + 1e-6 * (-1.0) ** np.arange(len(files["dir_arrow"]))
    files["dir_arrow"] = np.array([euler_to_mat(np.array([np.pi / 2, 0.0, angle])).reshape(9) for angle in angles])
    environment.load_trajectory({"traj_files": files, "traj_dt": 1 / 500, "control_dt": environment.dt}, warn=False)
    off = max(abs(_direction(state) - 90.0) for state in environment.create_dataset()["states"])
    return "" if off < 0.1 else f"goals up to {off:.0f} degrees off a recorded 90"


@LIBRARY.patch(
    "arrow-unwrap",
    target="loco_mujoco.environments.quadrupeds.unitreeA1:UnitreeA1._interpolate_map",
    sees="goal directions at or near 90 degrees come out as any direction: their arrow's angle jumps between -pi and pi and is "
    "interpolated across the jump",
    remedy="the arrow's angle is unwrapped before the interpolation, as the trunk's angles are",
    changes_results="goal directions of such demonstrations are the recorded ones",
    probe=_probe_arrow,
)
def _install_arrow(edits):
    from loco_mujoco.environments import UnitreeA1

    @edits.wrap(UnitreeA1, "_interpolate_map")
    def interpolate_map(original, traj, **params):
        mapped = original(traj, **params)
        mapped[params["rot_mat_idx"]] = np.unwrap(mapped[params["rot_mat_idx"]])
        return mapped


def _perfect_episode(**keywords):
    """First observation of an episode that starts in `perfect_set` of these keywords."""
    quiet()
    from loco_mujoco import LocoEnv

    with data_sets({PERFECT_SIMPLE: perfect_set(**keywords)}):
        return LocoEnv.make("UnitreeA1.simple.perfect").reset()


def _probe_heading():
    seen = _direction(_perfect_episode(direction=np.radians(30.0)))
    return "" if abs(seen - 30.0) < 1e-6 else f"in a perfect set of 30 degrees, a reset's goal is {seen:.0f}"


@LIBRARY.patch(
    "perfect-heading",
    target="loco_mujoco.environments.quadrupeds.unitreeA1:UnitreeA1.load_dataset_and_get_traj_files",
    sees="with a perfect data set, resets command a direction 90 degrees clockwise of the one in the demonstrations",
    remedy="the arrow made of a goal is turned by the 90 degrees that observations take off again",
    changes_results="on perfect sets the commanded direction is the demonstrated one",
    upstream="https://github.com/robfiras/loco-mujoco/issues/32",
    probe=_probe_heading,
)
def _install_heading(edits):
    from loco_mujoco.environments import UnitreeA1

    @edits.wrap(UnitreeA1, "load_dataset_and_get_traj_files")
    def load_dataset(original, self, *arguments, **keywords):
        files = original(self, *arguments, **keywords)
        arrows = np.asarray(files["dir_arrow"])
        files["dir_arrow"] = (_QUARTER_TURN @ arrows.reshape(-1, 3, 3)).reshape(arrows.shape)
        return files


def _probe_goal_speed():
    seen = _perfect_episode(speed=2 * SPEED)[36]
    return "" if abs(seen - 2 * SPEED) < 1e-9 else f"in a perfect set with {2 * SPEED} m/s, a reset's goal is {seen:.2f}"


@LIBRARY.patch(
    "perfect-goal-speed",
    target="loco_mujoco.environments.quadrupeds.unitreeA1:UnitreeA1.load_dataset_and_get_traj_files",
    sees="with a perfect data set, resets command the mean speed of all its samples, not the speed commanded in it: the "
    "observed goal alone tells agent from demonstrations",
    remedy="the goal speed is the one in the set's observations, where they have it",
    changes_results="on perfect sets the commanded speed is the demonstrated one",
    upstream="https://github.com/robfiras/loco-mujoco/issues/32",
    probe=_probe_goal_speed,
)
def _install_goal_speed(edits):
    from loco_mujoco.environments import UnitreeA1

    @edits.wrap(UnitreeA1, "load_dataset_and_get_traj_files")
    def load_dataset(original, self, *arguments, **keywords):
        files = original(self, *arguments, **keywords)
        states = np.atleast_2d(self._dataset["states"])
        # The arrow has two columns, and the x and y before it have none.
        column = [key for key, *_ in self.obs_helper.observation_spec].index("dir_arrow")
        if states.shape[1] > column:
            files["goal_speed"] = states[:, column].copy()
        return files


def _probe_single():
    return crash(_perfect_episode, n_trajectories=1)


@LIBRARY.patch(
    "perfect-single",
    target="loco_mujoco.environments.base:np, loco_mujoco.environments.quadrupeds.unitreeA1:np",
    sees="a perfect data set of a single trajectory cannot be loaded: ValueError, zero-dimensional arrays",
    remedy="the two modules see a numpy whose squeeze leaves one dimension, which is all they use it for",
    probe=_probe_single,
)
def _install_single(edits):
    quiet()
    from loco_mujoco.environments import base
    from loco_mujoco.environments.quadrupeds import unitreeA1

    numpy_for_them = Seen(np, squeeze=lambda array: np.atleast_1d(np.squeeze(array)))
    for module in (base, unitreeA1):
        edits.replace(module, "np", numpy_for_them)
