import math

import numpy as np
import pytest

from qi_ext.robot.commands import Command, angle_between, task_commands


@pytest.mark.parametrize(
    ("direction_deg", "features"),
    [
        (0.0, (1.0, 0.0, 0.3)),
        (60.0, (0.5, math.sqrt(3.0) / 2.0, 0.3)),
        (90.0, (0.0, 1.0, 0.3)),
        (180.0, (-1.0, 0.0, 0.3)),
        (-90.0, (0.0, -1.0, 0.3)),
    ],
)
def test_features_are_cosine_sine_and_speed(direction_deg, features):
    np.testing.assert_allclose(Command(direction_deg, 0.3).features, features, atol=1e-15)


def test_velocity_points_along_the_direction_with_the_speed():
    np.testing.assert_allclose(Command(90.0, 0.4).velocity, [0.0, 0.4], atol=1e-15)


def test_direction_is_in_radians():
    assert Command(90.0).direction == pytest.approx(math.pi / 2)


@pytest.mark.parametrize(("given", "kept"), [(0, 0.0), (360.0, 0.0), (-45.0, 315.0), (765.0, 45.0)])
def test_direction_is_kept_between_0_and_360_degrees(given, kept):
    assert Command(given).direction_deg == kept


def test_direction_a_rounding_error_below_0_stays_below_360_degrees():
    assert 0.0 <= Command(-1e-20).direction_deg < 360.0


def test_commands_of_one_turn_more_are_equal():
    assert Command(405.0, 0.5) == Command(45, 0.5)


@pytest.mark.parametrize("direction_deg", [math.nan, math.inf, -math.inf, "north", None])
def test_direction_that_is_no_finite_number_is_refused(direction_deg):
    with pytest.raises(ValueError, match=f"direction.*{direction_deg}"):
        Command(direction_deg)


@pytest.mark.parametrize("speed", [math.nan, math.inf, -0.1, "fast", None])
def test_speed_that_is_no_finite_number_of_at_least_0_is_refused(speed):
    with pytest.raises(ValueError, match=f"speed.*{speed}"):
        Command(0.0, speed)


def test_simple_task_commands_only_forward():
    assert task_commands("simple", speed=0.4) == (Command(0.0, 0.4),)


def test_hard_task_commands_8_directions_45_degrees_apart():
    assert task_commands("hard") == tuple(Command(45.0 * i, 0.5) for i in range(8))


def test_hard_task_spreads_any_number_of_directions_evenly():
    assert [command.direction_deg for command in task_commands("hard", n_directions=3)] == [0.0, 120.0, 240.0]


def test_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'medium'.*simple, hard"):
        task_commands("medium")


@pytest.mark.parametrize("n_directions", [0, -8, 2.5, "8"])
def test_number_of_directions_that_is_no_positive_whole_number_is_refused(n_directions):
    with pytest.raises(ValueError, match="n_directions"):
        task_commands("hard", n_directions)


@pytest.mark.parametrize(
    ("one", "other", "angle"),
    [(0.0, 0.0, 0.0), (0.0, 180.0, 180.0), (350.0, 10.0, 20.0), (10.0, 350.0, 20.0), (90.0, 45.0, 45.0)],
)
def test_angle_between_takes_the_short_way(one, other, angle):
    assert angle_between(one, other) == pytest.approx(angle)


def test_angle_between_broadcasts():
    np.testing.assert_allclose(angle_between(np.array([0.0, 90.0, 270.0]), 45.0), [45.0, 45.0, 135.0])
