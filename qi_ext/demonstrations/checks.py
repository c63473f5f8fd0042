"""Checks that demonstrations must pass before anything is learned from them."""

from dataclasses import replace

import numpy as np

from qi_ext.demonstrations.meaning import fault_of_velocities
from qi_ext.robot import a1
from qi_ext.robot.frames import wrapped
from qi_ext.utils.errors import UserError

JUMP_TOLERANCE = 0.3  # rad or m from row to row, beyond what the velocities explain
LARGEST = 1e6  # of any value, in SI units
RANGE_TOLERANCE = 0.1  # rad, because MuJoCo's joint limits are soft; degrees or a wrong order of joints exceed it by far


def check(demonstrations, where=None):
    """Raise UserError, with the fault and its row, unless `demonstrations` can be learned from.

    where: the file's path, for messages; None for the demonstrations' own `source`.
    """
    in_file = where is not None
    states, where = demonstrations.states, where or demonstrations.source
    if states.ndim != 2 or states.shape[1] != a1.N_OBSERVATIONS or len(states) == 0:
        _fail(where, f"states must have shape (N, {a1.N_OBSERVATIONS}), not {states.shape}")
    _check_bounds(demonstrations, where, in_file)
    _check_arrays(demonstrations, where)
    _check_joint_ranges(states, where)
    _check_continuity(demonstrations, where)
    fallen = a1.has_fallen(states)
    if fallen.any():
        _fail(
            where, f"{fallen.sum()} of {len(states)} states are fallen, the first at row {fallen.argmax()}{_why_fallen(states)}"
        )
    for name in ("actions", "executed_actions"):
        array = getattr(demonstrations, name)
        if array is not None and np.abs(array).max() > 1.0 + 1e-6:
            _fail(where, f"{name} reach {np.abs(array).max():.3g}, but must lie in [-1, 1], in units of {a1.MAX_TORQUE:g} Nm")


def _why_fallen(states):
    """Say which limit the first fallen state is past, and what most states being fallen may come of."""
    first = states[a1.has_fallen(states).argmax()]
    limits = {"roll": (first[a1.ROLL], a1.MAX_ROLL), "pitch": (first[a1.PITCH], a1.MAX_PITCH)}
    past = [f"{name} {value:.2f} rad of {limit} allowed" for name, (value, limit) in limits.items() if abs(value) > limit]
    past += [f"height {first[a1.TRUNK_Z]:.2f} m under {a1.MIN_TRUNK_Z}"] if first[a1.TRUNK_Z] < a1.MIN_TRUNK_Z else []
    mostly = a1.has_fallen(states).mean() > 0.5
    advice = "are angles in degrees, or of a quaternion in another order?" if mostly else "cut them out"
    return f" ({', '.join(past)}); {advice}"


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


def _check_joint_ranges(states, where):
    legs = states[:, a1.LEG_POSITION]
    excess = np.maximum(a1.LEG_RANGE[:, 0] - legs, legs - a1.LEG_RANGE[:, 1])
    row, joint = np.unravel_index(np.argmax(excess), excess.shape)
    if excess[row, joint] > RANGE_TOLERANCE:
        low, high = a1.LEG_RANGE[joint]
        _fail(
            where,
            f"{a1.LEG_JOINTS[joint]} is {legs[row, joint]:.3f} rad at row {row}, outside its range [{low:.3f}, {high:.3f}]; "
            "check units (rad), joint order and zero",
        )


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
