"""Whole episodes with a fixed quota per direction, and what is measured on them."""

import numpy as np

from qi_ext import a1
from qi_ext.sampling.lanes import episode_seed


def evaluate(sampler, controller, episodes, seed, step=0, progress=lambda n: None):
    """Run `episodes` episodes for each command of the `QuadrupedDirection` of `sampler`, a `BatchedSampler`.

    controller: of `qi_ext.sampling.controllers`. Each episode is keyed by (seed, step, direction, episode), so it depends on
    nothing that ran before it, and short episodes do not make room for more. progress(n) is called as n of them are done.
    Returns a dict: return_mean, and directions, a list of dicts with direction_deg, episodes, return_mean, return_std,
    length_mean (steps), falls, blow_ups, velocity_error_mean (m/s, |v_xy - command|, mean over all steps).
    Raises SamplingError.
    """
    commands = [command for command in sampler.environment.commands for _ in range(episodes)]
    lanes = sampler.lanes([episode_seed(seed, step, command, i % episodes) for i, command in enumerate(commands)])
    sampler.command(lanes, commands)
    figures = np.zeros((len(commands), 5))
    for lane, rollouts in sampler.episodes(lanes, controller):
        episode = rollouts.episodes[0]
        error = a1.velocity_error(rollouts.observations[0]).sum()
        figures[lane] = (*(episode[name] for name in ("episode_return", "length", "fell", "blew_up")), error)
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
    return {"return_mean": float(np.mean([row["return_mean"] for row in directions])), "directions": directions}
