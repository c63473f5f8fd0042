"""Checks that demonstrations must pass before anything is learned from them."""

from dataclasses import replace

import numpy as np

from qi_ext.demonstrations.meaning import fault_of_contact, fault_of_velocities
from qi_ext.demonstrations.mending import FURTHEST, OPTION, RANGE_TOLERANCE, are_mendable, mended, range_excess
from qi_ext.robot import a1
from qi_ext.robot.frames import wrapped
from qi_ext.robot.kinematics import TRUNK_HEIGHT
from qi_ext.utils.errors import UserError

JUMP_TOLERANCE = 0.3  # rad or m from row to row, beyond what the velocities explain
LARGEST = 1e6  # of any value, in SI units
MOST_NAMED = 3  # joints


def check_form(demonstrations, where=None):
    """Raise UserError unless bounds and arrays of `demonstrations` are of the right shapes, numbers finite, actions in [-1, 1].

    where: the file's path, for messages; None for the demonstrations' own `source`.
    """
    in_file = where is not None
    states, where = demonstrations.states, where or demonstrations.source
    if states.ndim != 2 or states.shape[1] != a1.N_OBSERVATIONS or len(states) == 0:
        _fail(where, f"states must have shape (N, {a1.N_OBSERVATIONS}), not {states.shape}")
    _check_bounds(demonstrations, where, in_file)
    _check_arrays(demonstrations, where)


def check(demonstrations, where=None, fit=False, max_pitch=a1.MAX_PITCH):
    """Return `demonstrations`; raise UserError, with the fault and its rows, unless they can be learned from.

    where: as of `check_form`, which they must have passed. fit: mend first what `mended` can. max_pitch: of a fall, rad.
    """
    where = where or demonstrations.source
    as_recorded = demonstrations
    if fit:
        demonstrations = mended(as_recorded)
    _check_joint_ranges(demonstrations.states, where)
    _check_continuity(demonstrations, where)
    _check_fall_limits(demonstrations.states, where, max_pitch)
    if demonstrations is not as_recorded:
        _check_mending(as_recorded, demonstrations, where)
    return demonstrations


def _check_mending(as_recorded, demonstrations, where):
    """Refuse what no mending makes right, but hides."""
    moved = np.abs(demonstrations.states[:, a1.TRUNK_Z] - as_recorded.states[:, a1.TRUNK_Z])
    if moved.max() > FURTHEST:
        _fail(
            where,
            f"the lowest foot is {moved.max():.2f} m from the ground at row {moved.argmax()}, and {OPTION} moves a row by at "
            f"most {FURTHEST} m: is the trunk's height absolute? it counts from {TRUNK_HEIGHT} m: subtract {TRUNK_HEIGHT}",
        )
    # Once each row's lowest foot is on the ground, no other order or sign of joints explains the contact any better.
    fault = fault_of_contact(as_recorded)
    if fault is not None:
        _fail(where, fault)


def _check_fall_limits(states, where, max_pitch):
    roll, pitch, height = (states[:, column] for column in (a1.ROLL, a1.PITCH, a1.TRUNK_Z))
    found = []
    for name, excess, values, limit in (
        ("roll", np.abs(roll) - a1.MAX_ROLL, roll, f"rad of {a1.MAX_ROLL} allowed"),
        ("pitch", np.abs(pitch) - max_pitch, pitch, f"rad of {max_pitch:g} allowed"),
        ("height", a1.MIN_TRUNK_Z - height, height, f"m under {a1.MIN_TRUNK_Z}"),
    ):
        past = excess > 0.0
        if past.any():
            found.append(f"{name} {values[excess.argmax()]:.3g} {limit} ({_rows(past)})")
    if found:
        fallen = a1.has_fallen(states, max_pitch)
        steepest = np.ceil(100.0 * np.abs(pitch).max()) / 100.0
        advice = "cut them out"
        if fallen.mean() > 0.5:
            advice = "are angles in degrees, or of a quaternion in another order?"
        elif not a1.has_fallen(states, steepest).any() and steepest <= a1.STEEPEST:
            advice += f", or allow such a pitch to the robot, too: --max_pitch {steepest:.2f}"
        _fail(where, f"{fallen.sum()} of {len(states)} states are past a fall limit: {', '.join(found)}; {advice}")


def _check_bounds(demonstrations, where, in_file):
    bounds, name = demonstrations.bounds, "segment_bounds" if in_file else "bounds"
    n_segments = demonstrations.n_segments
    if len(bounds) != n_segments + 1 or len(demonstrations.kind) != n_segments:
        _fail(where, f"{n_segments} commands need as many kinds and {n_segments + 1} {name}, not {len(bounds)}")
    if bounds[0] != 0 or bounds[-1] != len(demonstrations.states) or np.any(np.diff(bounds) < 2):
        _fail(where, f"{name} must rise from 0 to {len(demonstrations.states)} by at least 2 rows a segment")


