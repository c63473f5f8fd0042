"""Distance between the states that an agent visits and those that were demonstrated."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from qi_ext.robot import a1
from qi_ext.robot.commands import key_among
from qi_ext.robot.courses import Course
from qi_ext.sampling.envs import EVALUATION, seed_of

SAMPLES = 500
MOTION = slice(0, a1.GOAL.start)  # all but the goal features


def wasserstein(states, others):
    """Return the exact 2-Wasserstein distance between two samples, (n, k) each.

    It is the root of the least mean squared distance over all ways to pair the points. Raises ValueError where the samples
    differ in size.
    """
    cost = cdist(states, others, "sqeuclidean")
    if cost.shape[0] != cost.shape[1]:
        raise ValueError(f"wasserstein: samples must be of one size, not {cost.shape[0]} and {cost.shape[1]}")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


class StateDistance:
    """A measure for `evaluate`: the distance between states visited and demonstrated under the same command.

    state_distance: `wasserstein` between `state_samples` states of the episodes and as many nominal states of the
    demonstrations, drawn without replacement; None where that direction was not demonstrated. A state is the 34 positions and
    velocities (all but the goal features) in standard deviations of all nominal states demonstrated. The yaw varies least,
    by milliradians, so an agent whose yaw drifts is far away.

    Two finite samples of one distribution are apart too, the farther the more dimensions the states fill. The distance of the
    trot controller in closed loop is that floor, plus its recovery from the episodes' starts: compare an agent's distance with
    it, not with 0.

    Source: Dadashi et al. 2021, Primal Wasserstein Imitation Learning (arXiv 2006.04678), which evaluates imitation by the
    Wasserstein distance to the demonstrations, of states with actions; here of states alone, and of order 2.
    """

    def __init__(self, demonstrations, seed, step=0, samples=SAMPLES):
        """demonstrations: `Demonstrations`; all of them where no segment is nominal. seed, step: as in `evaluate`."""
        nominal = [i for i, kind in enumerate(demonstrations.kind) if kind == "nominal"]
        self.demonstrations = demonstrations.select(nominal) if nominal else demonstrations
        self.seed, self.step, self.samples = seed, step, samples
        self._different_commands = set(demonstrations.commands)
        states = self.demonstrations.states[:, MOTION]
        self._mean, std = states.mean(axis=0), states.std(axis=0)
        self._std = np.where(std > 0.0, std, 1.0)

    def __call__(self, command, episodes):
        return _DirectionDistance(self, command)

    def generator(self, command, *keys):
        """The generator that draws states of a direction's demonstrations, or, with keys (episode, 0), of an episode."""
        key = key_among(command, self._different_commands)
        # With a number of keys that no episode's own seed has.
        return np.random.default_rng(seed_of(self.seed, EVALUATION, self.step, key, *keys))

    def demonstrated(self, command):
        """The nominal states of a direction, (n, 34); all of them for a course."""
        if isinstance(command, Course):
            return self.demonstrations.states[:, MOTION]
        if command not in self.demonstrations.commands:
            return np.empty((0, MOTION.stop))
        return self.demonstrations.of(command).states[:, MOTION]

    def standardized(self, states):
        return (states - self._mean) / self._std


class _DirectionDistance:
    def __init__(self, distance, command):
        self._distance, self._command = distance, command
        self._keys, self._states = np.empty(0), np.empty((0, MOTION.stop))

    def add(self, episode, rollouts):
        states = rollouts.observations[0][:, MOTION]
        # The states with the smallest random keys are a uniform sample, whatever order the episodes come in.
        keys = np.concatenate([self._keys, self._distance.generator(self._command, episode, 0).random(len(states))])
        smallest = np.argsort(keys)[: self._distance.samples]
        self._keys, self._states = keys[smallest], np.concatenate([self._states, states])[smallest]

    def result(self):
        distance = self._distance
        demonstrated = distance.demonstrated(self._command)
        n = min(len(self._states), len(demonstrated))
        if not n:
            return {"state_distance": None, "state_samples": 0}
        drawn = distance.generator(self._command).choice(demonstrated, n, replace=False)
        samples = (distance.standardized(states) for states in (self._states[:n], drawn))
        return {"state_distance": wasserstein(*samples), "state_samples": n}
