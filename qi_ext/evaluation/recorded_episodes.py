"""Single episodes, step by step, for films and drawings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qi_ext.evaluation.episodes import run_episodes
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import Course
from qi_ext.robot.frames import in_command_frame, turned
from qi_ext.sampling.controllers import Controller, CutShort
from qi_ext.sampling.envs import episode_seed
from qi_ext.sampling.pool_source import PoolSource

__all__ = ["RecordedEpisode", "record_episodes"]


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of T steps.

    command: a `Command` or `Course`, what the robot was told. observations: (T, 37). actions: (T, 12). commands: the `Command`s
    of each step. fell: True where it ended by a fall. episode_return: of these steps. cut: True where recording ended before
    the episode did.
    """

    command: Command | Course
    observations: np.ndarray
    actions: np.ndarray
    commands: Sequence[Command]
    fell: bool
    episode_return: float
    cut: bool = False

    @property
    def label(self) -> str:
        """The course, or the direction in degrees, for a picture's corner."""
        return self.command.label if isinstance(self.command, Course) else f"{self.command.direction_deg:g} degrees"

    @property
    def headings(self) -> np.ndarray:
        """Commanded headings, (T,), rad, from +x of the world."""
        return np.array([command.heading for command in self.commands])

    @property
    def poses(self) -> np.ndarray:
        """Positions of the joints `a1.JOINTS`, (T, 18), m and rad, in the world, from x = y = 0.

        Observations are in the frame of the commanded heading, and leave x and y out; here they are the integral of the
        trunk's velocity, by the trapezoidal rule.
        """
        headings, joints = self.headings, self.observations[:, a1.POSITION].copy()
        vx, vy = self.observations[:, a1.TRUNK_VX], self.observations[:, a1.TRUNK_VY]
        # By minus the angle, which turns back.
        velocity = np.stack(in_command_frame(vx, vy, np.cos(headings), -np.sin(headings)), axis=1)
        for t in np.flatnonzero(headings):
            joints[t, :4] = turned([0.0, 0.0, *joints[t, :4]], np.zeros(6), headings[t])[0][2:]
        return np.concatenate([_integral(velocity), joints], axis=1)

    @property
    def commanded_path(self) -> np.ndarray:
        """Positions that the commands lead through, (T, 2), m, in the world, from x = y = 0."""
        return _integral(np.array([command.velocity for command in self.commands]))


def record_episodes(
    source: PoolSource,
    controller: Controller,
    commands: Sequence[Command | Course],
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
    describe = source.environment.task.describe
    seeds = [episode_seed(seed, step, command, episode, commands) for command in commands]
    recorded = {}
    for i, rollouts in run_episodes(source, controller, commands, seeds):
        row = rollouts.episodes[0]
        assert rollouts.commands is not None  # whole episodes have them
        cut = int(row["length"]) == n_steps and n_steps < source.environment.info.horizon and not row["fell"]
        recorded[i] = RecordedEpisode(
            command=commands[i],
            observations=rollouts.observations[0],
            actions=rollouts.actions[0],
            commands=[describe(command) for command in rollouts.commands[0]],
            fell=bool(row["fell"]),
            episode_return=float(row["episode_return"]),
            cut=bool(cut),
        )
        progress(1)
    return [recorded[i] for i in range(len(commands))]


def _integral(velocity: np.ndarray) -> np.ndarray:
    """Positions, (T, 2), m, of velocities, (T, 2), m/s, at each control step, from 0."""
    steps = a1.CONTROL_DT * (velocity[:-1] + velocity[1:]) / 2.0
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
