import math

import numpy as np
import pytest

from qi_ext.robot.commands import Command, angle_between, key_among, label_among
from qi_ext.tasks.directions import task_commands


@pytest.mark.parametrize(
    ("direction_deg", "cosine", "sine"),
    [(0.0, 1.0, 0.0), (60.0, 0.5, math.sqrt(3.0) / 2.0), (90.0, 0.0, 1.0), (180.0, -1.0, 0.0), (-90.0, 0.0, -1.0)],
)
def test_features_are_cosine_sine_and_speed_and_velocity_their_product(direction_deg, cosine, sine):
    command = Command(direction_deg, 0.3)
    np.testing.assert_allclose(command.features, [cosine, sine, 0.3], atol=1e-15)
    np.testing.assert_allclose(command.velocity, [0.3 * cosine, 0.3 * sine], atol=1e-15)


@pytest.mark.parametrize(("given", "kept"), [(0, 0.0), (360.0, 0.0), (-45.0, 315.0), (765.0, 45.0), (-1e-20, 0.0)])
def test_direction_is_kept_between_0_and_360_degrees(given, kept):
    assert Command(given).direction_deg == kept
    assert Command(given) == Command(kept, 0.5)
    assert Command(given).direction == math.radians(kept)


@pytest.mark.parametrize("direction_deg", [math.nan, math.inf, "north", None])
def test_direction_that_is_no_finite_number_is_refused(direction_deg):
    with pytest.raises(ValueError, match=f"direction.*{direction_deg}"):
        Command(direction_deg)


@pytest.mark.parametrize("speed", [math.nan, math.inf, -0.1, "fast", None])
def test_speed_that_is_no_finite_number_of_at_least_0_is_refused(speed):
    with pytest.raises(ValueError, match=f"speed.*{speed}"):
        Command(0.0, speed)


def test_simple_commands_only_forward_and_hard_any_number_of_directions_evenly_spread():
    assert task_commands("simple", speed=0.4) == (Command(0.0, 0.4),)
    assert task_commands("hard") == tuple(Command(45.0 * i, 0.5) for i in range(8))
    assert [command.direction_deg for command in task_commands("hard", n_directions=3)] == [0.0, 120.0, 240.0]


def test_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'medium'.*simple, hard"):
        task_commands("medium")


@pytest.mark.parametrize("n_directions", [0, 2.5, "8"])
def test_number_of_directions_that_is_no_positive_whole_number_is_refused(n_directions):
    with pytest.raises(ValueError, match="n_directions"):
        task_commands("hard", n_directions)


def test_hard_commands_each_direction_at_each_speed_and_tells_them_apart():
    commands = task_commands("hard", n_directions=2, speeds=[0.3, 0.7])
    assert commands == (Command(0.0, 0.3), Command(0.0, 0.7), Command(180.0, 0.3), Command(180.0, 0.7))
    assert [label_among(command, commands) for command in commands[1:3]] == ["0 at 0.7 m/s", "180 at 0.3 m/s"]
    assert len({key_among(command, commands) for command in commands}) == 4
    for speed in (0.3, 0.5):  # at any one, seeds are those of the direction
        (one,) = task_commands("simple", speed=speed)
        assert (label_among(one, [one]), key_among(one, [one])) == ("0", 0)
        assert task_commands("hard", speeds=[speed]) == task_commands("hard", speed=speed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "simple", "speeds": [0.3]}, "speeds: only hard"),
        ({"task": "follow", "speeds": [0.3]}, "speeds: only hard"),
        ({"speeds": [0.3, 0.7], "speed": 0.4}, "speed: not beside speeds"),
        ({"speeds": [0.3, 0.3]}, "speeds: .* twice"),
        ({"speeds": 0.3}, "speeds: must be a list"),
        ({"speeds": ["fast"]}, "speed must be"),
    ],
    ids=str,
)
def test_speeds_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        task_commands(**{"task": "hard"} | settings)


def test_angle_between_takes_the_short_way_and_broadcasts():
    one, other = np.array([0.0, 0.0, 350.0, 10.0, 90.0]), np.array([0.0, 180.0, 10.0, 350.0, 45.0])
    np.testing.assert_allclose(angle_between(one, other), [0.0, 180.0, 20.0, 20.0, 45.0])
    np.testing.assert_allclose(angle_between(np.array([0.0, 90.0, 270.0]), 45.0), [45.0, 45.0, 135.0])
