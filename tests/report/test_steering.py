"""Steering by keys and sticks: what a person presses is what the environment commands, at the rates of a course."""

import numpy as np
import pytest

from qi_ext.report import steering
from qi_ext.report.steering import Steering
from qi_ext.robot import courses
from qi_ext.tasks.follow import FollowTask


def pressed(*codes):
    steered = Steering()
    for code in codes:
        steered.key(code)
    return steered


def driven(steered, n_steps, command=None):
    """Commands of `n_steps` steps that are steered, (n_steps, COMMAND_SIZE)."""
    command = courses.constant_command(0.0, 0.0) if command is None else command
    commands = []
    for step in range(n_steps):
        command = FollowTask().advance(steered.command(command), step, np.random.default_rng(0))
        commands.append(command)
    return np.array(commands)


@pytest.mark.parametrize(
    ("codes", "speed", "direction_deg", "turn_rate"),
    [
        ([steering.UP] * 3, 0.3, 0.0, 0.0),
        ([steering.UP] * 20, 0.8, 0.0, 0.0),
        ([steering.UP, steering.DOWN, steering.DOWN], 0.0, 0.0, 0.0),
        ([steering.LEFT], 0.0, 0.0, 15.0),
        ([steering.RIGHT] * 9, 0.0, 0.0, -60.0),
        ([ord("7"), ord("7")], 0.0, 90.0, 0.0),
        ([327, 329, ord("9")], 0.0, -45.0, 0.0),
        ([ord("9"), ord("8")], 0.0, 0.0, 0.0),
        ([steering.UP, steering.LEFT, ord("7"), 257], 0.0, 45.0, 0.0),
        ([ord("W"), 340], 0.0, 0.0, 0.0),
    ],
)
def test_keys_set_the_target_within_its_limits(codes, speed, direction_deg, turn_rate):
    found = driven(pressed(*codes), 1)[0, courses.TARGET]
    np.testing.assert_allclose(found, [speed, np.radians(direction_deg), np.radians(turn_rate)], atol=1e-12)


def test_the_command_comes_to_the_target_at_the_rates_of_a_course_and_stays_there():
    commands = driven(pressed(*[steering.UP] * 5, steering.LEFT, steering.LEFT, ord("9")), 300)
    rates = np.abs(np.diff(commands, axis=0)).max(axis=0) / 0.01
    assert rates[2] == pytest.approx(courses.ACCELERATION)
    assert rates[courses.DIRECTION] == pytest.approx(courses.DIRECTION_RATE)
    assert rates[courses.HEADING_RATE] == pytest.approx(courses.TURN_ACCELERATION)
    steady = commands[200:]
    np.testing.assert_allclose(steady[:, [2, courses.DIRECTION]], np.broadcast_to([0.5, -np.pi / 4], (100, 2)), atol=1e-12)
    np.testing.assert_allclose(np.diff(steady[:, courses.HEADING]), np.radians(30.0) * 0.01, atol=1e-12)


def test_the_left_stick_is_direction_and_speed_and_the_right_one_turns():
    steered = Steering()
    steered.sticks(0.0, 0.5, -1.0)  # to the left, half way; turning clockwise
    np.testing.assert_allclose(driven(steered, 1)[0, courses.TARGET], [0.4, np.pi / 2, -courses.TURN_RATE])
    steered.sticks(0.05, -0.05, 0.1)  # let go
    np.testing.assert_allclose(driven(steered, 1)[0, courses.TARGET], [0.0, np.pi / 2, 0.0])
    steered.sticks(-1.0, 1.0, 0.0)  # in the corner
    assert driven(steered, 1)[0, courses.TARGET][0] == pytest.approx(0.8)
