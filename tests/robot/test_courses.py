import numpy as np
import pytest

from qi_ext.robot import courses
from qi_ext.robot.courses import COURSES, Course, Leg, advance, command_along, constant_command

DT = 0.01


def walked(course, n_steps, seed=0):
    """Commands of `n_steps` steps along a course, (n_steps + 1, COMMAND_SIZE)."""
    generator, given = np.random.default_rng(seed), (COURSES["drawn"], course)
    command = command_along(course, 1) if course.legs else constant_command(0.5, 0.0)
    if not course.legs:
        command[courses.STEPS_LEFT] = 0.0
    found = [command]
    for _ in range(n_steps):
        found.append(advance(found[-1], given, generator))
    return np.array(found)


def path(commands):
    """Positions that the commands lead through, (n, 2)."""
    angle = commands[:, courses.HEADING] + commands[:, courses.DIRECTION]
    steps = DT * commands[:, 2:3] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.cumsum(steps, axis=0)


@pytest.fixture(scope="module")
def drawn():
    return walked(COURSES["drawn"], 60_000)


def test_no_command_changes_faster_than_its_limits(drawn):
    change = np.diff(drawn, axis=0) / DT
    turning = np.abs(np.angle(np.exp(1j * np.diff(drawn[:, courses.DIRECTION])))) / DT
    assert np.abs(change[:, 2]).max() == pytest.approx(courses.ACCELERATION)
    assert turning.max() == pytest.approx(courses.DIRECTION_RATE)
    assert np.abs(change[:, courses.HEADING]).max() <= courses.TURN_RATE + 1e-9
    assert np.abs(change[:, courses.HEADING_RATE]).max() == pytest.approx(courses.TURN_ACCELERATION)


def test_drawn_courses_reach_all_directions_speeds_and_turn_rates(drawn):
    direction, speed, rate = drawn[:, courses.DIRECTION], drawn[:, 2], np.degrees(drawn[:, courses.HEADING_RATE])
    assert np.histogram(direction, 8, (-np.pi, np.pi))[0].min() > 0.05 * len(drawn)
    assert np.histogram(speed, 6, (0.2, 0.8))[0].min() > 0.05 * len(drawn)
    assert (speed == 0.0).mean() > 0.02
    assert np.histogram(rate, 6, (-60.0, 60.0))[0].min() > 0.05 * len(drawn)
    assert np.array_equal(drawn[:, :2], np.stack([np.cos(direction), np.sin(direction)], axis=1))


def test_the_targets_of_a_drawn_course_last_1_to_4_s(drawn):
    changes = np.flatnonzero(np.any(np.diff(drawn[:, courses.TARGET], axis=0) != 0.0, axis=1))
    lasted = np.diff(changes) * DT
    assert 1.0 - DT / 2 <= lasted.min() < 1.2 and 3.8 < lasted.max() <= 4.0 + DT / 2


@pytest.mark.parametrize("name", [name for name, course in COURSES.items() if course.legs])
def test_a_named_course_takes_10_s_and_then_begins_again(name):
    course = COURSES[name]
    assert sum(leg.steps for leg in course.legs) == 1000
    commands = walked(course, 2001)
    assert np.array_equal(commands[1001:2001, courses.TARGET], commands[1:1001, courses.TARGET])


@pytest.mark.parametrize("name", ["circle", "square", "figure-eight"])
def test_a_closed_course_comes_back_to_where_it_began(name):
    commands = walked(COURSES[name], 1000)
    length = DT * commands[:, 2].sum()
    assert np.linalg.norm(path(commands)[-1]) < 0.08 * length


def test_the_figure_eight_turns_once_round_on_either_side():
    commands = walked(COURSES["figure-eight"], 1000)
    angle = commands[:, courses.HEADING] + np.unwrap(commands[:, courses.DIRECTION])
    assert np.degrees(angle.max()) == pytest.approx(360.0, abs=10.0)
    assert np.degrees(angle[1000]) == pytest.approx(0.0, abs=10.0)
    assert np.abs(np.degrees(commands[:, courses.HEADING_RATE])).max() <= 60.0 + 1e-9


def test_a_command_that_stays_is_the_same_array():
    command = constant_command(0.5, 1.0, heading=2.0)
    assert advance(command, (), np.random.default_rng(0)) is command


@pytest.mark.parametrize(
    "fields", [{"seconds": 0.0}, {"seconds": 1.0, "speed": -0.1}, {"seconds": 1.0, "turn_rate": 400.0}, {"seconds": np.nan}]
)
def test_a_leg_that_cannot_be_walked_is_refused(fields):
    with pytest.raises(ValueError, match=r"leg|command"):
        Leg(**fields)


def test_courses_and_commands_have_keys_of_their_own():
    keys = {course.key for course in COURSES.values()} | {Course("mine").key}
    assert len(keys) == len(COURSES) + 1 and min(keys) > 360_000
