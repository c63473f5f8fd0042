"""Courses: targets of speed, direction and turn rate, which a command approaches at limited rates. Numpy only."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command

__all__ = ["COURSES", "Course", "Leg", "command_along"]

SPEEDS = (0.2, 0.8)  # m/s, of drawn targets that do not stop
TURN_RATE = math.radians(60.0)  # rad/s, the largest
SECONDS = (1.0, 4.0)  # between drawn targets
STOPS = 1 / 8  # share of drawn targets that stop, unless training has another
STRAIGHT = 1 / 3  # share of drawn targets that keep the heading
# What a command may change by in a second: speed, m/s; direction, rad; turn rate, rad/s.
ACCELERATION = 0.5
DIRECTION_RATE = math.radians(60.0)
TURN_ACCELERATION = math.radians(240.0)

# A command that moves along a course, as an array: the goal features, then these.
HEADING, HEADING_RATE, DIRECTION = 3, 4, 5  # rad, rad/s, rad
TARGET = slice(6, 9)  # speed, m/s; direction, rad; turn rate, rad/s
STEPS_LEFT = 9  # until there is another target
COURSE, LEG = 10, 11  # numbers of the given course and of its leg; a course below 0 is drawn
COMMAND_SIZE = 12
FOREVER = math.inf  # steps left of a command that stays


@dataclass(frozen=True)
class Leg:
    """A stretch of a course.

    seconds: of the stretch, from when its targets are given. direction_deg: degrees, counter-clockwise from the heading.
    speed: m/s, from 0. turn_rate: of the heading, degrees/s, counter-clockwise.
    Raises ValueError on anything else.
    """

    seconds: float
    speed: float = 0.5
    direction_deg: float = 0.0
    turn_rate: float = 0.0

    def __post_init__(self) -> None:
        Command(self.direction_deg, self.speed)
        if not a1.CONTROL_DT <= self.seconds <= 1e6:
            raise ValueError(f"leg: seconds must be at least {a1.CONTROL_DT:g} and at most 1e6, not {self.seconds}")
        if not abs(self.turn_rate) <= 360.0:
            raise ValueError(f"leg: turn_rate must be at most 360 degrees/s, not {self.turn_rate}")

    @property
    def steps(self) -> int:
        """Control steps of the stretch."""
        return round(self.seconds / a1.CONTROL_DT)

    @property
    def target(self) -> tuple[float, float, float]:
        """Speed, m/s, direction, rad, and turn rate, rad/s."""
        return self.speed, math.radians(self.direction_deg % 360.0), math.radians(self.turn_rate)


@dataclass(frozen=True)
class Course:
    """Legs one after the other, and again from the first; none are drawn as the robot walks.

    name: for tables and files. The course begins at the first leg's direction and speed, with a heading of `heading_deg`.
    """

    name: str
    legs: tuple[Leg, ...] = ()
    heading_deg: float = 0.0

    @property
    def label(self) -> str:
        """The name, for tables."""
        return self.name

    @property
    def key(self) -> int:
        """A number that tells it from others, and from commands, in the seeds of episodes."""
        return 2**32 + zlib.crc32(self.name.encode())


# The eight: the direction turns, too, a quarter of a second at a time, because the heading alone is not once round in 5 s. Its
# turn rate takes half a second to reverse, so that the second lobe lasts longer.
_EIGHT = [
    *(Leg(0.25, 0.5, 4.0 * i, 60.0) for i in range(1, 20)),
    *(Leg(0.25, 0.5, 76.0 - 76.0 * i / 21, -60.0) for i in range(1, 22)),
]
_SQUARE = [Leg(1.0), Leg(1.5, turn_rate=60.0)]
_SLALOM = [Leg(1.25, turn_rate=40.0), Leg(2.5, turn_rate=-40.0), Leg(1.25, turn_rate=40.0)]
# By name; of 10 s each.
COURSES = {
    name: Course(name, tuple(legs))
    for name, legs in {
        "drawn": [],
        "straight": [Leg(10.0)],
        "circle": [Leg(10.0, turn_rate=36.0)],
        "square": 4 * _SQUARE,
        "slalom": 2 * _SLALOM,
        "figure-eight": _EIGHT,
        "stop-and-go": 2 * [Leg(2.5, 0.6), Leg(2.5, 0.0)],
    }.items()
}


def constant_command(speed: float, direction: float, heading: float = 0.0, heading_rate: float = 0.0) -> np.ndarray:
    """Return a command, (COMMAND_SIZE,), that stays: m/s, rad from the heading, rad from +x of the world, rad/s."""
    command = np.zeros(COMMAND_SIZE)
    command[:3] = math.cos(direction), math.sin(direction), speed
    command[HEADING], command[HEADING_RATE], command[DIRECTION] = heading, heading_rate, direction
    command[STEPS_LEFT], command[COURSE] = FOREVER, -1
    command[TARGET] = speed, direction, 0.0
    return command


def command_along(course: Course, number: int) -> np.ndarray:
    """Return the command, (COMMAND_SIZE,), that begins a course with legs. number: of the course among those given."""
    first = course.legs[0]
    speed, direction, turn_rate = first.target
    command = constant_command(speed, direction, math.radians(course.heading_deg))
    command[TARGET.stop - 1] = turn_rate
    command[STEPS_LEFT], command[COURSE] = first.steps, number
    return command


def advance(command: np.ndarray, courses: Sequence[Course], generator: np.random.Generator, stops: float = STOPS) -> np.ndarray:
    """Return the command a control step later; itself where it stays.

    courses: those given, in order of their numbers. stops: share of drawn targets that stop.
    """
    values = command.tolist()
    if values[STEPS_LEFT] == FOREVER:
        return command
    if values[STEPS_LEFT] <= 0.0:
        if values[COURSE] < 0.0:
            values[TARGET], values[STEPS_LEFT] = _drawn(generator, stops)
        else:
            legs = courses[int(values[COURSE])].legs
            values[LEG] = (values[LEG] + 1.0) % len(legs)
            leg = legs[int(values[LEG])]
            values[TARGET], values[STEPS_LEFT] = leg.target, leg.steps
    speed, direction, turn_rate = values[TARGET]
    values[2] = _towards(values[2], speed, ACCELERATION)
    ahead = math.remainder(direction - values[DIRECTION], 2.0 * math.pi)
    values[DIRECTION] = math.remainder(values[DIRECTION] + _towards(0.0, ahead, DIRECTION_RATE), 2.0 * math.pi)
    values[0], values[1] = math.cos(values[DIRECTION]), math.sin(values[DIRECTION])
    values[HEADING_RATE] = _towards(values[HEADING_RATE], turn_rate, TURN_ACCELERATION)
    values[HEADING] += values[HEADING_RATE] * a1.CONTROL_DT
    values[STEPS_LEFT] -= 1.0
    return np.array(values)


def _towards(value: float, target: float, rate: float) -> float:
    step = rate * a1.CONTROL_DT
    return value + min(max(target - value, -step), step)


def _drawn(generator: np.random.Generator, stops: float) -> tuple[tuple[float, float, float], int]:
    """Draw a target, and for how many steps."""
    stop, straight, speed, direction, turn_rate, seconds = generator.random(6)
    target = (
        0.0 if stop < stops else SPEEDS[0] + speed * (SPEEDS[1] - SPEEDS[0]),
        2.0 * math.pi * direction,
        0.0 if straight < STRAIGHT else (2.0 * turn_rate - 1.0) * TURN_RATE,
    )
    return target, round((SECONDS[0] + seconds * (SECONDS[1] - SECONDS[0])) / a1.CONTROL_DT)
