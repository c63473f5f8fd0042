"""Check what the numbers of a recording mean: rate, units, order of legs, signs, frames, height and contact.

Every measure compares the recording with itself or with the robot's kinematics. What is refused is named with the convention
that explains it, where one of `conventions.py` does.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from qi_ext.demonstrations.conventions import LEG_ORDERS, joints_of
from qi_ext.demonstrations.recorded_motion import LEGS, TRUNK, TRUNK_SLOPE, RecordedMotion, parts
from qi_ext.robot import a1
from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.robot.kinematics import TRUNK_HEIGHT
from qi_ext.utils.errors import UserError

# Ranges, each with what right recordings measure: the trot expert at 0.1 to 0.7 m/s in all directions, with pushes and noise;
# loco-mujoco's real walk; and a dog's pace, trot, canter and turn, put on the ground. Then the nearest wrong ones.
ROWS = (50, np.inf)  # half a second, about a stride
REPEATED = (0.0, 0.05)  # right 0; every second row held 0.5
LEG_SLOPE = (0.85, 1.15)  # right 0.99 to 1.01, with noise of 1.2 rad/s 0.93; 200 Hz 0.50, 50 Hz 2.0
EXPLAINED = (0.75, 1.0)  # right 0.99 to 1.00, with noise of 1.2 rad/s 0.93; half frozen 0.47, FL-first velocities 0.0
SEGMENT_SLOPE = JOINT_SLOPE = (0.6, 1.6)  # right 0.95 to 1.03, with noise of 0.6 rad/s 0.68
HEIGHT = (-0.015, 0.04)  # m; right 0.000 to 0.021; clips that float 0.08, absolute height 0.44
SLIP = (0.0, 0.35)  # m/s; right 0.004 to 0.26; quaternions in another order 0.41 to 1.0
UNREST = (0.0, 2.0)  # right 0.93 to 1.05, single segments up to 1.9; wrong 2.2 and more
ASTRAY = (0.0, 45.0)  # degrees; right 0 to 3; a goal of the other side 90, that of a walk backwards 180
RIGHT_PARTS = (1.0, 1.0)

PART = 200  # rows, at least, of a part that is looked at by itself: two seconds, about four strides
PART_UNREST = (0.0, 2.5)  # right up to 1.9, and 2.2 of calves whose zero is off by 0.05 rad
PART_TELLING = 0.9  # share, likewise, of a part: of velocities with noise less is explained, and the slopes are low
PARTS = 500  # looked at, at most, so that time is bounded
RESTLESS_PARTS = 20  # those whose feet rest worst, which are also compared with other conventions, 0.1 s each
TRAVELS = 0.1  # m/s, under which there is no direction of travel

COMMON_RATES = (25, 30, 50, 60, 100, 120, 200, 240, 250, 400, 500, 1000)  # Hz
STANDS = 1e-3  # slope below which joints do not move
PER_DEGREE = np.pi / 180.0


@dataclass(frozen=True)
class Measure:
    """A number that tells right recordings from wrong ones. value: None where it moves too little to tell."""

    name: str
    value: float | None
    expected: tuple[float, float]

    @property
    def right(self) -> bool:
        return self.value is None or _within(self.value, self.expected)


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
    motion, hz = RecordedMotion(demonstrations.states, demonstrations.bounds), demonstrations.recorded_hz
    measures, fault = [], None
    for find in (
        _find_length,
        _find_repeated,
        _find_rate,
        _find_segment,
        _find_joint,
        _find_trunk,
        _find_height,
        _find_contact,
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
    motion, hz = RecordedMotion(demonstrations.states, demonstrations.bounds), demonstrations.recorded_hz
    return _find_rate(motion, hz)[1] or _find_trunk(motion, hz)[1]


def _find_length(motion, hz):
    measure = Measure("rows", motion.rows, ROWS)
    return [measure], _fault(measure, f"has {motion.rows} rows, less than half a second; record at least {ROWS[0]} at 100 Hz")


def _find_repeated(motion, hz):
    measure = Measure("share of rows that repeat the one before", motion.repeated, REPEATED)
    said = f"{motion.repeated:.0%} of the rows repeat the one before: is it frozen, or of a lower rate and held?"
    return [measure], _fault(measure, f"{said} cut or resample it")


def _find_rate(motion, hz):
    slope = motion.slope(LEGS)
    moved = Measure("movement of joints, over that which velocities say", slope, LEG_SLOPE)
    if slope is None:
        return [moved], None
    share = Measure("share of it that velocities explain", motion.explained(), EXPLAINED)
    if np.isinf(slope):
        return [moved, share], "joint velocities are all zero; differentiate the positions"
    if abs(slope) < STANDS:
        return [moved, share], "joints stand still, but their velocities are not zero: are positions recorded?"
    if not share.right:
        order = _order_of_velocities(motion)
        if order is not None:
            return [moved, share], f"joint velocities do not fit the positions: are they of {order}?"
    trunk = [value for value in map(motion.slope, TRUNK.values()) if value is not None]
    alike = bool(trunk) and abs(np.median(trunk) / slope - 1.0) < 0.25
    what = "velocities" if alike else "joint velocities"
    said = f"moves {slope:.2f} times as far a row as its {what} say: {_cause_of_rate(slope, hz, alike)}"
    unexplained = f"velocities explain {share.value:.0%} of how joints move: are they late, or of other joints?"
    return [moved, share], _fault(moved, said) or _fault(share, unexplained)


def _cause_of_rate(slope, hz, alike):
    """Name the likely cause of a slope that is not 1. alike: the trunk's slopes are as the legs'."""
    if _near(slope, -1.0):
        return "do rows run backwards in time?" if alike else "is their sign reversed?"
    if _near(slope, 1.0 / a1.CONTROL_DT):
        return "are they given per row? divide them by 0.01 s"
    if _near(slope, PER_DEGREE):
        return "are they in degrees a second? give rad/s"
    if not alike or not 0.05 < slope < 8.0:
        return f"are they scaled by {1.0 / slope:.2g}?"
    rate = hz / slope
    common = min(COMMON_RATES, key=lambda value: abs(np.log(value / rate)))
    return f"{common if abs(np.log(common / rate)) < 0.2 else round(rate)} Hz? resample it to {hz:g} Hz"


def _order_of_velocities(motion):
    """Name the order of legs or joints in which velocities would explain positions, or None."""
    orders = {words: joints_of(order) for words, order in LEG_ORDERS.items()}
    orders["all hips, then all thighs, then all calves"] = np.arange(a1.N_ACTIONS).reshape(3, 4).T.ravel()
    explained = {words: motion.explained(order) for words, order in orders.items()}
    best = max(explained, key=explained.get)
    return best if explained[best] > EXPLAINED[0] else None


def _find_segment(motion, hz):
    # One that stands still while its velocities do not has slope 0, and one that cannot be told none.
    slopes = np.array([1.0 if slope is None else slope for slope in (motion.slope(LEGS, rows) for rows in motion.segments)])
    worst = int(np.argmax(np.abs(slopes - 1.0)))
    measure = Measure("movement of joints, likewise, in the worst segment", slopes[worst], SEGMENT_SLOPE)
    said = f"segment {worst + 1} moves {slopes[worst]:.2f} times as far a row as its velocities say, unlike the others"
    return [measure], _fault(measure, f"{said}: mend its rate or units, or cut it out")


def _find_joint(motion, hz):
    found = [motion.slope(LEGS.start + index) for index in range(a1.N_ACTIONS)]
    slopes = np.array([1.0 if slope is None else slope for slope in found])  # a joint that is frozen has 0
    worst = int(np.argmax(np.abs(slopes - 1.0)))
    joint = a1.LEG_JOINTS[worst]
    measure = Measure(f"movement of the worst joint, likewise ({joint})", slopes[worst], JOINT_SLOPE)
    said = f"{joint} moves {slopes[worst]:.2f} times as far as its velocity says: sign, scale or order of joint velocities?"
    return [measure], _fault(measure, said)


def _find_trunk(motion, hz):
    measures = [Measure(f"movement of {name}, likewise", motion.slope(joint), TRUNK_SLOPE) for name, joint in TRUNK.items()]
    wrong = [(name, measure.value) for name, measure in zip(TRUNK, measures, strict=True) if not measure.right]
    if not wrong:
        return measures, None
    (name, slope), words = wrong[0], motion.best_convention[0]
    if np.isinf(slope):
        return measures, f"{name} moves, but its velocity is zero; differentiate the position"
    if _near(slope, 1.0 / PER_DEGREE):
        cause = "is the angle in degrees?"
    elif _near(slope, PER_DEGREE):
        cause = "is its rate in degrees a second?"
    elif words is not None:
        cause = f"{words}?"
    else:
        cause = "are these the rates of intrinsic x-y-z angles, and velocities in the world's frame?"
    return measures, f"{name} moves {slope:.2f} times as far as its velocity says: {cause}"


def _find_height(motion, hz):
    height = motion.contact[0]
    measure = Measure("height of the lowest foot, m", height, HEIGHT)
    if measure.right:
        return [measure], None
    words, other_height, _ = motion.best_convention
    if _within(height - TRUNK_HEIGHT, HEIGHT):
        cause = f"is the trunk's height absolute? it counts from {TRUNK_HEIGHT} m: subtract {TRUNK_HEIGHT}"
    elif motion.unrest_over_best > UNREST[1] and _within(other_height, HEIGHT):
        cause = f"{words}?"
    else:
        side = "lower" if height > 0.0 else "raise"
        cause = f"{side} trunk_tz by {abs(height - 0.01):.2f} m, if thighs and calves count from our zero"
    return [measure], _fault(measure, f"the lowest foot is at {height:.3f} m, not on the ground: {cause}")


def _find_contact(motion, hz, unrest=UNREST):
    slip = motion.contact[2]
    sliding = Measure("slip of the lowest foot, m/s", slip, SLIP)
    over_best = Measure("its unrest, over that under the best other convention", motion.unrest_over_best, unrest)
    measures, words = [sliding, over_best], motion.best_convention[0]
    if not motion.travels and motion.slope(LEGS) is not None:
        return measures, "the trunk's horizontal velocity is zero while legs move: recorded on a treadmill? add its speed"
    said = f"the lowest foot slides at {slip:.2f} m/s"
    explained = f"{said} or changes height, as if the recording had {words}"
    if words is not None and words.startswith("legs"):
        explained += "; joint_names in the file would put them in order"
    return measures, _fault(over_best, explained) or _fault(sliding, f"{said}: check frames, signs and order of the legs")


def _find_astray(demonstrations):
    """Compare where each segment goes with the direction of its command."""
    worst, angle = 0, None
    for i, command in enumerate(demonstrations.commands):
        rows = demonstrations.segment(i)
        along, across = (values.mean() for values in velocity_in_command_frame(demonstrations.states[rows]))
        if rows.stop - rows.start < ROWS[0] or np.hypot(along, across) < TRAVELS or command.speed == 0.0:
            continue
        astray = float(np.degrees(np.abs(np.arctan2(across, along))))
        if angle is None or astray > angle:
            worst, angle = i, astray
    measure = Measure("angle from command to travel, degrees, in the worst segment", angle, ASTRAY)
    if measure.right:
        return [measure], None
    told = demonstrations.commands[worst].direction_deg
    said = f"segment {worst + 1} goes {angle:.0f} degrees off its command of {told:g} degrees"
    return [measure], f"{said}: give as its goal where it goes, or mend the signs of velocities; or does time run backwards?"


def _find_parts(demonstrations):
    """Look at each part by itself, because a recording that is right as a whole may hold parts of another convention."""
    bounds, hz = demonstrations.bounds, demonstrations.recorded_hz
    found = list(parts(bounds, PART))
    chosen, faults = [found[i] for i in np.linspace(0, len(found) - 1, min(PARTS, len(found))).astype(int)], []
    motions = []
    for begin, end in chosen if len(found) > 1 else []:
        inner = bounds[(bounds > begin) & (bounds < end)]
        motion = RecordedMotion(demonstrations.states[begin:end], np.array([begin, *inner, end]) - begin, PART_TELLING)
        motions.append((begin, end, motion))
    restless = sorted(motions, key=lambda part: -part[2].contact[1])[:RESTLESS_PARTS]
    contact = partial(_find_contact, unrest=PART_UNREST)
    for looked_at, finders in ((motions, (_find_rate, _find_joint, _find_trunk, _find_height)), (restless, (contact,))):
        for begin, end, motion in looked_at:
            said = next((said for find in finders if (said := find(motion, hz)[1])), None)
            if said is not None:
                faults.append((begin, end, said))
    wrong = {(begin, end) for begin, end, _ in faults}
    measure = Measure(
        "share of its parts, each of two seconds or more, that are right", 1.0 - len(wrong) / len(chosen), RIGHT_PARTS
    )
    if not faults:
        return [measure], None
    begin, end, said = faults[0]
    return [measure], f"rows {begin} to {end} by themselves, unlike others: {said}"


def _fault(measure, said):
    return None if measure.right else said


def _within(value, limits):
    return bool(limits[0] <= value <= limits[1])


def _near(value, wanted):
    return abs(value / wanted - 1.0) < 0.15
