"""Single episodes, step by step, for whoever wants to look at them."""

from dataclasses import dataclass

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.envs import episode_seed


@dataclass(frozen=True)
class Walk:
    """One episode of T steps.

    command: as told. observations: (T, 37). actions: (T, 12). fell: whether it ended so.
    """

    command: Command
    observations: np.ndarray
    actions: np.ndarray
    fell: bool
    episode_return: float

    @property
    def poses(self):
        """Values of the joints `a1.JOINTS`, (T, 18), m and rad, from x = y = 0.

        Observations leave x and y out, so these are the integral of the trunk's velocity, by the trapezoidal rule.
        """
        velocity = self.observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1]
        steps = a1.CONTROL_DT * (velocity[:-1] + velocity[1:]) / 2.0
        position = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        return np.concatenate([position, self.observations[:, a1.POSITION]], axis=1)


def walks(sampler, controller, commands, seed, step=0, episode=0, progress=lambda n: None):
    """Episode number `episode` under each of `commands`, as `evaluate` runs it with the same seed and step.

    sampler: a `BatchedSampler`. controller: of `qi_ext.sampling.controllers`. progress(n) is called as n episodes are done.
    Returns a list of `Walk`, one a command. Raises SamplingError.
    """
    lanes = sampler.lanes([episode_seed(seed, step, command, episode) for command in commands])
    sampler.command(lanes, commands)
    found = {}
    for lane, rollouts in sampler.episodes(lanes, controller):
        row = rollouts.episodes[0]
        arrays = rollouts.observations[0], rollouts.actions[0]
        found[lane] = Walk(commands[lane], *arrays, bool(row["fell"]), float(row["episode_return"]))
        progress(1)
    return [found[lane] for lane in range(len(commands))]
