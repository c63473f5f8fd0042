"""Whole episodes, the same number in each direction, and what is measured on them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command, differ_in_speed
from qi_ext.robot.courses import Course
from qi_ext.sampling.controllers import Controller
from qi_ext.sampling.envs import episode_seed
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.sampling.rollouts import Rollouts

__all__ = ["evaluate"]


def run_episodes(
    source: PoolSource, controller: Controller, commands: Sequence[Command | Course], seeds: Sequence[np.random.SeedSequence]
) -> Iterator[tuple[int, Rollouts]]:
    """Run one episode under each of `commands`; yield (index of the command, `Rollouts` of its episode) in any order.

    source: a `PoolSource` of a `QuadrupedDirection`. controller: of `qi_ext.sampling.controllers`.
    seeds: a `numpy.random.SeedSequence` for each command. Raises SamplingError.
    """
    envs = source.envs(seeds)
    source.tell(envs, commands)
    yield from source.run_episodes(envs, controller)


def evaluate(
    source: PoolSource,
    controller: Controller,
    episodes: int,
    seed: int,
    step: int = 0,
    progress: Callable[[int], Any] = lambda n: None,
    commands: Sequence[Command | Course] | None = None,
    measures: Sequence[Callable] = (),
) -> dict:
    """Run `episodes` episodes under each command and summarize them by command.

    source, controller: as in `run_episodes`. Each episode is keyed by (seed, step, command, episode), so it depends on
    nothing that ran before it, and short episodes do not make room for more. progress(n) is called as n of them are done.
    commands: `Command`s; None for those of the task.
    measures: classes such as `Motion`, or factories; measure(command, episodes) is called for each direction. Its
    add(episode, rollouts) is called with each episode of that direction, in any order; its result(), a dict, is added to the
    direction's row.
    Returns a dict: return_mean, and directions, a list of rows, one a command, with direction_deg, speed where commands differ
    in it, episodes, return_mean, return_std, length_mean (steps), falls, blow_ups, velocity_error_mean (m/s,
    |v_xy - command|, mean over all steps). With measures, also mean: their results, each the mean over the rows that have it,
    None where none has.
    Raises SamplingError.
    """
    commands = source.environment.commands if commands is None else commands
    told = [command for command in commands for _ in range(episodes)]
    seeds = [episode_seed(seed, step, command, i % episodes, commands) for i, command in enumerate(told)]
    counts = np.zeros((len(commands), episodes, 5))
    measuring = [[measure(command, episodes) for measure in measures] for command in commands]
    for i, rollouts in run_episodes(source, controller, told, seeds):
        direction, episode = divmod(i, episodes)
        row = rollouts.episodes[0]
        error = a1.velocity_error(rollouts.observations[0]).sum()
        counts[direction, episode] = row["episode_return"], row["length"], row["fell"], error, row["blew_up"]
        for measure in measuring[direction]:
            measure.add(episode, rollouts)
        progress(1)
    directions = []
    for command, of_direction in zip(commands, counts, strict=True):
        *summarized, blow_ups = of_direction.T
        directions.append(summarize(command, commands, *summarized, blow_ups=blow_ups))
    result = {"return_mean": float(np.mean([row["return_mean"] for row in directions])), "directions": directions}
    if measures:
        measured = [{name: value for measure in row for name, value in measure.result().items()} for row in measuring]
        for row, more in zip(directions, measured, strict=True):
            row |= more
        result["mean"] = mean_over_rows(measured)
    return result


def summarize(
    command: Command | Course,
    commands: Iterable[Command | Course],
    returns: np.ndarray,
    lengths: np.ndarray,
    falls: np.ndarray,
    velocity_errors: np.ndarray,
    **counts: np.ndarray,
) -> dict:
    """The row of one of `commands`, plain data, as `evaluate` documents it.

    returns, lengths, falls, velocity_errors: (episodes,); the errors are sums over the steps of an episode. counts: further
    (episodes,), whose sums stand after falls.
    """
    speed = {"speed": command.speed} if isinstance(command, Command) and differ_in_speed(commands) else {}
    return {
        **({"course": command.name} if isinstance(command, Course) else {"direction_deg": command.direction_deg}),
        **speed,
        "episodes": len(returns),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "length_mean": float(lengths.mean()),
        "falls": int(falls.sum()),
        **{name: int(values.sum()) for name, values in counts.items()},
        "velocity_error_mean": float(velocity_errors.sum() / float(lengths.sum())),
    }


def mean_over_rows(rows: list[dict]) -> dict:
    """Return the mean of dicts of numbers and of such dicts, each over those that have a number; None where none has."""
    means: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        if values and isinstance(values[0], dict):
            means[name] = mean_over_rows(values)
        else:
            means[name] = float(np.mean(values)) if values else None
    return means