def _check_arrays(demonstrations, where):
    rows, start = len(demonstrations.states), demonstrations.initial_state
    if start is not None and (start.ndim != 2 or len(start) != demonstrations.n_segments or not np.all(np.isfinite(start))):
        _fail(where, f"initial_state must hold a row of finite numbers for each of the {demonstrations.n_segments} segments")
    widths = {
        "states": a1.N_OBSERVATIONS,
        "actions": a1.N_ACTIONS,
        "executed_actions": a1.N_ACTIONS,
        "external_force": 3,
        "headings": 2,
    }
    for name, width in widths.items():
        array = getattr(demonstrations, name)
        if array is None:
            continue
        if array.shape != (rows, width):
            _fail(where, f"{name} must have shape ({rows}, {width}), a row for each state, not {array.shape}")
        if array.dtype.kind not in "biuf":
            _fail(where, f"{name} must hold real numbers, not {array.dtype}")
        if not np.all(np.isfinite(array)):
            row, column = np.argwhere(~np.isfinite(array))[0]
            _fail(where, f"{name} are not finite at row {row}, column {column}; cut that part out")
        if np.abs(array).max(initial=0.0) > LARGEST:
            row, column = np.argwhere(np.abs(array) > LARGEST)[0]
            _fail(
                where, f"{name} reach {array[row, column]:.3g} at row {row}, column {column}, which cannot be; check the units"
            )
        if name.endswith("actions") and np.abs(array).max() > 1.0 + 1e-6:
            _fail(where, f"{name} reach {np.abs(array).max():.3g}, but must lie in [-1, 1], in units of {a1.MAX_TORQUE:g} Nm")


def _check_joint_ranges(states, where):
    excess = range_excess(states)
    worst = excess.max(axis=0)
    joints = [joint for joint in np.argsort(-worst) if worst[joint] > RANGE_TOLERANCE]
    if not joints:
        return
    said = []
    for joint in joints[:MOST_NAMED]:
        reached, (low, high) = states[excess[:, joint].argmax(), a1.LEG_POSITION.start + joint], a1.LEG_RANGE[joint]
        said.append(
            f"{a1.LEG_JOINTS[joint]} reaches {reached:.3f} rad, past [{low:.3f}, {high:.3f}] ({_rows(excess[:, joint] > 0.0)})"
        )
    more = f" and {len(joints) - MOST_NAMED} more" if len(joints) > MOST_NAMED else ""
    in_rad = states.copy()
    in_rad[:, a1.LEG_POSITION] = np.radians(states[:, a1.LEG_POSITION])
    if are_mendable(excess):
        advice = f"{OPTION} brings joints into their range"
    elif range_excess(in_rad).max() <= RANGE_TOLERANCE:
        advice = "are they in degrees? give rad"
    else:
        advice = "check units (rad), joint order and zero"
    _fail(where, f"out of range: {', '.join(said)}{more}; {advice}")


def _rows(past):
    """Count the rows where `past`, (N,), and name the first."""
    count = np.count_nonzero(past)
    return f"row {past.argmax()}" if count == 1 else f"{count} rows, the first at row {past.argmax()}"


def _check_continuity(demonstrations, where):
    states = demonstrations.states
    velocity = states[:, a1.VELOCITY][:, 2:]
    jump = np.diff(states[:, a1.POSITION], axis=0) - 0.5 * a1.CONTROL_DT * (velocity[1:] + velocity[:-1])
    jump[:, a1.ROLL : a1.YAW + 1] = wrapped(jump[:, a1.ROLL : a1.YAW + 1])
    jump[demonstrations.bounds[1:-1] - 1] = 0.0
    row, joint = np.unravel_index(np.argmax(np.abs(jump)), jump.shape)
    if np.abs(jump[row, joint]) > JUMP_TOLERANCE:
        jumps = (
            f"{a1.JOINTS[2 + joint]} jumps by {np.abs(jump[row, joint]):.2f} between rows {row} and {row + 1}, more than its "
            "velocity explains; mark the ends of segments (last, split_points or segment_bounds)"
        )
        # Where the other rows are at odds with their velocities as well, the rate or a unit is the cause.
        rows = np.flatnonzero(np.abs(jump).max(axis=1) > JUMP_TOLERANCE)
        bounds = np.union1d(demonstrations.bounds, rows + 1) if len(rows) < len(jump) / 2 else demonstrations.bounds
        _fail(where, fault_of_velocities(replace(demonstrations, bounds=bounds)) or jumps)


def _fail(where, problem):
    raise UserError(f"demonstrations: {where}: {problem}")
