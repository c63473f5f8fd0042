"""A recording's motion as numbers that tell what it means: movement against velocities, and how feet rest on the ground."""

from functools import cached_property

import numpy as np

from qi_ext.demonstrations.conventions import conventions
from qi_ext.robot import a1
from qi_ext.robot.frames import wrapped
from qi_ext.robot.kinematics import feet, feet_velocities, joint_positions

LEGS = slice(6, 18)  # of `a1.JOINTS`
TRUNK = {"trunk_tz": 2, "trunk_list": 3, "trunk_tilt": 4, "trunk_rotation": 5}
YAW_RATE = TRUNK["trunk_rotation"]
TRUNK_SLOPE = (0.6, 1.6)  # right 0.96 to 1.13; degrees 57, the gyroscope at a yaw of 90 degrees -0.9 to 0.2
MOVING = 0.02  # m/s or rad/s, RMS, under which a coordinate of the trunk is taken not to move
LEG_MOVING = 0.1  # rad/s, RMS, likewise for joints of the legs
LAG = 5  # rows over which movement is compared, because noise of velocities averages out
TRAVELLING = 0.1  # m/s, RMS, likewise for the trunk's x and y, as the lowest foot says
# Share of a coordinate's movement that its velocity must explain for their ratio to be more than noise, which by itself lowers
# both alike: so above where TRUNK_SLOPE begins.
TELLING = 0.75
HELD = 0.02  # share of the movement that velocities say, under which a row repeats the one before
LIMIT = 1e9
SAMPLE = 300  # pairs of rows at most that are looked at by kinematics
SLIP_TIME = 0.05  # s, that puts slip beside the spread of height: 0.1 m/s counts as 5 mm
GOOD_CONTACT = 0.008  # m, unrest at most for a convention to explain a recording; right 0.005 and less


class RecordedMotion:
    """Changes of position over `LAG` rows, those that velocities say, and the feet in a sample of rows.

    states: (N, 37). bounds: (S + 1,), of segments; headings: (N, 2) or None; both as of `Demonstrations`.
    """

    def __init__(self, states, bounds, headings=None):
        # No robot reaches the limit, within which squares are finite.
        states = np.clip(states, -LIMIT, LIMIT)
        self.rows = len(states)
        # x and y are not recorded; feet are looked at relative to the trunk's.
        positions = joint_positions(states)
        velocities = states[:, a1.VELOCITY]
        parts = list(zip(bounds[:-1], bounds[1:], strict=True))
        lag = min(LAG, max(end - begin for begin, end in parts) - 1)
        first = np.concatenate([np.arange(begin, end - lag) for begin, end in parts])
        self.change = _wrapped_angles(positions[first + lag] - positions[first])
        way = np.concatenate([np.zeros((1, 18)), np.cumsum(velocities[:-1] + velocities[1:], axis=0)])
        self.said = 0.5 * a1.CONTROL_DT * (way[first + lag] - way[first])
        # Segments that are too short have no rows here.
        ends = np.cumsum([0, *(max(0, end - begin - lag) for begin, end in parts)])
        self.segments = [slice(begin, end) for begin, end in zip(ends[:-1], ends[1:], strict=True)]
        first = np.delete(np.arange(self.rows), bounds[1:] - 1)
        moved = _wrapped_angles(positions[first + 1] - positions[first])[:, 2:]
        said = 0.5 * a1.CONTROL_DT * (velocities[first + 1] + velocities[first])[:, 2:]
        # Where neither says that it moves, too: zero is no more than zero.
        self.repeated = float(np.mean(np.linalg.norm(moved, axis=1) <= HELD * np.linalg.norm(said, axis=1)))
        if headings is not None:  # feet rest in the world, not in a frame that turns
            velocities = velocities.copy()
            velocities[:, YAW_RATE] += headings[:, 1]
        sample = first[np.linspace(0, len(first) - 1, min(SAMPLE, len(first))).astype(int)]
        self._positions = np.stack([positions[sample], positions[sample + 1]])
        self._velocities = np.stack([velocities[sample], velocities[sample + 1]])

    def slope(self, joints, rows=slice(None)):
        """Slope of the changes of `joints` on those that their velocities say; inf where these are zero.

        None where the joints move too little. joints: `LEGS`, or the index of one joint, for which it is None, too, where its
        velocity explains so little of its movement that the slope would be noise.
        """
        change, said = self.change[rows, joints], self.said[rows, joints]
        if joints is LEGS:
            return _slope(change, said, LEG_MOVING)
        return _telling_slope(change, said, LEG_MOVING if joints >= LEGS.start else MOVING)

    def travel(self, axis):
        """Slope of the trunk's velocity along x (0) or y (1), were the lowest foot at rest, on the recorded one; as `slope`."""
        velocities = self._velocities.copy()
        velocities[..., :2] = 0.0
        lowest = _lowest(self._positions)[0]
        backwards = np.take_along_axis(feet_velocities(self._positions, velocities), lowest[..., None], axis=-2)
        moved, said = -backwards[..., 0, axis] * a1.CONTROL_DT, self._velocities[..., axis] * a1.CONTROL_DT
        return _telling_slope(moved, said, TRAVELLING)

    def explained(self, order=slice(None)):
        """Share of the legs' changes, as a sum of squares, that a multiple of their velocities explains, in [0, 1].

        order: of the velocities, (12,).
        """
        return _explained(self.change[:, LEGS], self.said[:, LEGS][:, order])

    @cached_property
    def contact(self):
        """Height of the lowest foot, m, its unrest, m, and its slip, m/s; see `_contact`."""
        return _contact(self._positions, self._velocities)

    @cached_property
    def best_convention(self):
        """The simplest convention under which feet rest best, of those under which they rest well: words, height, unrest.

        (None, nan, inf) where there is none.
        """
        found = []
        for words, convert in conventions().items():
            positions, velocities = convert(self._positions, self._velocities)
            # The cheap conditions first.
            if not _trunk_fits(positions, velocities) or _lowest(positions)[2] > GOOD_CONTACT:
                continue
            height, unrest, _ = _contact(positions, velocities)
            if unrest < GOOD_CONTACT:
                found.append((words, height, unrest))
        best = min((unrest for *_, unrest in found), default=np.inf)
        return next((convention for convention in found if convention[2] <= 1.1 * best), (None, np.nan, np.inf))

    @property
    def unrest_over_best(self):
        """Unrest of the lowest foot over that under the best other convention; 0 where there is none."""
        return self.contact[1] / max(self.best_convention[2], 1e-6)


