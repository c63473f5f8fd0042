"""Measures of one stretch of motion that tell what its numbers mean: rate, units, order of legs, signs, frames, contact.

Each `find_...(motion, hz)` returns `Measure`s, a list, and the fault that they show, in one line, or None. motion: a
`RecordedMotion`. hz: rate of the rows in the file that they come from. A fault is named with the convention that explains it,
where one of `conventions.py` does.
"""

from dataclasses import dataclass

import numpy as np

from qi_ext.demonstrations.conventions import LEG_ORDERS, joints_of
from qi_ext.demonstrations.mending import FURTHEST, GROUND, OPTION
from qi_ext.demonstrations.recorded_motion import LEGS, TRUNK, TRUNK_SLOPE
from qi_ext.robot import a1
from qi_ext.robot.kinematics import TRUNK_HEIGHT

# Ranges, each with what right recordings measure: the trot expert at 0.1 to 0.7 m/s in all directions, with pushes and noise;
# loco-mujoco's real walk; and a dog's pace, trot, canter and turn, put on the ground. Then the nearest wrong ones.
ROWS = (50, np.inf)  # half a second, about a stride
REPEATED = (0.0, 0.05)  # right 0; every second row held 0.5
LEG_SLOPE = (0.85, 1.06)  # right 0.99 to 1.01, with noise of 1.2 rad/s 0.93; 200 Hz 0.50, 90 Hz 1.11, 50 Hz 2.0
EXPLAINED = (0.75, 1.0)  # right 0.99 to 1.00, with noise of 1.2 rad/s 0.93; half frozen 0.47, FL-first velocities 0.0
SEGMENT_SLOPE = JOINT_SLOPE = (0.6, 1.6)  # right 0.95 to 1.03, with noise of 0.6 rad/s 0.68
HEIGHT = (-0.015, 0.04)  # m; right 0.000 to 0.021; clips that float 0.08, absolute height 0.44
SLIP = (0.0, 0.35)  # m/s; right 0.004 to 0.26; quaternions in another order 0.41 to 1.0
UNREST = (0.0, 2.0)  # right 0.93 to 1.05, single segments up to 1.9; wrong 2.2 and more

COMMON_RATES = (20, 25, 30, 50, 60, 100, 120, 200, 240, 250, 400, 500, 1000)  # Hz
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


def find_length(motion, hz):
    measure = Measure("rows", motion.rows, ROWS)
    return [measure], _fault(measure, f"has {motion.rows} rows, less than half a second; record at least {ROWS[0]} at 100 Hz")


def find_repeated(motion, hz):
    measure = Measure("share of rows that repeat the one before", motion.repeated, REPEATED)
    said = f"{motion.repeated:.0%} of the rows repeat the one before: is it frozen, or of a lower rate and held?"
    return [measure], _fault(measure, f"{said} cut or resample it")


def find_rate(motion, hz):
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
    common = min((each for each in COMMON_RATES if each != hz), key=lambda value: abs(np.log(value / rate)))
    return f"{common if abs(np.log(common / rate)) < 0.25 else round(rate)} Hz? resample it to {hz:g} Hz"


def _order_of_velocities(motion):
    """Name the order of legs or joints in which velocities would explain positions, or None."""
    orders = {words: joints_of(order) for words, order in LEG_ORDERS.items()}
    orders["all hips, then all thighs, then all calves"] = np.arange(a1.N_ACTIONS).reshape(3, 4).T.ravel()
    explained = {words: motion.explained(order) for words, order in orders.items()}
    best = max(explained, key=explained.get)
    return best if explained[best] > EXPLAINED[0] else None


def find_segment(motion, hz):
    # One that stands still while its velocities do not has slope 0, and one that cannot be told none.
    slopes = np.array([1.0 if slope is None else slope for slope in (motion.slope(LEGS, rows) for rows in motion.segments)])
    worst = int(np.argmax(np.abs(slopes - 1.0)))
    measure = Measure("movement of joints, likewise, in the worst segment", slopes[worst], SEGMENT_SLOPE)
    said = f"segment {worst + 1} moves {slopes[worst]:.2f} times as far a row as its velocities say, unlike the others"
    return [measure], _fault(measure, f"{said}: mend its rate or units, or cut it out")


def find_joint(motion, hz):
    found = [motion.slope(LEGS.start + index) for index in range(a1.N_ACTIONS)]
    slopes = np.array([1.0 if slope is None else slope for slope in found])  # a joint that is frozen has 0
    worst = int(np.argmax(np.abs(slopes - 1.0)))
    joint = a1.LEG_JOINTS[worst]
    measure = Measure(f"movement of the worst joint, likewise ({joint})", slopes[worst], JOINT_SLOPE)
    said = f"{joint} moves {slopes[worst]:.2f} times as far as its velocity says: sign, scale or order of joint velocities?"
    return [measure], _fault(measure, said)


def find_trunk(motion, hz):
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


def find_height(motion, hz):
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
        fit = f"{OPTION} puts it on the ground, or " if abs(height - GROUND) < FURTHEST else ""
        side = "lower" if height > 0.0 else "raise"
        cause = f"{fit}{side} trunk_tz by {abs(height - GROUND):.2f} m, if thighs and calves count from our zero"
    place = "above the ground" if height > 0.0 else "sunk in the ground"
    return [measure], f"the lowest foot is at {height:.3f} m, {place}: {cause}"


def find_contact(motion, hz, expected=UNREST):
    measure = Measure("unrest of the lowest foot, over that under the best other convention", motion.unrest_over_best, expected)
    words = motion.best_convention[0]
    said = f"the lowest foot slides at {motion.contact[2]:.2f} m/s or changes height, as if the recording had {words}"
    if words is not None and words.startswith("legs"):
        said += "; joint_names in the file would put them in order"
    return [measure], _fault(measure, said)


def find_travel(motion, hz):
    slip = Measure("slip of the lowest foot, m/s", motion.contact[2], SLIP)
    travels = {name: motion.travel(axis) for axis, name in enumerate(a1.TRUNK_JOINTS[:2])}
    measures = [Measure(f"movement of {name}, if that foot rests", slope, TRUNK_SLOPE) for name, slope in travels.items()]
    faults = [
        _fault_of_travel(name, measure.value) for name, measure in zip(travels, measures, strict=True) if not measure.right
    ]
    sliding = f"the lowest foot slides at {slip.value:.2f} m/s: check frames, signs and order of the legs"
    return [slip, *measures], faults[0] if faults else _fault(slip, sliding)


def _fault_of_travel(name, slope):
    if np.isinf(slope):
        return f"the trunk walks, but the velocity of {name} is zero: recorded on a treadmill? add its speed"
    if abs(slope) < STANDS:
        return f"the legs stand still, but the velocity of {name} is not zero: are positions recorded?"
    cause = "is its sign reversed?" if _near(slope, -1.0) else f"is it scaled by {1.0 / slope:.2g}, or in another frame?"
    return f"{name} moves {slope:.2f} times as far as its velocity says, if the lowest foot rests: {cause}"


def _fault(measure, said):
    return None if measure.right else said


def _within(value, limits):
    return bool(limits[0] <= value <= limits[1])


def _near(value, wanted):
    return abs(value / wanted - 1.0) < 0.15
