"""Read and write the three npz formats of demonstrations: ours, and loco-mujoco's real and perfect ones.

Conventions of loco-mujoco 0.4.1 (environments/quadrupeds/unitreeA1.py, utils/trajectory.py): the real format holds one array
for each joint at 500 Hz, and the goal as the rotation matrix of an arrow; the perfect format holds observations and actions at
100 Hz.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from qi_ext.demonstrations.checks import check_form
from qi_ext.demonstrations.dataset import HZ, KINDS, REAL_HZ, Demonstrations
from qi_ext.demonstrations.npz import floats, read_npz, require_finite, require_keys, whole_numbers, write_npz
from qi_ext.demonstrations.packing import packed_arrays, unpacked
from qi_ext.demonstrations.stated import honour_stated
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.utils.errors import UserError
from qi_ext.utils.output import printable

FORMAT_VERSION = 3  # of packed arrays; 2 of headings; 1 where the command stays within each segment
MAX_SEGMENTS = 100_000
MAX_SPEED = 100.0  # m/s of a goal
REAL_FACTOR = round(REAL_HZ / HZ)  # samples of the real format for each control step

OURS = ("states", "actions", "executed_actions", "external_force", "kind", "command", "segment_bounds", "initial_state")
REAL = tuple(f"{prefix}_{joint}" for prefix in ("q", "dq") for joint in a1.JOINTS) + ("dir_arrow", "goal_speed")


def read(path):
    """Read `Demonstrations` from an npz of any of the three formats. Raises UserError where it holds none."""
    return from_arrays(read_npz(path), path)


def from_arrays(arrays, path):
    """Return `Demonstrations` of {key: array} in any of the three formats. path: where they are from, for messages.

    They have passed `check_form`, and nothing else of what `load_demonstrations` looks at.
    Raises UserError where there are none.
    """
    arrays = unpacked(arrays, path)
    arrays, notes = honour_stated(arrays, REAL_HZ if _is_real(arrays) else HZ, path)
    ours = "segment_bounds" in arrays
    if ours:
        demonstrations = _from_ours(arrays, path)
    elif "states" in arrays:
        demonstrations = _from_perfect(arrays, path)
    elif _is_real(arrays):
        demonstrations = _from_real(arrays, path)
    else:
        raise UserError(
            f"demonstrations: {path}: holds {', '.join(sorted(arrays)[:8]) or 'nothing'}, which is none of the known formats: "
            "ours (segment_bounds, states, ...), loco-mujoco's perfect (states, last, ...) or its real one (q_trunk_tx, ...)"
        )
    check_form(demonstrations, path)
    demonstrations = replace(demonstrations, notes=(*demonstrations.notes, *notes))
    # Our file holds float32, which rounds the goal features.
    restored = ours and demonstrations.headings is None
    return demonstrations.with_commands(demonstrations.commands) if restored else demonstrations


def write(path, demonstrations, made_by="", packed=False):
    """Write our format: the fields of `Demonstrations`, states and actions in float32.

    made_by: the command line that recorded them, kept in the file. Recorded actions have few enough digits for float32.
    packed: write the form of the embedded sets (packing.py), half as large, which only `load_demonstrations` reads; values are
    rounded to its digits. Raises UserError where one of the arrays is None or the file cannot be written.
    """
    require_ours(demonstrations, path)
    moving = {} if demonstrations.headings is None else {"headings": demonstrations.headings}
    rows = {name: getattr(demonstrations, name) for name in ("states", "actions", "executed_actions")}
    if packed:
        try:
            rows = packed_arrays(**rows, **moving)
        except ValueError as error:
            raise UserError(f"demonstrations: {path}: {error}; write the plain format") from None
    else:
        rows = {name: array.astype(np.float32) for name, array in rows.items()} | moving
    write_npz(
        path,
        format_version=np.array(3 if packed else 2 if moving else 1),
        **rows,
        external_force=demonstrations.external_force.astype(np.float32),
        kind=np.array(demonstrations.kind),
        command=np.array([(command.direction_deg, command.speed) for command in demonstrations.commands]),
        segment_bounds=demonstrations.bounds,
        initial_state=demonstrations.initial_state,
        synthetic=np.array(demonstrations.synthetic),
        source=np.array(demonstrations.source),
        made_by=np.array(made_by),
    )


def require_ours(demonstrations, path):
    """Raise UserError, naming `path`, where one of the arrays that our format needs is None."""
    for name in ("actions", "executed_actions", "external_force", "initial_state"):
        if getattr(demonstrations, name) is None:
            raise UserError(f"demonstrations: {path}: our format needs {name}, and these have none")


def write_loco_mujoco_real(path, demonstrations):
    """Write loco-mujoco's real format, 500 Hz, for its `datasets/quadrupeds/real/`.

    Samples are interpolated by the cubic through our positions and velocities; x and y are integrated from the velocities.
    Raises UserError for segments of different lengths, which loco-mujoco cannot read. When it reads the file, its resampling
    stretches time by about 0.8 / (samples of a segment).
    """
    _require_equal_lengths(demonstrations, path)
    parts = [_resampled(demonstrations.states[demonstrations.segment(i)]) for i in range(demonstrations.n_segments)]
    length = len(parts[0][0])
    positions, velocities = (np.concatenate(column) for column in zip(*parts, strict=True))
    write_npz(path, **loco_mujoco_trajectories(positions, velocities, demonstrations.commands, length))


def loco_mujoco_trajectories(positions, velocities, commands, length):
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


def write_loco_mujoco_perfect(path, demonstrations):
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


def _is_real(arrays):
    return "states" not in arrays and any(key.startswith("q_trunk") for key in arrays)


def _from_ours(arrays, path):
    require_keys(arrays, OURS, path)
    for key in ("format_version", "synthetic", "source"):
        if key in arrays and arrays[key].ndim:
            raise UserError(f"demonstrations: {path}: {key} must be a single value, not of shape {arrays[key].shape}")
    version = float(floats(arrays, "format_version", path)) if "format_version" in arrays else FORMAT_VERSION
    if not version >= 0.0:
        raise UserError(f"demonstrations: {path}: format_version must be a whole number, not {version:g}")
    if version > FORMAT_VERSION:
        raise UserError(f"demonstrations: {path}: format version {version:g} is newer than this program; update it")
    if arrays["kind"].ndim > 1:
        raise UserError(f"demonstrations: {path}: kind must be a row of names, not of shape {arrays['kind'].shape}")
    _require_few_segments(arrays["kind"].size, path)
    kind = tuple(str(kind) for kind in np.atleast_1d(arrays["kind"]))
    unknown = sorted(set(kind) - set(KINDS))
    if unknown:
        raise UserError(
            f"demonstrations: {path}: unknown kind {' '.join(', '.join(unknown).split())[:200]}; known are {', '.join(KINDS)}"
        )
    states = floats(arrays, "states", path)
    table = floats(arrays, "command", path)
    if states.ndim != 2 or states.shape[1] != a1.N_OBSERVATIONS or table.ndim != 2 or table.shape[1] != 2:
        raise UserError(
            f"demonstrations: {path}: states must be (N, {a1.N_OBSERVATIONS}) and command (S, 2), "
            f"not {states.shape} and {table.shape}"
        )
    _require_few_segments(len(table), path)
    return Demonstrations(
        states=states,
        bounds=whole_numbers(arrays, "segment_bounds", path),
        commands=tuple(_command(direction, speed, path) for direction, speed in table),
        kind=kind,
        source=printable(str(arrays.get("source", f"recorded: {Path(path).name}"))[:1000]),
        synthetic=bool(arrays.get("synthetic", False)),
        actions=floats(arrays, "actions", path),
        executed_actions=floats(arrays, "executed_actions", path),
        external_force=floats(arrays, "external_force", path),
        initial_state=floats(arrays, "initial_state", path),
        headings=floats(arrays, "headings", path) if "headings" in arrays else None,
    )


def _from_perfect(arrays, path):
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


def _from_real(arrays, path):
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
    _require_few_segments(len(bounds) - 1, path)
    require_finite(states, "states", path)
    commands = []
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        cosine, sine, speed = states[begin:end, a1.GOAL].T
        if np.abs(np.hypot(cosine, sine) - 1.0).max() > 0.01 or not np.all(np.isfinite(speed)):
            raise UserError(f"demonstrations: {path}: goal features of rows {begin} to {end} are not cosine, sine and speed")
        mean = np.arctan2(sine.mean(), cosine.mean())
        if (np.cos(mean) * cosine + np.sin(mean) * sine).min() < np.cos(np.radians(10.0)):
            raise UserError(f"demonstrations: {path}: the goal turns within rows {begin} to {end}; cut them into segments")
        commands.append(_command(np.degrees(mean), speed.mean(), path))
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


def _require_few_segments(n_segments, path):
    """Raise UserError where there are more segments than can be worth their time, one after the other."""
    if n_segments > MAX_SEGMENTS:
        raise UserError(
            f"demonstrations: {path}: has {n_segments:,} segments, and may have {MAX_SEGMENTS:,}; "
            "give longer ones (last, split_points or segment_bounds)"
        )


def _command(direction_deg, speed, path):
    if abs(direction_deg) > 1e6 or abs(speed) > MAX_SPEED:
        raise UserError(
            f"demonstrations: {path}: a goal of {direction_deg:.4g} degrees at {speed:.4g} m/s cannot be; "
            f"speeds are at most {MAX_SPEED:g} m/s"
        )
    try:
        # Arrow matrices give degrees with rounding errors, which would pass for another direction.
        return Command(round(float(direction_deg), 6), round(float(speed), 6))
    except ValueError as error:
        raise UserError(f"demonstrations: {path}: {error}") from None
