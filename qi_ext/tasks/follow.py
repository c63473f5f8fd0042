"""The task `follow`: walk in any direction at any speed, facing any heading, all of which change while the robot walks."""

import math
from collections.abc import Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from qi_ext.robot import a1, courses
from qi_ext.robot.commands import Command, angle_between
from qi_ext.robot.courses import COURSES, Course
from qi_ext.robot.frames import turned
from qi_ext.tasks.task import DRAWN, Starts, Task, start_states

if TYPE_CHECKING:
    from qi_ext.demonstrations.dataset import Demonstrations  # more modules, which the pool's workers can do without

N_DIRECTIONS = 8
SLOW, FAST = 0.35, 0.65  # m/s, between the groups of start states


class FollowTask(Task):
    """Follow a command that moves along a course.

    Observation, reward and fall are those of `Task` in the frame of the commanded heading: x along it, y to the left of it, z
    up. So yaw is the heading's error, and, because that frame turns with the command, the yaw's rate is the error's. While the
    heading is 0 they are those of `simple` and `hard`, to the last bit. A command is an array as `courses` lays it out.
    """

    command_fields = ("direction_deg", "speed", "heading_deg")
    expert_gait = MappingProxyType({"period": 0.36, "duty": 0.55})  # with the default's it falls at 0.8 m/s and 60 degrees/s
    command_size = courses.COMMAND_SIZE
    torch_task = "qi_ext.tasks.on_device:FollowOnDevice"

    def __init__(
        self,
        name: str = "follow",
        commands: Iterable[Course] = COURSES.values(),
        demonstrations: "Demonstrations | None" = None,
        stops: float = courses.STOPS,
    ) -> None:
        """commands: the courses that episodes can be told, beside a `Command`, which stays.

        demonstrations: `Demonstrations` whose states episodes start from, each under the command that it was recorded under.
        stops: share of drawn targets that stop, 0 to 1. Raises ValueError outside that range.
        """
        if not 0.0 <= stops <= 1.0:
            raise ValueError(f"stops: must be a share of 0 to 1, not {stops!r}")
        self.name, self.stops = name, stops
        self.commands = tuple(commands)
        self._centres = np.empty((0, 2))
        self.starts = None if demonstrations is None else self._starts(demonstrations)

    def tell(self, command: Command | Course) -> tuple[np.ndarray, int]:
        if isinstance(command, Command):
            array = courses.constant_command(command.speed, command.direction, command.heading)
        elif not command.legs:
            return np.zeros(self.command_size), DRAWN
        else:
            array = courses.command_along(command, self.commands.index(command))
        return array, self._nearest_group(array)

    def start(
        self, generator: np.random.Generator, command: np.ndarray | None = None, group: int = DRAWN
    ) -> tuple[np.ndarray, np.ndarray]:
        command, state = super().start(generator, command, group)
        heading = command[courses.HEADING]
        rate = command[courses.HEADING_RATE]
        if heading or rate:
            state = state.copy()
            state[:6], state[18:24] = turned(state[:6], state[18:24], heading, rate)
        return command, state

    def advance(self, command: np.ndarray, step: int, generator: np.random.Generator) -> np.ndarray:
        return courses.advance(command, self.commands, generator, self.stops)

    def describe(self, command: np.ndarray) -> Command:
        return Command(math.degrees(command[courses.DIRECTION]), command[2], math.degrees(command[courses.HEADING]))

    def along_drawn_course(self, command: np.ndarray) -> np.ndarray:
        command = command.copy()
        command[courses.STEPS_LEFT] = 0.0
        return command

    def steering(self, command: np.ndarray) -> tuple[float, float, float, float]:
        heading = float(command[courses.HEADING])
        return float(command[courses.DIRECTION]) + heading, float(command[2]), heading, float(command[courses.HEADING_RATE])

    def observe(self, positions: np.ndarray, velocities: np.ndarray, command: np.ndarray, out: np.ndarray) -> None:
        super().observe(positions, velocities, command, out)
        heading, rate = command[courses.HEADING], command[courses.HEADING_RATE]
        if heading or rate:
            trunk, velocity = turned(positions[:6], velocities[:6], -heading, -rate)
            out[a1.POSITION][:4], out[a1.VELOCITY][:6] = trunk[2:], velocity

    def _nearest_group(self, command: np.ndarray) -> int:
        """The group of start states whose direction and speed are nearest to those of a command."""
        if not len(self._centres):
            return DRAWN
        far = angle_between(self._centres[:, 0], math.degrees(command[courses.DIRECTION])) / 180.0
        return int(np.argmin(far + np.abs(self._centres[:, 1] - command[2])))

    def _starts(self, demonstrations: "Demonstrations") -> Starts:
        """`Starts` in groups of direction and speed, from which episodes are drawn with equal chances."""
        states, headings = demonstrations.states, demonstrations.headings
        cosine, sine, speed = states[:, a1.GOAL].T
        direction = np.degrees(np.arctan2(sine, cosine))
        sector = np.round(direction * N_DIRECTIONS / 360.0).astype(int) % N_DIRECTIONS
        kinds = sector * 3 + np.digitize(speed, [SLOW, FAST])
        order = np.argsort(kinds, kind="stable")
        _, begins = np.unique(kinds[order], return_index=True)
        groups = np.stack([begins, np.append(begins[1:], len(order))], axis=1)
        self._centres = np.array([(kinds[order[b]] // 3 * 360.0 / N_DIRECTIONS, speed[order[b:e]].mean()) for b, e in groups])
        commands = np.array(
            [courses.constant_command(v, d) for v, d in zip(speed[order], np.radians(direction[order]), strict=True)]
        )
        commands[:, courses.STEPS_LEFT] = 0.0
        if headings is not None:
            commands[:, courses.HEADING_RATE] = headings[order, 1]
        return Starts(
            states=start_states(states[order]),
            groups=groups,
            group_of_command=np.arange(len(groups)),
            commands=commands,
            command_of_row=True,
        )
