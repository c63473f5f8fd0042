"""Recordings that mean something else than their format says: each way is refused by name, and right ones are not."""

import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from qi_ext.demonstrations import formats, loco_mujoco_formats
from qi_ext.demonstrations.checks import check
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.demonstrations.meaning import check_meaning, examine
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.directions import TASKS
from qi_ext.utils.errors import UserError

VELOCITIES = a1.VELOCITY
ANGLES, RATES = slice(a1.ROLL, a1.YAW + 1), slice(19, 22)
HIPS = [column + joint for column in (4, 22) for joint in (0, 3, 6, 9)]
RIGHT_HIPS = [column + joint for column in (4, 22) for joint in (0, 6)]


@pytest.fixture(scope="module")
def embedded():
    """The embedded sets, {task: demonstrations}."""
    return {task: formats.read(embedded_path(task)) for task in TASKS}


@pytest.fixture(scope="module")
def recordings(embedded, tmp_path_factory):
    """{name: demonstrations} that are right: walks forwards and sideways, and one read from the real format.

    The last is loco-mujoco's own `walk_straight.npz`, where WALK_STRAIGHT names it.
    """
    path = Path(os.environ.get("WALK_STRAIGHT", tmp_path_factory.mktemp("real") / "walk.npz"))
    if not path.exists():
        loco_mujoco_formats.write_real(path, embedded["hard"].of(Command(45.0), "nominal").select(range(4)))
    sideways = embedded["hard"].of(Command(90.0), "nominal").select(range(4))
    return {"forwards": embedded["simple"].select(range(0, 22, 4)), "sideways": sideways, "real": formats.read(path)}


def changed(change):
    """A way to make a recording wrong, of one that changes the states in place."""

    def make(demonstrations):
        states = demonstrations.states.copy()
        change(states)
        return replace(demonstrations, states=states)

    return make


def scaled(columns, factor):
    def change(states):
        states[:, columns] *= factor

    return changed(change)


def added(columns, offset):
    def change(states):
        states[:, columns] += offset

    return changed(change)


def exchanged(some, others):
    def change(states):
        states[:, some + others] = states[:, others + some]

    return changed(change)


def legs(*order, columns=(4, 22)):
    """Put leg order[i] of ours in the i-th place."""

    def change(states):
        for column in columns:
            block = states[:, column : column + 12].reshape(-1, 4, 3)[:, list(order)]
            states[:, column : column + 12] = block.reshape(-1, 12)

    return changed(change)


def resampled(every, between=1):
    """Take every n-th row, or put rows between."""

    def make(demonstrations):
        parts = []
        for i in range(demonstrations.n_segments):
            states = demonstrations.states[demonstrations.segment(i)]
            time = np.arange(len(states)) * a1.CONTROL_DT
            fine = np.arange(0.0, time[-1], a1.CONTROL_DT / between)
            part = np.stack([np.interp(fine, time, column) for column in states.T], axis=1)
            spline = CubicHermiteSpline(time, states[:, a1.POSITION], states[:, VELOCITIES][:, 2:])
            part[:, a1.POSITION], part[:, VELOCITIES][:, 2:] = spline(fine), spline(fine, 1)
            parts.append(part[::every])
        bounds = np.cumsum([0, *map(len, parts)])
        return replace(demonstrations, states=np.concatenate(parts), bounds=bounds, **NO_ACTIONS)

    return make


NO_ACTIONS = dict.fromkeys(("actions", "executed_actions", "external_force", "initial_state"))


def in_each_segment(order):
    """Take rows order(n) of the n rows of each segment."""

    def make(demonstrations):
        segments = [demonstrations.segment(i) for i in range(demonstrations.n_segments)]
        rows = np.concatenate([part.start + order(part.stop - part.start) for part in segments])
        return replace(demonstrations, states=demonstrations.states[rows])

    return make


