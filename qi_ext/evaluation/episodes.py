"""Whole episodes with a fixed quota per direction, and what is measured on them."""

import numpy as np

from qi_ext import a1
from qi_ext.demonstrations.trot import TrotController


def evaluate(environment, controller, episodes, seed, step=0, progress=lambda: None):
    """Run `episodes` episodes for each command of `environment`, a `QuadrupedDirection`.

    controller(environment, generator) is called after each reset and returns a function observation -> action.
    Each episode is keyed by (seed, step, direction, episode), so it depends on nothing that ran before it.
    Returns a dict: return_mean, and directions, a list of dicts with direction_deg, episodes, return_mean, return_std,
    length_mean (steps), falls, velocity_error_mean (m/s, |v_xy - command|, mean over all steps).
    """
    directions = []
    for command in environment.commands:
        results = []
        for episode in range(episodes):
            key = np.random.SeedSequence([seed, step, round(command.direction_deg * 1000), episode])
            results.append(_episode(environment, command, controller, key))
            progress()
        returns, lengths, falls, errors = (np.array(column, dtype=float) for column in zip(*results, strict=True))
        directions.append(
            {
                "direction_deg": command.direction_deg,
                "episodes": episodes,
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std()),
                "length_mean": float(lengths.mean()),
                "falls": int(falls.sum()),
                "velocity_error_mean": float(errors.sum() / lengths.sum()),
            }
        )
    return {"return_mean": float(np.mean([row["return_mean"] for row in directions])), "directions": directions}


def actor_controller(actor, deterministic):
    """Acts as the trained agent `actor`, a `qi_ext.acting.Actor`."""

    def begin(environment, generator):
        return lambda observation: actor.act(observation, deterministic, generator)

    return begin


def expert_controller(environment, generator):
    """Acts as the trot controller in closed loop, its phase estimated from the feet; it reads the simulation's state."""
    command = environment.command
    trot = TrotController(environment.model, command.direction, command.speed)
    trot.reset(environment.data)
    return lambda observation: trot.action(environment.data)


def random_controller(environment, generator):
    """Uniform torques."""
    return lambda observation: generator.uniform(-1.0, 1.0, a1.N_ACTIONS)


def _episode(environment, command, controller, key):
    for_start, for_actions = key.spawn(2)
    environment.seed(for_start)
    observation = environment.reset(command=command)
    act = controller(environment, np.random.default_rng(for_actions))
    total, error, length, absorbing = 0.0, 0.0, 0, False
    while length < environment.info.horizon and not absorbing:
        error += a1.velocity_error(observation)
        observation, reward, absorbing, _ = environment.step(act(observation))
        total += reward
        length += 1
    return total, length, absorbing, error
