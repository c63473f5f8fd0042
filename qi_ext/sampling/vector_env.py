"""The task as Gymnasium's vector environment."""

import sys
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.live_envs import LiveEnvs
from qi_ext.sampling.pool import worker_count
from qi_ext.sampling.read_environment import read_environment
from qi_ext.tasks.gymnasium_env import QuadrupedDirectionEnv, check_horizon, commanded, spaces
from qi_ext.tasks.quadruped import QuadrupedDirection
from qi_ext.tasks.task import Task

COMMAND = tuple(field.name for field in fields(Command))


class QuadrupedDirectionVectorEnv(gymnasium.vector.VectorEnv):
    """N envs, stepped by several threads: `gymnasium.make_vec("qi_ext.tasks:QuadrupedDirection-v0", num_envs=32, task="hard")`.

    Each env does what `gymnasium.make` of the same settings does with the same seeds and actions, to the last bit, for any
    number of threads. Observations: float64 (N, 37); actions: (N, 12); rewards: float64 (N,). Infos: the fields of
    the `Command`s, float64 (N,), each with a mask, such as `_speed`, bool (N,).
    """

    metadata = QuadrupedDirectionEnv.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        task: str | Task = "simple",
        n_workers: int | str = "auto",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = a1.HORIZON,
        horizon: int | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """task, horizon, kwargs: as `QuadrupedDirectionEnv` takes them. max_episode_steps: time limit; -1 is none.

        n_workers: threads; "auto" is one a processor. autoreset_mode: `AutoresetMode` or its value.
        render_mode: None; to draw, make a single environment. Raises TypeError for an unknown keyword, ValueError for settings
        that the pool cannot step, UserError for demonstrations that cannot be had.
        """
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs: must be a whole number of at least 1, not {num_envs!r}")
        if render_mode is not None:
            raise ValueError(
                f"render_mode: a vector environment does not draw; gymnasium.make(..., render_mode={render_mode!r})"
            )
        check_horizon(horizon)
        self.num_envs = int(num_envs)
        mode = AutoresetMode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": mode}
        limit = sys.maxsize if max_episode_steps in (None, -1) else int(max_episode_steps)
        quadruped = QuadrupedDirection(task, horizon=min(limit, horizon or limit), headless=True, **kwargs)
        try:
            spec = read_environment(quadruped)
        except ValueError as error:
            raise ValueError(f'{error}; gymnasium.make_vec(..., vectorization_mode="async") takes any settings') from None
        self.single_observation_space, self.single_action_space = spaces(quadruped)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._task = spec.task
        self.n_workers = min(worker_count(n_workers), self.num_envs)
        self._envs = LiveEnvs(spec, self.num_envs, self.n_workers, limit, mode.value)
        self._described: dict[bytes, tuple[float, ...]] = {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in each env; returns observations and infos.

        seed: an int gives env i seed + i; or a list of one int or None for each env. options: what to command instead of
        drawing, as `gymnasium_env.commanded` takes it, one for all or (N,); `reset_mask`, bool (N,), leaves the others alone.
        """
        options = dict(options or {})
        envs = np.arange(self.num_envs)
        if "reset_mask" in options:
            envs = np.flatnonzero(_checked_mask(options.pop("reset_mask"), self.num_envs))
        seeds: Any = [None] * self.num_envs if seed is None else seed
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds = [int(seed) + env for env in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"reset: seed has {len(seeds)} items, and there are {self.num_envs} envs")
        options = {name: np.broadcast_to(value, self.num_envs) for name, value in options.items()}
        told = {}
        for env in envs.tolist():
            command = commanded({name: values[env].item() for name, values in options.items()}, self._task)
            told[env] = () if command is None else self._task.tell(command)
        self._envs.reset(told, {env: seeds[env] for env in told if seeds[env] is not None})
        return self._envs.observation.copy(), self._infos(dict(zip(envs.tolist(), self._envs.command[envs], strict=True)))

    def step(self, actions: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step each env; returns observations, rewards, terminations, truncations and infos.

        Raises ValueError where actions are not (N, 12) finite numbers, and the envs are then as before; SamplingError where an
        env cannot be stepped.
        """
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"step: actions must have shape {self.action_space.shape}, not {actions.shape}")
        if not np.isfinite(actions).all():
            env = int(np.argmin(np.isfinite(actions).all(axis=1)))
            raise ValueError(f"step: actions must be finite, but those of env {env} are not: {actions[env]}")
        rewards, terminated, truncated, ends = self._envs.step(actions)
        infos = self._infos(dict(enumerate(self._envs.command)))
        if ends:
            infos |= self._final(ends)
        return self._envs.observation.copy(), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        self._envs.close()

    def _final(self, ends: dict[int, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        observations = np.full(self.num_envs, None, dtype=object)
        for env, (observation, _) in ends.items():
            observations[env] = observation
        information = self._infos({env: command for env, (_, command) in ends.items()})
        mask = information["_speed"]
        return {"final_obs": observations, "_final_obs": mask.copy(), "final_info": information, "_final_info": mask.copy()}

    def _infos(self, commands: dict[int, np.ndarray]) -> dict[str, Any]:
        """Information about `commands`, (k,) each, of some envs; the others' entries are 0."""
        mask = np.zeros(self.num_envs, dtype=bool)
        told = np.zeros((self.num_envs, len(COMMAND)))
        for env, command in commands.items():
            mask[env], told[env] = True, self._describe(command)
        columns = {name: told[:, i].copy() for i, name in enumerate(COMMAND)}
        return columns | {f"_{name}": mask.copy() for name in COMMAND}

    def _describe(self, command: np.ndarray) -> tuple[float, ...]:
        """The fields of the `Command` that an array, (k,), stands for, looked up where it was described before."""
        key = command.tobytes()
        if key not in self._described:
            if len(self._described) > 1000:  # tasks may change commands at each step
                self._described.clear()
            self._described[key] = astuple(self._task.describe(command.copy()))
        return self._described[key]


def _checked_mask(mask: Any, n: int) -> np.ndarray:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (n,) or not mask.any():
        raise ValueError(f"reset: reset_mask must be a bool array of shape ({n},) with at least one True, not {mask!r}")
    return mask
