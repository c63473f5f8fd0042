"""Check what the numbers of a recording mean: as a whole, against its commands, and of each part by itself.

Every measure compares the recording with itself or with the robot's kinematics; `measures.py` has them.
"""

from functools import partial

import numpy as np

from qi_ext.demonstrations.measures import (
    ROWS,
    Measure,
    find_contact,
    find_height,
    find_joint,
    find_length,
    find_rate,
    find_repeated,
    find_segment,
    find_travel,
    find_trunk,
)
from qi_ext.demonstrations.recorded_motion import RecordedMotion, parts
from qi_ext.robot import a1
from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.utils.errors import UserError

ASTRAY = (0.0, 45.0)  # degrees; right 0 to 8; a goal of the other side 90, that of a walk backwards 180
RIGHT_PARTS = (1.0, 1.0)

PART = 200  # rows, at least, of a part that is looked at by itself: two seconds, about four strides
PART_UNREST = (0.0, 2.5)  # right up to 1.9, and 2.2 of calves whose zero is off by 0.05 rad
PARTS = 500  # looked at, at most, so that time is bounded
RESTLESS_PARTS = 20  # those whose feet rest worst, which are also compared with other conventions, 0.1 s each
TRAVELS = 0.1  # m/s, under which there is no direction of travel
OFF = 0.2  # m beside a command's way, or back along it, which a push or a start may be the cause of; right up to 0.11


def check_meaning(demonstrations, where):
    """Raise UserError, with the likely cause, where `demonstrations` cannot mean what their format says.

    where: the file's path, for the message.
    """
    _, fault = examine(demonstrations)
    if fault is not None:
        raise UserError(f"demonstrations: {where}: {fault}")


def examine(demonstrations):
    """Return all `Measure`s, a list, the most fundamental first, and the first fault in one line, or None.

    demonstrations: must have passed `check`.
    """
    motion, hz = _motion(demonstrations), demonstrations.recorded_hz
    measures, fault = [], None
    for find in (
        find_length,
        find_repeated,
        find_rate,
        find_segment,
        find_joint,
        find_trunk,
        find_height,
        find_contact,
        find_travel,
    ):
        found, said = find(motion, hz)
        measures += found
        fault = fault or said
    for find in (_find_astray, _find_parts):
        found, said = ([], None) if fault else find(demonstrations)
        measures += found
        fault = fault or said
    return measures, fault


def fault_of_velocities(demonstrations):
    """Return the fault, in one line, where velocities do not say how positions change, or None.

    demonstrations: of the right shapes and bounds; they need not have passed the rest of `check`.
    """
    motion, hz = _motion(demonstrations), demonstrations.recorded_hz
    return find_rate(motion, hz)[1] or find_trunk(motion, hz)[1]


def fault_of_contact(demonstrations):
    """Return the fault, in one line, where feet rest better in another convention, or None; as `fault_of_velocities`."""
    return find_contact(_motion(demonstrations), demonstrations.recorded_hz)[1]


def _motion(demonstrations, begin=0, end=None, bounds=None):
    """Return the `RecordedMotion` of rows `begin` to `end`, whose segments have `bounds`; by default of all."""
    headings = None if demonstrations.headings is None else demonstrations.headings[begin:end]
    return RecordedMotion(demonstrations.states[begin:end], demonstrations.bounds if bounds is None else bounds, headings)


def _find_astray(demonstrations):
    """Compare where each segment goes with what its rows command, in whose frame their states are."""
    worst, angle = 0, None
    for i in range(demonstrations.n_segments):
        states = demonstrations.states[demonstrations.segment(i)]
        states = states[states[:, a1.GOAL.stop - 1] > 0.0]
        if len(states) < ROWS[0]:
            continue
        along, across = (values.mean() for values in velocity_in_command_frame(states))
        astray = float(np.degrees(np.abs(np.arctan2(across, along))))
        off = np.hypot(across, min(along, 0.0)) * len(states) * a1.CONTROL_DT
        tells = np.hypot(along, across) >= TRAVELS and (astray <= ASTRAY[1] or off > OFF)
        if tells and (angle is None or astray > angle):
            worst, angle = i, astray
    measure = Measure("angle from command to travel, degrees, in the worst segment", angle, ASTRAY)
    if measure.right:
        return [measure], None
    told = f"command of {demonstrations.commands[worst].direction_deg:g} degrees"
    said = f"segment {worst + 1} goes {angle:.0f} degrees off its {told if demonstrations.headings is None else 'commands'}"
    return [measure], f"{said}: give as its goal where it goes, or mend the signs of velocities; or does time run backwards?"


def _find_parts(demonstrations):
    """Look at each part by itself, because a recording that is right as a whole may hold parts of another convention."""
    bounds, hz = demonstrations.bounds, demonstrations.recorded_hz
    found = list(parts(bounds, PART))
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(PARTS, len(found))).astype(int)]
    motions = {}
    for begin, end in chosen if len(found) > 1 else []:
        inner = bounds[(bounds > begin) & (bounds < end)]
        motions[begin, end] = _motion(demonstrations, begin, end, np.array([begin, *inner, end]) - begin)
    restless = sorted(motions, key=lambda part: -motions[part].contact[1])[:RESTLESS_PARTS]
    contact = partial(find_contact, expected=PART_UNREST)
    faults = {}
    for looked_at, finders in (
        (motions, (find_rate, find_joint, find_trunk, find_height)),
        (restless, (contact,)),
        (motions, (find_travel,)),
    ):
        for part in looked_at:
            said = next((said for find in finders if (said := find(motions[part], hz)[1])), None)
            if said is not None:
                faults.setdefault(part, said)
    measure = Measure(
        "share of its parts, each of two seconds or more, that are right", 1.0 - len(faults) / len(chosen), RIGHT_PARTS
    )
    if not faults:
        return [measure], None
    (begin, end), said = next(iter(faults.items()))
    return [measure], f"rows {begin} to {end} by themselves, unlike others: {said}"
