"""A task as one value: commands, observations, rewards, falls and start states of the A1.

The environment's own `step` and the pool's workers use the same object, so a new task is one subclass. Numpy only: workers
import this module.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low
from types import MappingProxyType
from typing import Any

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import Course
from qi_ext.utils.errors import UserError
from qi_ext.utils.references import load

DRAWN = -1  # start group of an env whose command is drawn at each episode start


@dataclass(frozen=True, eq=False)
class Starts:
    """Start states of episodes, and how an episode draws its command and its state.

    states: (R, 36), float64: positions (18, m and rad) and velocities (18, m/s and rad/s) in the order of `a1.JOINTS`.
    groups: (K, 2), int64: begin and end of the rows that are drawn from with equal chances.
    group_of_command: (C,), int64: an episode first draws one of C commands, and with it the group of its start.
    commands: (C, k): commands as the task encodes them; or (R, k), one for each row, where `command_of_row`.
    """

    states: np.ndarray
    groups: np.ndarray
    group_of_command: np.ndarray
    commands: np.ndarray
    command_of_row: bool = False

    def draw(
        self, generator: np.random.Generator, command: np.ndarray | None = None, group: int = DRAWN
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a command, (k,), and a start state, (36,).

        command, group: those of an env that is told its command, as `Task.tell` gives them; else both are drawn.
        """
        if group == DRAWN:
            choice = int(generator.integers(len(self.group_of_command)))
            group, command = self.group_of_command[choice], None if self.command_of_row else self.commands[choice]
        begin, end = self.groups[group]
        row = int(begin + generator.integers(end - begin))
        return self.commands[row] if command is None else command, self.states[row]


def start_states(observations: np.ndarray) -> np.ndarray:
    """Return observations, (R, 37), as states of `Starts`, (R, 36), at x = y = 0."""
    return np.hstack([np.zeros((len(observations), 2)), observations[:, a1.POSITION], observations[:, a1.VELOCITY]])


class Task(ABC):
    """Commands, observations, rewards, falls and start states of the A1.

    A command travels as an array of `command_size` numbers, whose layout is the task's own.

    name: for messages, tables and agents. commands: what evaluation runs, a tuple of `Command`s or `Course`s.
    speed: m/s, of a `Command` that is given by its direction alone: the middle of those commanded.
    command_fields: of a `Command` that an episode can be told.
    expert_gait: fields of `demonstrations.trot.Gait` in which the trot expert of the task differs from that class's defaults.
    starts: `Starts`; None where every episode must be given its start.
    torch_task: "module:class" of its implementation in torch, such as `on_device.TaskOnDevice`, for physics on a GPU. It is
    not inherited, because a subclass may change what it computes.
    max_pitch: of the trunk, rad, past which the robot has fallen; loco-mujoco's.
    """

    name: str
    commands: tuple[Command | Course, ...]
    command_fields: tuple[str, ...] = ("direction_deg", "speed")
    starts: Starts | None = None
    expert_gait: Mapping[str, float] = MappingProxyType({})
    torch_task = ""
    max_pitch = a1.MAX_PITCH
    command_size = 3
    observation_size = a1.N_OBSERVATIONS

    @property
    def speed(self) -> float:
        speeds = {command.speed for command in self.commands if isinstance(command, Command)}
        return median_low(speeds) if speeds else 0.5

    @abstractmethod
    def tell(self, command: Any) -> tuple[np.ndarray, int]:
        """Return a `Command` or `Course` as an array, (command_size,), and the group of its start states, an int."""

    def start(
        self, generator: np.random.Generator, command: np.ndarray | None = None, group: int = DRAWN
    ) -> tuple[np.ndarray, np.ndarray]:
        """Begin an episode; return its command, (command_size,), and its start state, (36,), as `Starts` has them.

        generator: the env's own `numpy.random.Generator`. command, group: from `tell`; drawn where they are not given.
        Raises ValueError where there is nothing to start from.
        """
        if self.starts is None:
            raise ValueError("reset: the environment has no demonstrations to start from; give reset an observation")
        return self.starts.draw(generator, command, group)

    def on_device(self, device: Any) -> Any:
        """Return the `torch_task` on `device`, torch's. Raises UserError where there is none."""
        reference = vars(type(self)).get("torch_task")
        if not reference:
            what = f"the task {self.name} has no torch implementation (Task.torch_task)"
            raise UserError(f"--physics: {what}; leave --physics out")
        return load(reference)(self, device)

    def advance(self, command: np.ndarray, step: int, generator: np.random.Generator) -> np.ndarray:
        """Return the command after control step number `step` (from 1) of an episode, (command_size,); here: as it was.

        A command that changes is a new array; the one given stays as it is. The next observation, and whether the robot has
        fallen, are those under the new command.
        """
        return command

    def describe(self, command: np.ndarray) -> Command:
        """Return the `Command` of an array, (command_size,); here: of goal features, the task's own where it is one."""
        own_commands = (own for own in self.commands if isinstance(own, Command))
        known = (own for own in own_commands if np.array_equal(own.features, command[:3]))
        return next(known, None) or Command(np.degrees(np.arctan2(command[1], command[0])), command[2])

    def along_drawn_course(self, command: np.ndarray) -> np.ndarray | None:
        """Return a command, (command_size,), that is `command` and goes on along a drawn course; here None: none changes."""
        return None

    def steering(self, command: np.ndarray) -> tuple[float, float, float, float]:
        """Return what an expert is told, in the world frame: direction, rad, speed, m/s, heading, rad, and its rate, rad/s."""
        return math.atan2(command[1], command[0]), float(command[2]), 0.0, 0.0

    def observe(self, positions: np.ndarray, velocities: np.ndarray, command: np.ndarray, out: np.ndarray) -> None:
        """Write the observation, (observation_size,), into `out`; here: the stock A1's, with the command as goal features.

        positions, velocities: (18,) each, of `a1.JOINTS`; m, rad, m/s and rad/s in the world frame.
        """
        out[a1.POSITION] = positions[2:]
        out[a1.VELOCITY] = velocities
        out[a1.GOAL] = command[:3]

    def reward(self, observations: np.ndarray, actions: np.ndarray, next_observations: np.ndarray) -> np.ndarray:
        """Return rewards, (n,), of control steps; here: the stock A1's, exp(-5 |v_xy - v_command|) of the state before.

        observations, next_observations: (n, observation_size). actions: (n, 12), not clipped.
        """
        return a1.environment_reward(observations)

    def has_fallen(self, observations: np.ndarray) -> np.ndarray:
        """Return True where the robot has fallen, (n,), bool, in observations, (n, observation_size); here: stock limits.

        That of the pitch is the task's own.
        """
        return a1.has_fallen(observations, self.max_pitch)
