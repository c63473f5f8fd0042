"""Commands: a heading, and a direction and a speed in the horizontal plane."""

import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from qi_ext.robot.courses import Course  # which imports this module


@dataclass(frozen=True)
class Command:
    """A velocity command, and the heading to be held.

    direction_deg: degrees, counter-clockwise from the heading, any finite number (kept in [0, 360)).
    speed: m/s, at least 0.
    heading_deg: degrees, counter-clockwise from +x of the world, any finite number; 0 on `simple` and `hard`.
    Raises ValueError on anything else.
    """

    direction_deg: float
    speed: float = 0.5
    heading_deg: float = 0.0

    def __post_init__(self) -> None:
        if not _is_finite(self.direction_deg):
            raise ValueError(f"command: direction must be a finite number of degrees, not {self.direction_deg}")
        if not (_is_finite(self.speed) and self.speed >= 0.0):
            raise ValueError(f"command: speed must be a finite number of m/s, at least 0, not {self.speed}")
        if not _is_finite(self.heading_deg):
            raise ValueError(f"command: heading must be a finite number of degrees, not {self.heading_deg}")
        # Twice, because the remainder of a rounding error below 0 is 360 itself.
        object.__setattr__(self, "direction_deg", float(self.direction_deg) % 360.0 % 360.0)
        object.__setattr__(self, "speed", float(self.speed))
        object.__setattr__(self, "heading_deg", float(self.heading_deg))

    @property
    def direction(self) -> float:
        """Direction in radians, [0, 2 pi), from the heading."""
        return math.radians(self.direction_deg)

    @property
    def label(self) -> str:
        """The direction in degrees, for tables; see `label_among`."""
        return f"{self.direction_deg:g}"

    @property
    def label_with_speed(self) -> str:
        return f"{self.label} at {self.speed:g} m/s"

    @property
    def key(self) -> int:
        """The direction in thousandths of a degree, for the seeds of episodes; see `key_among`."""
        return round(self.direction_deg * 1000)

    @property
    def heading(self) -> float:
        """Heading in radians, from +x of the world."""
        return math.radians(self.heading_deg)

    @property
    def features(self) -> np.ndarray:
        """Goal features of the observation, (3,): cos, sin of the direction, speed in m/s."""
        return np.array([math.cos(self.direction), math.sin(self.direction), self.speed])

    @property
    def ahead(self) -> np.ndarray:
        """Unit vector of the direction, (2,), in the world frame."""
        angle = self.direction + self.heading
        return np.array([math.cos(angle), math.sin(angle)])

    @property
    def velocity(self) -> np.ndarray:
        """Commanded velocity, (2,), m/s in the world frame."""
        return self.speed * self.ahead


def _is_finite(number: object) -> bool:
    return isinstance(number, numbers.Real) and math.isfinite(number)


def angle_between(direction_deg: ArrayLike, other_deg: ArrayLike) -> np.ndarray:
    """Smallest angle between directions in degrees, in [0, 180]; arrays broadcast."""
    return np.abs((np.asarray(direction_deg) - np.asarray(other_deg) + 180.0) % 360.0 - 180.0)


def nearest_command(command: Command, commands: Sequence[Command]) -> int:
    """Return the index of the one of `commands` that is nearest in direction, of these in speed, and of these the first."""
    turned = angle_between([other.direction_deg for other in commands], command.direction_deg)
    faster = np.abs([other.speed - command.speed for other in commands])
    return int(np.lexsort((faster, turned))[0])


def differ_in_speed(commands: "Iterable[Command | Course]") -> bool:
    """Return whether `commands` are of more than one speed, so that their labels and seeds must tell it."""
    return len({command.speed for command in commands if isinstance(command, Command)}) > 1


def label_among(command: "Command | Course", commands: "Iterable[Command | Course]") -> str:
    """Return what tells a command from others of `commands` in tables, with its speed where they differ in it."""
    return command.label_with_speed if isinstance(command, Command) and differ_in_speed(commands) else command.label


def key_among(command: "Command | Course", commands: "Iterable[Command | Course]") -> int:
    """Return what tells a command from others of `commands` in the seeds of episodes and recorded segments.

    The speed, in mm/s, is part of it only where they differ in speed: at any single one, directions have the same seeds.
    """
    if isinstance(command, Command) and differ_in_speed(commands):
        return command.key + 10**6 * round(command.speed * 1000)
    return command.key
