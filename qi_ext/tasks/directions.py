"""The tasks `simple` and `hard`: walk in one direction, which is commanded at the start of the episode."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command, angle_between
from qi_ext.robot.courses import COURSES, Course
from qi_ext.tasks.course_files import find_courses
from qi_ext.tasks.follow import FollowTask
from qi_ext.tasks.task import DRAWN, Starts, Task

if TYPE_CHECKING:
    from qi_ext.demonstrations.dataset import Demonstrations  # more modules, which the pool's workers can do without


class DirectionTask(Task):
    """Walk along +x (`simple`), or in a direction drawn from several with equal chances (`hard`).

    A command is the observation's goal features: cosine and sine of the direction, and the speed in m/s.
    """

    def __init__(self, name: str, commands: Iterable[Command], demonstrations: "Demonstrations | None" = None) -> None:
        """name: simple or hard. commands: `Command`s to draw from. demonstrations: `Demonstrations` whose states episodes start
        from, in the commanded direction or the nearest that was demonstrated; None where every episode is given its start.
        """
        self.name = name
        self.commands = tuple(commands)
        states = {} if demonstrations is None else demonstrations.states_by_direction()
        self._directions = np.array(list(states))
        self.starts = self._starts(list(states.values())) if states else None

    def tell(self, command: Command) -> tuple[np.ndarray, int]:
        return command.features, self._nearest(command)

    def _nearest(self, command: Command) -> int:
        """The group of start states whose direction is nearest to that of `command`."""
        if not len(self._directions):
            return DRAWN
        return int(np.argmin(angle_between(self._directions, command.direction_deg)))

    def _starts(self, states: list[np.ndarray]) -> Starts:
        """`Starts` of states, a list of (n, 37), one a demonstrated direction; each at x = y = 0."""
        ends = np.cumsum([len(group) for group in states])
        together = np.concatenate(states)
        return Starts(
            states=np.hstack([np.zeros((len(together), 2)), together[:, a1.POSITION], together[:, a1.VELOCITY]]),
            groups=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
            group_of_command=np.array([self._nearest(command) for command in self.commands]),
            commands=np.array([command.features for command in self.commands]),
        )


# By the names that --task takes.
TASKS = {"simple": DirectionTask, "hard": DirectionTask, "follow": FollowTask}


def task_commands(
    task: str, n_directions: int = 8, speed: float = 0.5, courses: Iterable[str | Course] | None = None
) -> tuple[Command | Course, ...]:
    """What a task draws from: a command along +x for `simple`, `n_directions` evenly spread for `hard`, courses for `follow`.

    speed: m/s. Raises ValueError for an unknown task, or a number of directions that is no whole number of at least 1.
    """
    if task not in TASKS:
        raise ValueError(f"task: unknown task {task!r}; choose one of {', '.join(TASKS)}")
    if courses is not None and task != "follow":
        raise ValueError(f"courses: only follow has any, not {task}")
    if task == "follow":
        return find_courses(COURSES if courses is None else courses)
    if not isinstance(n_directions, int | np.integer) or n_directions < 1:
        raise ValueError(f"n_directions: must be a whole number of at least 1, not {n_directions!r}")
    count = 1 if task == "simple" else int(n_directions)
    return tuple(Command(360.0 * i / count, speed) for i in range(count))
