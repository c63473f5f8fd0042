"""Read and write the npz formats of loco-mujoco 0.4.1, its real and its perfect one.

Conventions of its environments/quadrupeds/unitreeA1.py and utils/trajectory.py: the real format holds one array for each joint
at 500 Hz, and the goal as the rotation matrix of an arrow; the perfect format holds observations and actions at 100 Hz.
"""

from pathlib import Path

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from qi_ext.demonstrations.dataset import HZ, REAL_HZ, Demonstrations
from qi_ext.demonstrations.npz import (
    command_of,
    floats,
    require_few_segments,
    require_finite,
    require_keys,
    whole_numbers,
    write_npz,
)
from qi_ext.robot import a1
from qi_ext.utils.errors import UserError
from qi_ext.utils.output import printable

REAL_FACTOR = round(REAL_HZ / HZ)  # samples of the real format for each control step
REAL = tuple(f"{prefix}_{joint}" for prefix in ("q", "dq") for joint in a1.JOINTS) + ("dir_arrow", "goal_speed")


def is_real(arrays):
    """Return whether {key: array} look like the real format."""
    return "states" not in arrays and any(key.startswith("q_trunk") for key in arrays)


def from_perfect(arrays, path):
    """Return the `Demonstrations` of the perfect format, {key: array}. Raises UserError, naming `path`, where it holds none."""
    require_keys(arrays, ("states", "last"), path, "add it: (N,), 1 in the last row of each piece of motion, 0 in the others")
    states = floats(arrays, "states", path)
    last = floats(arrays, "last", path).reshape(-1)
    if states.ndim != 2 or states.shape[1] != a1.N_OBSERVATIONS or len(last) != len(states):
        raise UserError(
            f"demonstrations: {path}: states must be (N, {a1.N_OBSERVATIONS}) and last (N,), "
            f"not {states.shape} and {last.shape}"
        )
    require_finite(last, "last", path)
    bounds = np.unique(np.concatenate([[0], np.flatnonzero(last) + 1, [len(states)]]))
    if np.any(np.diff(bounds) < 2):
        row = bounds[np.argmax(np.diff(bounds) < 2)]
        raise UserError(f"demonstrations: {path}: last makes an episode of row {row} alone; an episode needs 2 rows at least")
    return _recorded(states, bounds, path, "perfect", actions=floats(arrays, "actions", path) if "actions" in arrays else None)


def from_real(arrays, path):
    """Return the `Demonstrations` of the real format, {key: array}. Raises UserError, naming `path`, where it holds none."""
    require_keys(arrays, REAL, path)
    columns = {key: np.atleast_1d(floats(arrays, key, path)) for key in REAL}
    length = len(columns["q_trunk_tx"])
    for key, column in columns.items():
        if len(column) != length or column.size != length * (9 if key == "dir_arrow" else 1):
            raise UserError(f"demonstrations: {path}: {key} has shape {column.shape}, but q_trunk_tx has {length} rows")
        require_finite(column, key, path)
    bounds = whole_numbers(arrays, "split_points", path) if "split_points" in arrays else np.array([0, length])
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != length or np.any(np.diff(bounds) < 2 * REAL_FACTOR):
        raise UserError(f"demonstrations: {path}: split_points must rise from 0 to {length} by at least 10 rows a segment")
    arrows = columns["dir_arrow"].reshape(-1, 3, 3)
    if np.abs(np.linalg.det(arrows) - 1.0).max() > 1e-3:
        raise UserError(f"demonstrations: {path}: dir_arrow must hold rotation matrices, 9 numbers a row")
    direction = Rotation.from_matrix(arrows).as_euler("xyz")[:, 2] - np.pi / 2
    goal = np.stack([np.cos(direction), np.sin(direction), columns["goal_speed"].reshape(-1)], axis=1)
    positions = np.stack([columns[f"q_{joint}"].reshape(-1) for joint in a1.JOINTS[2:]], axis=1)
    velocities = np.stack([columns[f"dq_{joint}"].reshape(-1) for joint in a1.JOINTS], axis=1)
    states = np.concatenate([positions, velocities, goal], axis=1)
    rows = [np.arange(begin, end, REAL_FACTOR) for begin, end in zip(bounds[:-1], bounds[1:], strict=True)]
    note = (
        "500 Hz real recording taken at 100 Hz, with its recorded velocities "
        "(loco-mujoco's finite differences are 0 at each segment's first sample)"
    )
    bounds = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    return _recorded(states[np.concatenate(rows)], bounds, path, "real", notes=(note,), recorded_hz=REAL_HZ)


