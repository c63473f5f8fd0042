"""The tasks `simple` and `hard`: walk in one direction at one speed, commanded at the start of the episode."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qi_ext.robot.commands import Command, nearest_command
from qi_ext.robot.courses import COURSES, Course
from qi_ext.tasks.course_files import find_courses
from qi_ext.tasks.follow import FollowTask
from qi_ext.tasks.task import DRAWN, Starts, Task, start_states

if TYPE_CHECKING:
    from qi_ext.demonstrations.dataset import Demonstrations  # more modules, which the pool's workers can do without


class DirectionTask(Task):
    """Walk along +x (`simple`), or in a direction, at a speed, drawn from several with equal chances (`hard`).

    A command is the observation's goal features: cosine and sine of the direction, and the speed in m/s.
    """

    commands: tuple[Command, ...]
    torch_task = "qi_ext.tasks.on_device:TaskOnDevice"

    def __init__(self, name: str, commands: Iterable[Command], demonstrations: "Demonstrations | None" = None) -> None:
        """name: simple or hard. commands: `Command`s to draw from. demonstrations: `Demonstrations` whose states episodes start
        from, under the command or the nearest, by `nearest_command`, that was demonstrated; None where every episode is given
        its start.
        """
        self.name = name
        self.commands = tuple(commands)
        states = {} if demonstrations is None else demonstrations.states_by_command()
        self._demonstrated = list(states)
        self.starts = self._starts(list(states.values())) if states else None

    def tell(self, command: Command) -> tuple[np.ndarray, int]:
        return command.features, self._nearest(command)

    def _nearest(self, command: Command) -> int:
        """The group of start states whose direction and speed are nearest to those of `command`."""
        return nearest_command(command, self._demonstrated) if self._demonstrated else DRAWN

    def _starts(self, states: list[np.ndarray]) -> Starts:
        """`Starts` of states, a list of (n, 37), one a demonstrated command; each at x = y = 0."""
        ends = np.cumsum([len(group) for group in states])
        together = np.concatenate(states)
        return Starts(
            states=start_states(together),
            groups=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
            group_of_command=np.array([self._nearest(command) for command in self.commands]),
            commands=np.array([command.features for command in self.commands]),
        )


# By the names that --task takes.
TASKS = {"simple": DirectionTask, "hard": DirectionTask, "follow": FollowTask}


def task_commands(
    task: str,
    n_directions: int = 8,
    speed: float = 0.5,
    speeds: Sequence[float] = (),
    courses: Iterable[str | Course] | None = None,
) -> tuple[Command | Course, ...]:
    """What a task draws from: a command along +x for `simple`, `n_directions` evenly spread for `hard`, courses for `follow`.

    speed: m/s. speeds: of `hard`, m/s, in place of `speed`: each direction is commanded at each of them.
    Raises ValueError for an unknown task, a number of directions that is no whole number of at least 1, and `speeds` with
    another task, beside a `speed`, or with one of them twice.
    """
    if task not in TASKS:
        raise ValueError(f"task: unknown task {task!r}; choose one of {', '.join(TASKS)}")
    if courses is not None and task != "follow":
        raise ValueError(f"courses: only follow has any, not {task}")
    _check_speeds(task, speed, speeds)
    if task == "follow":
        return find_courses(COURSES if courses is None else courses)
    if not isinstance(n_directions, int | np.integer) or n_directions < 1:
        raise ValueError(f"n_directions: must be a whole number of at least 1, not {n_directions!r}")
    count = 1 if task == "simple" else int(n_directions)
    commands = tuple(Command(360.0 * i / count, each) for i in range(count) for each in speeds or [speed])
    if len(set(commands)) < len(commands):
        raise ValueError(f"speeds: one of them is there twice: {' '.join(f'{each:g}' for each in speeds)}")
    return commands


def _check_speeds(task: str, speed: float, speeds: Sequence[float]) -> None:
    if not isinstance(speeds, list | tuple):
        raise ValueError(f"speeds: must be a list of m/s, not {speeds!r}; for one there is speed")
    if speeds and task != "hard":
        raise ValueError(f"speeds: only hard draws one of several, not {task}; leave it out")
    if speeds and speed != 0.5:
        raise ValueError("speed: not beside speeds, which says them all; leave it out")
