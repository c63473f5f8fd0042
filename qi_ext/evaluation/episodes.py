"""Whole episodes with a fixed quota per direction, and what is measured on them."""

import numpy as np

from qi_ext.robot import a1
from qi_ext.sampling.envs import episode_seed


def evaluate(sampler, controller, episodes, seed, step=0, progress=lambda n: None, commands=None, measures=()):
    """Run `episodes` episodes for each of `commands` in the `QuadrupedDirection` of `sampler`, a `BatchedSampler`.

    controller: of `qi_ext.sampling.controllers`. Each episode is keyed by (seed, step, direction, episode), so it depends on
    nothing that ran before it, and short episodes do not make room for more. progress(n) is called as n of them are done.
    commands: `Command`s; None for those of the task.
    measures: such as `Motion`; measure(command, episodes) is made for each direction. Its add(episode, rollouts) is called
    with each episode of that direction, in any order, and its figures() then go into the direction's dict.
    Returns a dict: return_mean, and directions, a list of dicts with direction_deg, episodes, return_mean, return_std,
    length_mean (steps), falls, blow_ups, velocity_error_mean (m/s, |v_xy - command|, mean over all steps). With measures, also
    mean: their figures, each the mean over the directions that have it; None where none has.
    Raises SamplingError.
    """
    chosen = sampler.environment.commands if commands is None else commands
    commands = [command for command in chosen for _ in range(episodes)]
    lanes = sampler.lanes([episode_seed(seed, step, command, i % episodes) for i, command in enumerate(commands)])
    sampler.command(lanes, commands)
    figures = np.zeros((len(commands), 5))
    measured = [[measure(command, episodes) for measure in measures] for command in chosen]
    for lane, rollouts in sampler.episodes(lanes, controller):
        episode = rollouts.episodes[0]
        error = a1.velocity_error(rollouts.observations[0]).sum()
        figures[lane] = (*(episode[name] for name in ("episode_return", "length", "fell", "blew_up")), error)
        for measure in measured[lane // episodes]:
            measure.add(lane % episodes, rollouts)
        progress(1)
    directions = []
    for i in range(0, len(commands), episodes):
        returns, lengths, falls, blow_ups, errors = figures[i : i + episodes].T
        directions.append(
            {
                "direction_deg": commands[i].direction_deg,
                "episodes": episodes,
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std()),
                "length_mean": float(lengths.mean()),
                "falls": int(falls.sum()),
                "blow_ups": int(blow_ups.sum()),
                "velocity_error_mean": float(errors.sum() / lengths.sum()),
            }
        )
    result = {"return_mean": float(np.mean([row["return_mean"] for row in directions])), "directions": directions}
    if measures:
        found = [{name: value for measure in row for name, value in measure.figures().items()} for row in measured]
        for row, more in zip(directions, found, strict=True):
            row |= more
        result["mean"] = _mean(found)
    return result


def _mean(found):
    """The mean of dicts of numbers, of None where there is none, and of such dicts."""
    means = {}
    for name in found[0]:
        values = [row[name] for row in found if row[name] is not None]
        if values and isinstance(values[0], dict):
            means[name] = _mean(values)
        else:
            means[name] = float(np.mean(values)) if values else None
    return means