def _recorded(states, bounds, path, form, actions=None, notes=(), recorded_hz=HZ):
    """Return `Demonstrations` of a loco-mujoco format, whose commands are read from the goal features."""
    require_few_segments(len(bounds) - 1, path)
    require_finite(states, "states", path)
    commands = []
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        cosine, sine, speed = states[begin:end, a1.GOAL].T
        if np.abs(np.hypot(cosine, sine) - 1.0).max() > 0.01 or not np.all(np.isfinite(speed)):
            raise UserError(f"demonstrations: {path}: goal features of rows {begin} to {end} are not cosine, sine and speed")
        mean = np.arctan2(sine.mean(), cosine.mean())
        if (np.cos(mean) * cosine + np.sin(mean) * sine).min() < np.cos(np.radians(10.0)):
            raise UserError(f"demonstrations: {path}: the goal turns within rows {begin} to {end}; cut them into segments")
        commands.append(command_of(np.degrees(mean), speed.mean(), path))
    return Demonstrations(
        states=states,
        bounds=np.asarray(bounds, dtype=np.int64),
        commands=tuple(commands),
        kind=("recorded",) * len(commands),
        source=printable(f"recorded, {form} format of loco-mujoco: {Path(path).name}"),
        synthetic=False,
        actions=actions,
        notes=tuple(notes),
        recorded_hz=recorded_hz,
    )


def write_real(path, demonstrations):
    """Write loco-mujoco's real format, 500 Hz, for its `datasets/quadrupeds/real/`.

    Samples are interpolated by the cubic through our positions and velocities; x and y are integrated from the velocities.
    Raises UserError for segments of different lengths, which loco-mujoco cannot read. When it reads the file, its resampling
    stretches time by about 0.8 / (samples of a segment).
    """
    _require_equal_lengths(demonstrations, path)
    parts = [_resampled(demonstrations.states[demonstrations.segment(i)]) for i in range(demonstrations.n_segments)]
    length = len(parts[0][0])
    positions, velocities = (np.concatenate(column) for column in zip(*parts, strict=True))
    write_npz(path, **real_arrays(positions, velocities, demonstrations.commands, length))


def real_arrays(positions, velocities, commands, length):
    """Return the arrays of loco-mujoco's real format, of any frequency, for its `Trajectory` (utils/trajectory.py).

    positions, velocities: (S length, 18), of `a1.JOINTS`. commands: S, one for each trajectory of `length` rows.
    """
    arrays = {f"q_{joint}": positions[:, j] for j, joint in enumerate(a1.JOINTS)}
    arrays |= {f"dq_{joint}": velocities[:, j] for j, joint in enumerate(a1.JOINTS)}
    angles = [(np.pi / 2, 0.0, command.direction + np.pi / 2) for command in commands]
    arrows = Rotation.from_euler("xyz", angles).as_matrix().reshape(-1, 9)
    return arrays | {
        "dir_arrow": np.repeat(arrows, length, axis=0),
        "goal_speed": np.repeat([command.speed for command in commands], length),
        "split_points": np.arange(len(commands) + 1) * length,
    }


def write_perfect(path, demonstrations):
    """Write loco-mujoco's perfect format, 100 Hz observations and actions, for its `datasets/quadrupeds/perfect/`.

    Raises UserError for demonstrations that loco-mujoco could not read: without actions, of a single segment, or of segments
    of different lengths.
    """
    _require_equal_lengths(demonstrations, path)
    if demonstrations.actions is None:
        raise UserError(f"demonstrations: {path}: loco-mujoco's perfect format needs actions, and these have none")
    if demonstrations.n_segments < 2:
        raise UserError(f"demonstrations: {path}: loco-mujoco cannot read a perfect set of a single segment; write two or more")
    write_npz(path, **demonstrations.dataset())


def _require_equal_lengths(demonstrations, path):
    if len(set(np.diff(demonstrations.bounds))) != 1:
        raise UserError(f"demonstrations: {path}: loco-mujoco needs segments of one length; cut them, or write our format")


def _resampled(states):
    """Positions and velocities, (5 n - 4, 18) each, at 500 Hz from (n, 37) observations at 100 Hz."""
    velocity = states[:, a1.VELOCITY]
    xy = integrated(velocity[:, :2])
    time = np.arange(len(states)) * float(REAL_FACTOR)
    spline = CubicHermiteSpline(
        time, np.concatenate([xy, states[:, a1.POSITION]], axis=1), velocity * a1.CONTROL_DT / REAL_FACTOR
    )
    fine = np.arange(REAL_FACTOR * (len(states) - 1) + 1)
    return spline(fine), spline(fine, 1) * REAL_FACTOR / a1.CONTROL_DT


def integrated(velocities):
    """Return the way from the first row on, (n, 2), m, of velocities at 100 Hz, (n, 2), m/s, by the trapezoidal rule."""
    steps = 0.5 * (velocities[1:] + velocities[:-1]) * a1.CONTROL_DT
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
