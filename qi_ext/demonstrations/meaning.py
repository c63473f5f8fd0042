"""Check what the numbers of a recording mean: rate, units, order of legs, signs, frames, height and contact.

Every measure compares the recording with itself or with the robot's kinematics. What is refused is named with the convention
that explains it, where one of `conventions.py` does.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qi_ext.demonstrations.conventions import LEG_ORDERS, conventions, joints_of
from qi_ext.robot import a1
from qi_ext.robot.kinematics import TRUNK_HEIGHT, feet, feet_velocities
from qi_ext.utils.errors import UserError

# Ranges, each with what right recordings measure: the trot expert at 0.1 to 0.7 m/s in all directions, with pushes and noise;
# loco-mujoco's real walk; and a dog's pace, trot, canter and turn, put on the ground. Then the nearest wrong ones.
ROWS = (50, np.inf)  # half a second, about a stride
REPEATED = (0.0, 0.05)  # right 0; every second row held 0.5
LEG_SLOPE = (0.85, 1.15)  # right 0.992 to 1.015; 200 Hz 0.50, 50 Hz 2.03
JOINT_SLOPE = (0.6, 1.6)  # right 0.91 to 1.09
EXPLAINED = (0.75, 1.0)  # share of the legs' movement; right 0.95 to 1.00; held rows 0.5, velocities of other joints 0.0
TRUNK_SLOPE = (0.6, 1.6)  # right 0.96 to 1.11; gyroscope at a yaw of 90 degrees -0.9 to 0.2; velocity in the trunk's frame 0.4
HEIGHT = (-0.015, 0.04)  # m; right 0.000 to 0.021; thigh angles from another zero 0.05, absolute height 0.44
SLIP = (0.0, 0.35)  # m/s; right 0.004 to 0.26; w-first quaternion 0.41 to 1.0
UNREST = (0.0, 2.0)  # right 0.98 to 1.04, single segments up to 1.6; wrong 2.1 and more

MOVING = 0.02  # m/s or rad/s, RMS, under which a trunk's coordinate is taken not to move
LEG_MOVING = 0.1  # rad/s, RMS, likewise for joints of the legs
SAMPLE = 300  # pairs of rows at most that are looked at by kinematics
SLIP_TIME = 0.05  # s, that puts slip beside the spread of height: 0.1 m/s counts as 5 mm
GOOD_CONTACT = 0.008  # m, unrest (spread and slip together) at most, for a convention to explain a recording
COMMON_RATES = (25, 30, 50, 60, 100, 120, 200, 240, 250, 400, 500, 1000)  # Hz
TRUNK = {"trunk_tz": 2, "trunk_list": 3, "trunk_tilt": 4, "trunk_rotation": 5}


@dataclass(frozen=True)
class Measure:
    """A number that tells right recordings from wrong ones. value: None where the recording does not move enough to tell."""

    name: str
    value: float | None
    expected: tuple[float, float]

    @property
    def right(self) -> bool:
        return self.value is None or _within(self.value, self.expected)


def check_meaning(demonstrations, where, hz=100.0):
    """Raise UserError, with the likely cause, where `demonstrations` cannot mean what their format says.

    where: the file's path, for the message. hz: rate of the rows in the file, for the message; states are at 100 Hz.
    """
    measures, fault = examine(demonstrations, hz)
    if fault is not None:
        raise UserError(f"demonstrations: {where}: {fault}")


def examine(demonstrations, hz=100.0):
    """Return all `Measure`s, a list, the most fundamental first, and the fault in one line, or None.

    demonstrations: must have passed `check`. hz: as for `check_meaning`.
    """
    motion = _Motion(demonstrations)
    measures, fault = [], None
    for find in (_find_length, _find_repeated, _find_rate, _find_segments, _find_joints, _find_trunk, _find_height, _find_contact):
        found, said = find(motion, hz)
        measures += found
        fault = fault or said
    return measures, fault


class _Motion:
    """Positions and velocities, (18,), of the rows of a recording, and those of pairs of neighbours, sampled evenly."""

    def __init__(self, demonstrations):
        states = demonstrations.states
        self.rows = len(states)
        # x and y are not recorded; feet are looked at relative to the trunk's.
        positions = np.concatenate([np.zeros((self.rows, 2)), states[:, a1.POSITION]], axis=1)
        velocities = states[:, a1.VELOCITY]
        first = np.delete(np.arange(self.rows), demonstrations.bounds[1:] - 1)
        self.change = _wrapped_angles(positions[first + 1] - positions[first])
        self.said = 0.5 * a1.CONTROL_DT * (velocities[first] + velocities[first + 1])
        ends = demonstrations.bounds - np.arange(len(demonstrations.bounds))
        self.segments = [slice(begin, end) for begin, end in zip(ends[:-1], ends[1:], strict=True)]
        self.without_travel = not velocities[:, :2].any()
        sample = first[np.linspace(0, len(first) - 1, min(SAMPLE, len(first))).astype(int)]
        self.positions = np.stack([positions[sample], positions[sample + 1]])
        self.velocities = np.stack([velocities[sample], velocities[sample + 1]])

    def slope(self, joints, moving):
        """Slope of the changes of position of `joints` on those that velocities say; None where they do not move."""
        return _slope(self.change[:, joints], self.said[:, joints], moving)

    @cached_property
    def contact(self):
        """Median height of the lowest foot, m; spread of its height, m; slip, m/s."""
        return _contact(self.positions, self.velocities)

    @cached_property
    def best_convention(self):
        """The convention under which feet rest best, of those under which they rest well: its words, unrest and height.

        (None, inf, None) where there is none.
        """
        found = []
        for words, convert in conventions().items():
            positions, velocities = convert(self.positions, self.velocities)
            height, spread, slip = _contact(positions, velocities)
            unrest = spread + SLIP_TIME * slip
            if unrest < GOOD_CONTACT and _trunk_fits(positions, velocities):
                found.append((words, unrest, height))
        best = min((unrest for _, unrest, _ in found), default=np.inf)
        # The simpler ones come first.
        return next((convention for convention in found if convention[1] <= 1.1 * best), (None, np.inf, None))

    @property
    def unrest_over_best(self):
        """Unrest of the lowest foot over that under the best other convention; 0 where there is none."""
        _, spread, slip = self.contact
        return (spread + SLIP_TIME * slip) / self.best_convention[1]


def _find_length(motion, hz):
    measure = Measure("rows", motion.rows, ROWS)
    return [measure], _fault(measure, f"has {motion.rows} rows, less than half a second; record at least {ROWS[0]}")


def _find_repeated(motion, hz):
    repeated = float(np.mean(np.all(motion.change == 0.0, axis=1)))
    measure = Measure("rows that repeat the one before", repeated, REPEATED)
    said = f"{repeated:.0%} of the rows repeat the one before: is it frozen, or sampled at a lower rate and held? cut or resample it"
    return [measure], _fault(measure, said)


def _find_rate(motion, hz):
    legs = slice(6, 18)
    slope = motion.slope(legs, LEG_MOVING)
    measure = Measure("joints' way on their velocities", slope, LEG_SLOPE)
    if slope is None:
        return [measure], None
    explained = _explained(motion.change[:, legs], motion.said[:, legs])
    share = Measure("joints' way that velocities explain", explained, EXPLAINED)
    if not motion.said[:, legs].any():
        return [measure, share], "joint velocities are all zero; differentiate the positions"
    trunk = [motion.slope([joint], MOVING) for joint in TRUNK.values()]
    trunk = [value for value in trunk if value is not None]
    everything = trunk and abs(np.median(trunk) / slope - 1.0) < 0.25
    cause = _cause_of_rate(slope, hz, "velocities" if everything else "joint velocities", everything)
    said = _fault(measure, f"moves {slope:.2f} times as far a row as its {cause[0]} say: {cause[1]}")
    order = _order_of_velocities(motion)
    if explained < EXPLAINED[0] and order is not None:
        said = f"joint velocities do not fit the positions: are they of {order}?"
    return [measure, share], said or _fault(
        share, f"velocities explain {explained:.0%} of the joints' way from row to row: are they late, filtered or of other joints?"
    )


def _cause_of_rate(slope, hz, what, everything):
    """Name what was given, and the likely cause of a slope that is not 1."""
    if _near(slope, -1.0):
        return what, "do rows run backwards in time?" if everything else "is their sign reversed?"
    if _near(slope, 1.0 / a1.CONTROL_DT):
        return what, "are they given per row? divide them by 0.01 s"
    if _near(slope, np.pi / 180.0):
        return what, "are they in degrees a second? give rad/s"
    if not everything or slope < 0.05 or slope > 8.0:
        return what, f"are they scaled by {1.0 / slope:.2g}?"
    rate = hz / slope
    common = min(COMMON_RATES, key=lambda value: abs(np.log(value / rate)))
    likely = common if abs(np.log(common / rate)) < 0.2 else round(rate)
    return what, f"{likely} Hz? resample it to {hz:g} Hz"


def _order_of_velocities(motion):
    """Name the order of legs or joints in which velocities would explain positions, or None."""
    orders = {words: joints_of(order) for words, order in LEG_ORDERS.items()}
    orders["all hips, then all thighs, then all calves"] = np.arange(a1.N_ACTIONS).reshape(3, 4).T.ravel()
    explained = {
        words: _explained(motion.change[:, 6:], motion.said[:, 6 + index]) for words, index in orders.items()
    }
    best = max(explained, key=explained.get)
    return best if explained[best] > EXPLAINED[0] else None


def _find_segments(motion, hz):
    slopes = [_slope(motion.change[part, 6:], motion.said[part, 6:], LEG_MOVING) for part in motion.segments]
    slopes = [1.0 if slope is None else slope for slope in slopes]
    worst = int(np.argmax(np.abs(np.array(slopes) - 1.0)))
    measure = Measure("the same of the worst segment", slopes[worst], JOINT_SLOPE)
    said = f"joints of segment {worst + 1} move {slopes[worst]:.2f} times as far a row as their velocities say, unlike the others"
    return [measure], _fault(measure, f"{said}: cut it out, or see to its rate and units")


def _find_joints(motion, hz):
    slopes = {joint: motion.slope([6 + index], LEG_MOVING) for index, joint in enumerate(a1.LEG_JOINTS)}
    slopes = {joint: slope for joint, slope in slopes.items() if slope is not None}
    if not slopes:
        return [Measure("the same of the worst joint", None, JOINT_SLOPE)], None
    worst = max(slopes, key=lambda joint: abs(slopes[joint] - 1.0))
    measure = Measure(f"the same of the worst joint ({worst})", slopes[worst], JOINT_SLOPE)
    said = f"{worst} moves {slopes[worst]:.2f} times as far as its velocity says: sign, scale or order of joint velocities?"
    return [measure], _fault(measure, said)


def _find_trunk(motion, hz):
    measures, fault = [], None
    for name, joint in TRUNK.items():
        slope = motion.slope([joint], MOVING)
        measures.append(Measure(f"{name} on its velocity", slope, TRUNK_SLOPE))
        if slope is not None and not measures[-1].right and fault is None:
            fault = f"{name} moves {slope:.2f} times as far as its velocity says: "
            words = motion.best_convention[0]
            fault += f"{words}?" if words else "are these the rates of intrinsic x-y-z angles, and velocities in the world's frame?"
    return measures, fault


def _find_height(motion, hz):
    height = motion.contact[0]
    measure = Measure("height of the lowest foot, m", height, HEIGHT)
    said = f"the lowest foot is at {height:.3f} m, not on the ground: "
    words, _, other_height = motion.best_convention
    if _within(height - TRUNK_HEIGHT, HEIGHT):
        said += f"is the trunk's height absolute? it counts from {TRUNK_HEIGHT} m: subtract {TRUNK_HEIGHT}"
    elif motion.unrest_over_best > UNREST[1] and _within(other_height, HEIGHT):
        said += f"{words}?"
    else:
        side = "lower" if height > 0.0 else "raise"
        said += f"{side} trunk_tz by {abs(height - 0.01):.2f} m, if thighs and calves count from our zero"
    return [measure], _fault(measure, said)


def _find_contact(motion, hz):
    _, spread, slip = motion.contact
    sliding = Measure("slip of the lowest foot, m/s", slip, SLIP)
    over_best = Measure("its unrest over that under the best other convention", motion.unrest_over_best, UNREST)
    measures = [sliding, over_best]
    if motion.without_travel and motion.slope(slice(6, 18), LEG_MOVING) is not None:
        return measures, "the trunk's horizontal velocity is zero while the legs move: recorded on a treadmill? add its speed"
    words = motion.best_convention[0]
    said = f"the lowest foot slides at {slip:.2f} m/s and its height varies by {1000 * spread:.0f} mm, explained by {words}"
    if words is not None and words.startswith("legs"):
        said += "; with joint_names in the file they are put in order"
    unexplained = f"the lowest foot slides at {slip:.2f} m/s: check frames, signs and order of the legs"
    return measures, _fault(over_best, said) or _fault(sliding, unexplained)


def _contact(positions, velocities):
    """Median height of the lowest foot, m; spread of its height, from the 5th to the 95th percentile; median slip, m/s."""
    heights = feet(positions)[..., 2]
    lowest = heights.argmin(axis=-1)[..., None]
    height = np.take_along_axis(heights, lowest, axis=-1).ravel()
    motion = np.take_along_axis(feet_velocities(positions, velocities), lowest[..., None], axis=-2)
    low, middle, high = np.percentile(height, [5.0, 50.0, 95.0])
    return float(middle), float(high - low), float(np.median(np.linalg.norm(motion[..., :2], axis=-1)))


def _trunk_fits(positions, velocities):
    change = _wrapped_angles(positions[1] - positions[0])
    said = 0.5 * a1.CONTROL_DT * (velocities[0] + velocities[1])
    slopes = [_slope(change[:, [joint]], said[:, [joint]], MOVING) for joint in TRUNK.values()]
    return all(slope is None or TRUNK_SLOPE[0] <= slope <= TRUNK_SLOPE[1] for slope in slopes)


def _slope(change, said, moving):
    """Least-squares slope of changes on those that velocities say; inf where these are 0; None where neither moves."""
    if max(_rms(change), _rms(said)) < moving * a1.CONTROL_DT:
        return None
    square = np.sum(said**2)
    return float(np.sum(change * said) / square) if square > 0.0 else np.inf


def _explained(change, said):
    """Share of the changes' sum of squares that a multiple of `said` explains, in [0, 1]."""
    squares = np.sum(change**2) * np.sum(said**2)
    return float(np.sum(change * said) ** 2 / squares) if squares > 0.0 else 0.0


def _fault(measure, said):
    return None if measure.right else said


def _within(value, limits):
    return limits[0] <= value <= limits[1]


def _near(value, wanted):
    return abs(value / wanted - 1.0) < 0.15


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def _wrapped_angles(change):
    change[..., 3:6] = (change[..., 3:6] + np.pi) % (2.0 * np.pi) - np.pi
    return change
