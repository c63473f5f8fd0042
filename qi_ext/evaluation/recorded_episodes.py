"""Single episodes, step by step, for films and drawings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qi_ext.evaluation.episodes import run_episodes
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import Controller, CutShort
from qi_ext.sampling.envs import episode_seed
from qi_ext.sampling.pool_source import PoolSource

__all__ = ["RecordedEpisode", "record_episodes"]


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of T steps.

    command: what the robot was told. observations: (T, 37). actions: (T, 12). fell: True where it ended by a fall.
    episode_return: of these steps. cut: True where recording ended before the episode did.
    """

    command: Command
    observations: np.ndarray
    actions: np.ndarray
    fell: bool
    episode_return: float
    cut: bool = False

    @property
    def poses(self) -> np.ndarray:
        """Positions of the joints `a1.JOINTS`, (T, 18), m and rad, from x = y = 0.

        Observations leave x and y out; here they are the integral of the trunk's velocity, by the trapezoidal rule.
        """
        velocity = self.observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1]
        steps = a1.CONTROL_DT * (velocity[:-1] + velocity[1:]) / 2.0
        position = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        return np.concatenate([position, self.observations[:, a1.POSITION]], axis=1)


def record_episodes(
    source: PoolSource,
    controller: Controller,
    commands: Sequence[Command],
    seed: int,
    step: int = 0,
    episode: int = 0,
    progress: Callable[[int], Any] = lambda n: None,
    n_steps: int | None = None,
) -> list[RecordedEpisode]:
    """Record episode number `episode` under each of `commands`, the one that `evaluate` runs with the same seed and step.

    source, controller: as in `run_episodes`. progress(n) is called as n episodes are done.
    n_steps: at most so many steps of each are run and recorded, the first of those of the whole one; None for all.
    Returns a list of `RecordedEpisode`, one a command. Raises SamplingError.
    """
    if n_steps is not None:
        controller = CutShort(controller, n_steps)
    seeds = [episode_seed(seed, step, command, episode, commands) for command in commands]
    recorded = {}
    for i, rollouts in run_episodes(source, controller, commands, seeds):
        row = rollouts.episodes[0]
        arrays = rollouts.observations[0], rollouts.actions[0]
        cut = int(row["length"]) == n_steps and n_steps < source.environment.info.horizon and not row["fell"]
        recorded[i] = RecordedEpisode(commands[i], *arrays, bool(row["fell"]), float(row["episode_return"]), bool(cut))
        progress(1)
    return [recorded[i] for i in range(len(commands))]
