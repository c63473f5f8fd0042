"""Synthetic motions of the A1 in loco-mujoco's two formats, for probes and tests; no data set has to be installed."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np

REAL_SIMPLE = "datasets/quadrupeds/real/walk_straight.npz"
PERFECT_SIMPLE = "datasets/quadrupeds/perfect/unitreea1_simple/perfect_expert_dataset_det.npz"
SPEED = 0.5  # m/s, commanded and walked


def real_set(n_trajectories=2, n_samples=100, direction=0.0):
    """Motion in loco-mujoco's real format, 500 Hz: the trunk glides, the legs swing. direction: rad, walked and commanded.

    Returns {key: (n_trajectories * n_samples,) array, `dir_arrow` (..., 9)}.
    """
    from loco_mujoco.environments import UnitreeA1
    from mushroom_rl.utils.angles import euler_to_mat

    n = n_trajectories * n_samples
    time = np.arange(n) / 500.0
    joints = [key[2:] for key, *_ in UnitreeA1._get_observation_specification() if key.startswith("q_")]
    motion = {"trunk_tx": SPEED * np.cos(direction) * time, "trunk_ty": SPEED * np.sin(direction) * time}
    motion["trunk_tz"] = np.full(n, -0.17)
    motion |= {f"trunk_{angle}": np.zeros(n) for angle in ("list", "tilt", "rotation")}
    rest = {"hip": 0.0, "thigh": 0.9, "calf": -1.8}
    for i, joint in enumerate(joints[6:]):
        motion[joint] = rest[joint.split("_")[1]] + 0.1 * np.sin(2.0 * np.pi * time + i)
    files = {f"q_{joint}": motion[joint] for joint in joints}
    files |= {f"dq_{joint}": np.gradient(motion[joint], time) for joint in joints}
    # The observed goal is the arrow's angle less a quarter turn.
    files["dir_arrow"] = np.tile(euler_to_mat(np.array([np.pi / 2, 0.0, direction + np.pi / 2])).reshape(9), (n, 1))
    files["goal_speed"] = np.full(n, SPEED)
    files["split_points"] = np.arange(n_trajectories + 1) * n_samples
    return files


def perfect_set(n_trajectories=2, n_samples=50, direction=0.0, speed=SPEED):
    """Motion in the perfect format, 100 Hz: (N, 37) states, (N, 12) actions. speed: m/s, commanded; it walks at `SPEED`."""
    n = n_trajectories * n_samples
    states = np.zeros((n, 37))
    states[:, 0] = -0.17
    states[:, 4:16] = np.tile([0.0, 0.9, -1.8], 4)
    states[:, 16], states[:, 17] = SPEED * np.cos(direction), SPEED * np.sin(direction)
    states[:, 34:] = np.cos(direction), np.sin(direction), speed
    last = (np.arange(n) + 1) % n_samples == 0
    return {
        "states": states,
        "next_states": states,
        "actions": np.zeros((n, 12)),
        "absorbing": np.zeros(n),
        "last": last.astype(float),
    }


@contextlib.contextmanager
def data_sets(files=()):
    """Context in which loco-mujoco looks for its data sets in a temporary directory. files: {path in the package: arrays}."""
    import loco_mujoco

    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory).resolve()
        for path, arrays in dict(files).items():
            (package / path).parent.mkdir(parents=True, exist_ok=True)
            np.savez(package / path, **arrays)
        before = loco_mujoco.__file__
        loco_mujoco.__file__ = str(package / "__init__.py")
        try:
            yield package
        finally:
            loco_mujoco.__file__ = before


def quiet():
    """Silence MuJoCo's window library, which warns where there is no screen."""
    import warnings

    warnings.filterwarnings("ignore", message=".*DISPLAY environment variable is missing")


def a1(n_trajectories=2, n_samples=100, direction=0.0, **keywords):
    """Return an A1 with `real_set` of that many trajectories, resampled to the control frequency; no file is read."""
    quiet()
    from loco_mujoco.environments import UnitreeA1

    environment = UnitreeA1(reward_type="velocity_vector", reward_params={}, **keywords)
    files = real_set(n_trajectories, n_samples, direction)
    environment.load_trajectory({"traj_files": files, "traj_dt": 1 / 500, "control_dt": environment.dt}, warn=False)
    return environment