def parts(bounds, rows):
    """Yield (begin, end) of parts of at least `rows` rows that together are all rows; long segments are cut, short ones joined.

    bounds: (S + 1,), of segments. What is left at the end is shorter, or is part of the one before.
    """
    begin = 0
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        pieces = max(1, (end - first) // rows)
        for cut in np.linspace(first, end, pieces + 1).astype(int)[1:].tolist():
            if cut - begin >= rows or cut == bounds[-1]:
                yield begin, cut
                begin = cut


def _lowest(positions):
    """Index of the lowest foot, (..., 1); median of its height, m, and its spread from the 5th to the 95th percentile, m."""
    heights = feet(positions)[..., 2]
    lowest = heights.argmin(axis=-1)[..., None]
    low, middle, high = (float(x) for x in np.percentile(np.take_along_axis(heights, lowest, axis=-1), [5.0, 50.0, 95.0]))
    return lowest, middle, high - low


def _contact(positions, velocities):
    """Height of the lowest foot, m; its unrest, m: spread of its height and, times 0.05 s, slip; median slip, m/s.

    positions, velocities: (..., 18).
    """
    lowest, height, spread = _lowest(positions)
    motion = np.take_along_axis(feet_velocities(positions, velocities), lowest[..., None], axis=-2)
    slip = float(np.median(np.linalg.norm(motion[..., :2], axis=-1)))
    return height, spread + SLIP_TIME * slip, slip


def _trunk_fits(positions, velocities):
    change = _wrapped_angles(positions[1] - positions[0])
    said = 0.5 * a1.CONTROL_DT * (velocities[0] + velocities[1])
    slopes = [_telling_slope(change[:, joint], said[:, joint], MOVING) for joint in TRUNK.values()]
    return all(slope is None or TRUNK_SLOPE[0] <= slope <= TRUNK_SLOPE[1] for slope in slopes)


def _explained(change, said):
    squares = np.sum(change**2) * np.sum(said**2)
    return float(np.sum(change * said) ** 2 / squares) if squares > 0.0 else 0.0


def _telling_slope(change, said, moving):
    slope = _slope(change, said, moving)
    frozen = not change.any()
    return slope if slope is None or np.isinf(slope) or frozen or _explained(change, said) > TELLING else None


def _slope(change, said, moving):
    if change.size == 0 or max(_rms(change), _rms(said)) < moving * a1.CONTROL_DT:
        return None
    square = np.sum(said**2)
    return float(np.sum(change * said) / square) if square > 0.0 else np.inf


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def _wrapped_angles(change):
    change[..., 3:6] = wrapped(change[..., 3:6])
    return change
