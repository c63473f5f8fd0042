"""The task behind Gymnasium's interface."""

from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import Course
from qi_ext.tasks.quadruped import QuadrupedDirection
from qi_ext.tasks.task import Task
from qi_ext.utils.drawing import has_screen, rendering_backend
from qi_ext.utils.errors import UserError

__all__ = ["QuadrupedDirectionEnv"]


class QuadrupedDirectionEnv(gymnasium.Env):
    """`QuadrupedDirection` for Gymnasium: `gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", task="hard")`.

    Observation: float64 (37,), unbounded but for the goal's cosine and sine; see `qi_ext.robot.a1.observation_table`.
    Action: float64 (12,), [-1, 1] of 34 Nm. Terminated: the robot fell. Truncated: the time limit is over, which is
    `max_episode_steps` of `gymnasium.make` (1000), or `horizon` where that is less.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": round(1 / a1.CONTROL_DT)}

    def __init__(
        self, task: str | Task = "simple", render_mode: str | None = None, horizon: int | None = None, **kwargs: Any
    ) -> None:
        """task, kwargs: as `QuadrupedDirection` takes them. render_mode: None, "human" or "rgb_array".

        horizon: steps of an episode, at most 1000; None is the time limit of `gymnasium.make`, or 1000 without one.
        Raises TypeError for an unknown keyword, UserError for "human" without a screen and "rgb_array" where nothing draws.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: unknown mode {render_mode!r}; choose one of {self.metadata['render_modes']}")
        check_horizon(horizon)
        if render_mode == "human" and not has_screen():
            raise UserError('render_mode: "human" needs a screen, and none can be opened here; "rgb_array" returns pictures')
        if render_mode == "rgb_array":
            rendering_backend()  # here, where its error is seen first
        self.render_mode = render_mode
        self._horizon = horizon
        kwargs["headless"] = render_mode != "human"
        self._env = QuadrupedDirection(task, horizon=horizon or a1.HORIZON, **kwargs)
        self.observation_space, self.action_space = spaces(self._env)
        self._steps = 0

    @property
    def quadruped(self) -> QuadrupedDirection:
        """The `QuadrupedDirection` inside."""
        return self._env

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode. options: what to command instead of drawing it, see `commanded`."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.seed(seed)
        command = commanded(options, self._env.task)
        self._steps = 0
        return self._env.reset(command=command), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Returns observation, reward, terminated, truncated, info; info holds the command's fields, as `Command` has them."""
        observation, reward, absorbing, _ = self._env.step(action)
        self._steps += 1
        # Without a `horizon`, the time limit of `gymnasium.make` alone truncates.
        limit = self._horizon or (a1.HORIZON if self.spec is None else np.inf)
        truncated = self._steps >= limit and not absorbing
        if self.render_mode == "human":
            self.render()
        return observation, float(reward), bool(absorbing), truncated, self._info()

    def render(self) -> np.ndarray | None:
        """An RGB picture, uint8 (height, width, 3), with render_mode "rgb_array"; draws to the window with "human"."""
        if self.render_mode == "rgb_array":
            return np.ascontiguousarray(self._env.render(record=True))  # upstream's rows run backwards in memory
        if self.render_mode == "human":
            self._env.render()
        return None

    def close(self) -> None:
        """Close the viewer, if there is one."""
        self._env.stop()

    def _info(self) -> dict[str, Any]:
        return asdict(self._env.command)


def spaces(quadruped: QuadrupedDirection) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Return Gymnasium's spaces of the observations and actions of a `QuadrupedDirection`."""
    low = np.full(quadruped.info.observation_space.shape, -np.inf)
    high = -low
    low[a1.GOAL.start : a1.GOAL.start + 2], high[a1.GOAL.start : a1.GOAL.start + 2] = -1.0, 1.0
    observation_space = gymnasium.spaces.Box(low, high, dtype=np.float64)
    return observation_space, gymnasium.spaces.Box(-1.0, 1.0, (a1.N_ACTIONS,), np.float64)


def commanded(options: dict[str, Any] | None, task: Task) -> Command | Course | None:
    """Return what the options of a reset ask for, None for what the task draws.

    options: `direction_deg` and, with it, `speed` and `heading_deg`, the fields of a `Command`, which stays for the episode;
    or `course`, the name of one of the task's courses. Raises ValueError for unknown ones, or courses that the task has not.
    """
    options = dict(options or {})
    if "course" in options:
        if len(options) > 1:
            raise ValueError(f"reset: course says it all; leave out {', '.join(sorted(set(options) - {'course'}))}")
        return course_named(options["course"], task)
    known = task.command_fields
    if options and ("direction_deg" not in options or not set(options) <= set(known)):
        raise ValueError(
            f"reset: unknown options {sorted(options)}; known are {known[0]} and, with it, {' and '.join(known[1:])}"
        )
    return Command(**{"speed": task.speed} | options) if options else None


def course_named(name: Any, task: Task) -> Course:
    """Return the task's course of that name. Raises ValueError where it has none."""
    for course in task.commands:
        if isinstance(course, Course) and name in (course, course.name):
            return course
    known = [course.name for course in task.commands if isinstance(course, Course)]
    raise ValueError(f"course: no course {name!r} on {task.name}" + (f"; choose one of {', '.join(known)}" if known else ""))


def check_horizon(horizon: Any) -> None:
    """Raise ValueError unless `horizon` is None or a whole number from 1 to 1000."""
    if horizon is not None and (not isinstance(horizon, int | np.integer) or not 1 <= horizon <= a1.HORIZON):
        raise ValueError(
            f"horizon: must be a whole number from 1 to {a1.HORIZON}, not {horizon!r}; "
            "longer episodes are gymnasium.make(..., max_episode_steps=2000)"
        )
