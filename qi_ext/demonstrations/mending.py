"""Mend what can be mended in a recording from outside (`--fit`): feet that float or are sunk, and joints past their range."""

from dataclasses import replace

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.kinematics import feet, joint_positions

OPTION = "--fit"
# Height of the lowest foot's centre, m; right recordings 0.0085 to 0.0092, median by segment. Of animals, often one foot alone
# bears the weight, which takes 2 mm more: at 0.009 m a dog's clips fall freely in 0.32 to 0.77 of their rows.
GROUND = 0.007
# Height of the lowest foot in all but 5 % of the rows at either end, m, within which a segment is left as it is: right ones are
# at 0.0038 to 0.0101. One that is 2 mm higher falls freely in half of its rows.
ON_GROUND = (0.002, 0.0115)
FURTHEST = 0.25  # m that a row is moved at most
SMOOTHED = 3  # rows, over which the way to the ground is averaged: the lowest foot changes from row to row
RANGE_TOLERANCE = 0.1  # rad, because MuJoCo's joint limits are soft
MENDABLE = 0.5  # rad past the range; another unit, order or zero of joints exceeds it, or puts most rows out of range


def mended(demonstrations):
    """Return `Demonstrations` with the lowest foot of each row on the ground and joints in their range.

    Segments that are so already stay as they are, to the last bit. The trunk is moved up or down, its vertical velocity with
    it; joints are clipped, and stand still while they are. Recorded actions do not belong to changed rows: where there are any,
    all are left out. `notes` say what was changed. Where joints are out of range by so much, or in so many rows, that they must
    be others, or in another unit, all stays as it is, for the checks to refuse.
    demonstrations: arrays of the right shapes, finite.
    """
    states = demonstrations.states.copy()
    segments = [demonstrations.segment(i) for i in range(demonstrations.n_segments)]
    excess = range_excess(states)
    if excess.max() > RANGE_TOLERANCE and not are_mendable(excess):
        return demonstrations
    for rows in segments:
        if excess[rows].max() <= RANGE_TOLERANCE:
            excess[rows] = 0.0
    past = excess > 0.0
    legs = states[:, a1.LEG_POSITION]
    legs[past] = np.clip(legs, *a1.LEG_RANGE.T)[past]
    states[:, a1.LEG_VELOCITY][past] = 0.0
    shift = GROUND - lowest_foot(states)
    for rows in segments:
        shift[rows] = _smooth(shift[rows]) if _leaves_ground(shift[rows]) else 0.0
        if shift[rows].any():
            states[rows, a1.VELOCITY.start + 2] += np.gradient(shift[rows], a1.CONTROL_DT)
    states[:, a1.TRUNK_Z] += shift
    notes = _notes(shift, past, excess)
    if not notes:
        return demonstrations
    if demonstrations.actions is not None:
        notes.append(f"{OPTION} left out the recorded actions, which do not belong to the rows that it changed")
    return replace(
        demonstrations,
        states=states,
        actions=None,
        executed_actions=None,
        external_force=None,
        initial_state=None,
        notes=(*demonstrations.notes, *notes),
    )


def lowest_foot(states):
    """Height of the centre of the lowest foot, (N,), m, of states, (N, 37)."""
    return feet(joint_positions(states))[..., 2].min(axis=-1)


def range_excess(states):
    """By how much each joint of the legs is past its range, (N, 12), rad; negative within it."""
    legs = states[:, a1.LEG_POSITION]
    return np.maximum(a1.LEG_RANGE[:, 0] - legs, legs - a1.LEG_RANGE[:, 1])


def are_mendable(excess):
    """Return whether joints past their range by `excess`, (N, 12), rad, are the right joints in the right unit."""
    return excess.max() < MENDABLE and (excess > 0.0).any(axis=1).mean() < 0.5


def _leaves_ground(shift):
    low, high = np.percentile(GROUND - shift, [5.0, 95.0])
    return not ON_GROUND[0] <= low <= high <= ON_GROUND[1]


def _smooth(shift):
    padded = np.pad(shift, SMOOTHED // 2, mode="edge")
    return np.convolve(padded, np.full(SMOOTHED, 1.0 / SMOOTHED), "valid")


def _notes(shift, past, excess):
    moved, notes = np.abs(shift[shift != 0.0]), []
    if len(moved):
        said = f"{np.median(moved):.3f} m (median; at most {moved.max():.3f})"
        notes.append(f"{OPTION} moved the trunk up or down in {len(moved)} of {len(shift)} rows, by {said}")
    if past.any():
        joints = [a1.LEG_JOINTS[joint] for joint in np.flatnonzero(past.any(axis=0))]
        said = f"{np.median(excess[past]):.3f} rad (median; at most {excess[past].max():.3f})"
        notes.append(f"{OPTION} brought {', '.join(joints)} into range in {past.any(axis=1).sum()} rows, by {said}")
    return notes