def held_with_noise(demonstrations):
    noise = 1e-7 * np.random.default_rng(0).normal(size=demonstrations.states[:, a1.POSITION].shape)
    return added(a1.POSITION, noise)(in_each_segment(lambda n: np.arange(n) // 2 * 2)(demonstrations))


def with_angles(states, turn):
    """Turn angles by turn(rotation), and rates with them."""
    step = 1e-5
    before, after = (turn(Rotation.from_euler("XYZ", states[:, ANGLES] + sign * step * states[:, RATES])) for sign in (-1, 1))
    states[:, ANGLES] = turn(Rotation.from_euler("XYZ", states[:, ANGLES]))
    states[:, RATES] = ((after - before + np.pi) % (2.0 * np.pi) - np.pi) / (2.0 * step)


def turned_left(states):
    """The same motion, turned by 90 degrees: right."""
    quarter = Rotation.from_euler("z", np.pi / 2.0)
    with_angles(states, lambda rotation: (quarter * rotation).as_euler("XYZ"))
    for x in (a1.TRUNK_VX, a1.GOAL.start):
        states[:, x : x + 2] = np.stack([-states[:, x + 1], states[:, x]], axis=1)


def velocity_in_the_trunks_frame(states):
    turned_left(states)
    rotation = Rotation.from_euler("XYZ", states[:, ANGLES])
    states[:, 16:19] = rotation.inv().apply(states[:, 16:19])


def gyroscope(states):
    turned_left(states)
    step = 1e-5
    now = Rotation.from_euler("XYZ", states[:, ANGLES])
    later = Rotation.from_euler("XYZ", states[:, ANGLES] + step * states[:, RATES])
    states[:, RATES] = (now.inv() * later).as_rotvec() / step


def yaw_pitch_roll(states):
    turned_left(states)
    with_angles(states, lambda rotation: rotation.as_euler("ZYX")[:, ::-1])


def quaternion_in_another_order(states):
    with_angles(states, lambda rotation: Rotation.from_quat(np.roll(rotation.as_quat(), -1, axis=1)).as_euler("XYZ"))


ONE, ALL = ("forwards",), ("forwards", "sideways", "real")
WAYS = [
    ("every second row", resampled(2), ALL, "2.0. times as far a row as its velocities say: (50|240|250) Hz"),
    ("rows between", resampled(1, between=5), ONE, "0.20 times as far a row as its velocities say: (500|25..) Hz"),
    ("90 Hz", scaled(VELOCITIES, 0.9), ONE, "1.11 times as far a row as its velocities say: 90 Hz"),
    ("velocities scaled", scaled(slice(22, 34), 0.05), ONE, "joint velocities say: are they scaled by 0.05"),
    ("velocities zero", scaled(VELOCITIES, 0.0), ONE, "joint velocities are all zero"),
    ("velocities a row", scaled(VELOCITIES, 0.01), ONE, "are they given per row"),
    ("velocities in degrees", scaled(slice(22, 34), 180.0 / np.pi), ONE, "degrees a second"),
    ("velocities' sign", scaled(slice(22, 34), -1.0), ONE, "-1.00 times.*is their sign reversed"),
    ("backwards", in_each_segment(lambda n: np.arange(n)[::-1]), ONE, "run backwards"),
    ("FL-first", legs(1, 0, 3, 2), ALL, "legs in the order FL, FR, RL, RR; joint_names"),
    ("rear-first", legs(2, 3, 0, 1), ONE, "legs in the order RR, RL, FR, FL; joint_names"),
    ("right legs first", legs(0, 2, 1, 3), ALL, "legs in the order FR, RR, FL, RL; joint_names"),
    ("FL-first velocities", legs(1, 0, 3, 2, columns=(22,)), ONE, "joint velocities .* of legs in the order FL, FR, RL, RR"),
    ("hips' sign", scaled(HIPS, -1.0), ALL, "the hips' sign reversed"),
    ("right hips' sign", scaled(RIGHT_HIPS, -1.0), ("sideways", "real"), "the right hips' sign reversed"),
    ("thighs' zero", added([5, 8, 11, 14], 0.4), ALL, "thigh angles that count 0.4 rad more"),
    ("roll's sign", scaled([1, 19], -1.0), ALL, "roll's sign reversed"),
    ("absolute height", added(0, 0.43), ALL, "height absolute"),
    (
        "height above standing",
        added(0, 0.13),
        ONE,
        "0.1.* m, above the ground: --fit puts it on the ground, or lower trunk_tz by 0.1",
    ),
    ("velocity in the trunk's frame", changed(velocity_in_the_trunks_frame), ALL, "the trunk's velocity in the trunk's frame"),
    ("gyroscope", changed(gyroscope), ALL, "the gyroscope's rates"),
    ("yaw-pitch-roll", changed(yaw_pitch_roll), ALL, "yaw-pitch-roll in place of intrinsic x-y-z"),
    ("quaternion", changed(quaternion_in_another_order), ALL, "a quaternion taken as w, x, y, z that is x, y, z, w"),
    (
        "the inverse",
        changed(lambda states: with_angles(states, lambda rotation: rotation.inv().as_euler("XYZ"))),
        ALL,
        "inverse",
    ),
    ("roll as pitch", exchanged([1, 19], [2, 20]), ALL, "roll and pitch exchanged"),
    ("treadmill", scaled([16, 17], 0.0), ALL, "the velocity of trunk_t[xy] is zero: recorded on a treadmill"),
    ("treadmill along x", scaled([16], 0.0), ("forwards", "real"), "the velocity of trunk_tx is zero: recorded on a treadmill"),
    ("km/h", scaled([16, 17], 3.6), ALL, "trunk_t[xy] moves 0.2. times .* is it scaled by 3.[5-9]"),
    ("forwards is backwards", scaled([16], -1.0), ("forwards", "real"), "trunk_tx moves -.* is its sign reversed"),
    ("held", in_each_segment(lambda n: np.arange(n) // 2 * 2), ONE, "50% of the rows repeat|51% of the rows repeat"),
    ("held, with noise", held_with_noise, ONE, "50% of the rows repeat|51% of the rows repeat"),
    ("frozen", in_each_segment(lambda n: np.minimum(np.arange(n), n // 2)), ONE, "rows repeat the one before: is it frozen"),
]
SEEN_BEFORE = [
    ("angles in degrees", scaled(ANGLES, 180.0 / np.pi), ONE, "is the angle in degrees|angles in degrees"),
    ("every fourth row", resampled(4), ("forwards",), r"4\.\d\d times as far a row as its velocities say: 25 Hz"),
    ("every fifth row", resampled(5), ("forwards", "real"), r"\d\.\d\d times as far a row as its velocities say: (20|100) Hz"),
]


@pytest.mark.parametrize(
    ("make", "where", "said"),
    [
        pytest.param(make, where, said, id=f"{name}-{where}")
        for name, make, places, said in WAYS + SEEN_BEFORE
        for where in places
    ],
)
def test_a_wrong_recording_is_refused_with_its_likely_cause(recordings, make, where, said):
    wrong = make(recordings[where])
    with pytest.raises(UserError, match=f"^demonstrations: here.npz: .*({said})") as refused:
        check(wrong, "here.npz")
        check_meaning(wrong, "here.npz")
    assert "\n" not in str(refused.value)


IN_A_PART = {
    "FL-first": (legs(1, 0, 3, 2), "legs in the order FL, FR, RL, RR"),
    "roll's sign": (scaled([1, 19], -1.0), "roll's sign reversed"),
    "absolute height": (added(0, 0.43), "height absolute"),
    "a joint's velocity": (scaled(22, 0.5), "FR_hip_joint moves (1.9|2.0). times as far"),
    "yaw in degrees": (scaled([3], 57.3), "trunk_rotation moves 5[67].* in degrees"),
}


@pytest.mark.parametrize("way", IN_A_PART)
def test_a_wrong_part_of_a_right_recording_is_found(recordings, way):
    right, (make, said) = recordings["sideways"], IN_A_PART[way]
    rows = right.segment(1)
    states = right.states.copy()
    states[rows] = make(right.select([1])).states
    with pytest.raises(UserError, match=f"here.npz: rows {rows.start} to {rows.stop} by themselves, unlike others: .*{said}"):
        check_meaning(replace(right, states=states), "here.npz")


def test_a_segment_that_goes_elsewhere_than_commanded_is_found(recordings):
    right = recordings["sideways"]
    commands = list(right.commands)
    commands[2] = Command(270.0, 0.5)
    said = "segment 3 goes 1[78].* degrees off its command of 270 degrees: give as its goal where it goes"
    assert re.match(said, examine(right.with_commands(commands))[1])


def test_noise_of_velocities_is_no_fault_of_a_part(embedded):
    states, generator = embedded["simple"].states.copy(), np.random.default_rng(1)
    states[:, VELOCITIES] += np.repeat([0.06, 0.6], [6, 12]) * generator.normal(size=(len(states), 18))
    assert examine(replace(embedded["simple"], states=states))[1] is None


@pytest.mark.parametrize("where", ALL)
def test_right_ones_are_accepted_with_a_margin_turned_ones_too(recordings, where):
    for right in (recordings[where], changed(turned_left)(recordings[where])):
        measures, fault = examine(right)
        assert fault is None
        for measure in measures:
            low, high = measure.expected
            margin = 0.1 * (high - low) if np.isfinite(high) and high != 1.0 else 0.0
            assert measure.value is None or low <= measure.value <= high - margin, measure


def test_every_embedded_segment_is_right_by_itself(embedded):
    for demonstrations in embedded.values():
        faults = [examine(demonstrations.select([i]))[1] for i in range(0, demonstrations.n_segments, 20)]
        assert not any(faults)


def test_a_segment_of_another_rate_is_found_among_others(walking):
    whole = walking((0.0,) * 10, rows=60)
    states = whole.states.copy()
    states[120:180, 22:34] *= 0.5
    _, fault = examine(replace(whole, states=states))
    assert fault.startswith("segment 3 moves 2.00 times as far a row as its velocities say, unlike the others")


@pytest.mark.parametrize(
    "make",
    [
        changed(lambda states: with_angles(states, lambda rotation: rotation.as_euler("ZYX")[:, ::-1])),
        scaled([3, 21], -1.0),
        scaled([17], -1.0),
        added([6, 9, 12, 15], 0.05),
    ],
    ids=["yaw-pitch-roll at yaw 0", "yaw's sign at yaw 0", "sideways sign of a straight walk", "calves' zero by 0.05"],
)
def test_what_cannot_be_told_is_accepted(recordings, make):
    assert examine(make(recordings["forwards"]))[1] is None


@pytest.mark.parametrize("order", [(1, 0, 3, 2), (2, 3, 0, 1)], ids=["FL-first", "rear-first"])
def test_the_order_of_legs_cannot_be_told_of_an_undisturbed_trot_forwards(embedded, order):
    nominal = embedded["simple"].of(Command(0.0), "nominal").select(range(4))
    assert examine(legs(*order)(nominal))[1] is None


def test_too_few_rows_are_refused(walking):
    assert examine(walking(rows=50))[1] is None
    assert examine(walking(rows=49))[1].startswith("has 49 rows, less than half a second")


def test_a_standing_robot_has_nothing_to_measure(walking):
    still = walking(rows=60)
    states = np.tile(still.states[:1], (60, 1))
    states[:, VELOCITIES] = 0.0
    states[:, a1.LEG_POSITION] += 1e-6 * np.random.default_rng(0).normal(size=(60, 12))
    measures, _ = examine(replace(still, states=states))
    assert [measure.value for measure in measures if measure.name.startswith("movement of trunk")] == [None] * 6


def test_noise_of_velocities_is_no_fault(recordings):
    for right, seed in itertools.product(recordings.values(), range(3)):
        generator = np.random.default_rng(seed)
        states = right.states.copy()
        states[:, 16:22] += 0.06 * generator.normal(size=states[:, 16:22].shape)
        states[:, a1.LEG_VELOCITY] += 0.6 * generator.normal(size=states[:, a1.LEG_VELOCITY].shape)
        assert examine(replace(right, states=states))[1] is None


# Closed forms


def test_the_slope_is_the_ratio_of_the_rates(walking):
    for factor in (0.5, 0.25):
        measures, fault = examine(scaled(VELOCITIES, factor)(walking(rows=200)))
        assert measures[2].value == pytest.approx(1.0 / factor, rel=0.01)
        assert f"{100 * factor:.0f} Hz" in fault


def test_height_and_slip_are_those_of_a_foot_of_straight_legs(walking):
    glide = walking(rows=60)
    states = np.zeros_like(glide.states)
    states[:, a1.TRUNK_Z] = -0.02
    states[:, a1.TRUNK_VX] = 0.3
    states[:, a1.YAW] = np.arange(60) * 1e-9
    found, fault = examine(replace(glide, states=states))
    measures = {measure.name: measure.value for measure in found}
    assert measures["height of the lowest foot, m"] == pytest.approx(0.43 - 0.02 - 0.4)
    assert measures["slip of the lowest foot, m/s"] == pytest.approx(0.3)
    assert fault.startswith("the legs stand still, but the velocity of trunk_tx is not zero")


def test_feet_rest_in_the_world_and_not_in_the_frame_that_turns(embedded):
    """In segment 121 of follow the heading turns by 60 degrees/s."""
    turning = embedded["follow"].select([121])
    measures, fault = examine(turning)
    assert fault is None
    slopes = [measure.value for measure in measures if "if that foot rests" in measure.name]
    np.testing.assert_allclose(slopes, 1.0, atol=0.1)
    in_the_frame, _ = examine(replace(turning, headings=None))
    assert min(measure.value for measure in in_the_frame if measure.value and "if that foot rests" in measure.name) < 0.7
