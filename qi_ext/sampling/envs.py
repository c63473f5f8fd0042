"""Lanes: simulated robots as values, one row each, so that any worker can go on with them."""

from dataclasses import dataclass, fields

import numpy as np

from qi_ext.utils.generators import pack_generator

# What a run's seed is spawned for; 0 and 1 are the learner's.
LANES, EPISODES, EVALUATION = 2, 3, 4

DRAWN = -1  # of `start_range`: the command is drawn at each episode start


class LaneError(Exception):
    """Something went wrong in one lane; `lane` counts from the task's first."""

    def __init__(self, message, lane):
        super().__init__(message, lane)
        self.lane = lane

    def __str__(self):
        return self.args[0]


@dataclass
class Lanes:
    """N lanes, as arrays with the lane first.

    number: (N,), int64, which lane it is, from 0.
    state: (N, k), float64, MuJoCo's integration state; meaningless where not `running`.
    goal: (N, 3), goal features of the present episode: cos, sin of the direction, speed in m/s.
    start_range: (N,), int64, the rows of the start states to draw from, for a lane that is told its goal; else `DRAWN`.
    running: (N,), bool, whether an episode is under way; where it is not, the next step starts one.
    step: (N,), int64, steps of the present episode. episode_return: (N,), float64, its reward so far.
    generator: (N, 6), uint64, the state of each lane's own PCG64.
    """

    number: np.ndarray
    state: np.ndarray
    goal: np.ndarray
    start_range: np.ndarray
    running: np.ndarray
    step: np.ndarray
    episode_return: np.ndarray
    generator: np.ndarray

    @classmethod
    def fresh(cls, seeds, state_size):
        """Lanes before their first episode, one for each `numpy.random.SeedSequence` of seeds."""
        n = len(seeds)
        return cls(
            number=np.arange(n),
            state=np.zeros((n, state_size)),
            goal=np.zeros((n, 3)),
            start_range=np.full(n, DRAWN),
            running=np.zeros(n, dtype=bool),
            step=np.zeros(n, dtype=np.int64),
            episode_return=np.zeros(n),
            generator=np.array([pack_generator(np.random.Generator(np.random.PCG64(seed))) for seed in seeds]),
        )

    @classmethod
    def concatenate(cls, parts):
        """One value of several, in order."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))

    def arrays(self):
        """{name: array}; `Lanes(**arrays)` is the same value."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __len__(self):
        return len(self.step)

    def __getitem__(self, index):
        """The lanes that a slice or an array of indices picks, as a copy."""
        return Lanes(*(getattr(self, item.name)[index].copy() for item in fields(self)))

    def equals(self, other):
        """Whether every bit is the same."""
        return all(np.array_equal(getattr(self, item.name), getattr(other, item.name)) for item in fields(self))


def seed_of(seed, purpose, *keys):
    """The `numpy.random.SeedSequence` of one thing in the run with this seed; purpose: LANES, EPISODES or EVALUATION."""
    # A spawn key, because entropy that is filled up with zeros is not told from shorter entropy.
    return np.random.SeedSequence(seed, spawn_key=(purpose, *keys))


def episode_seed(seed, step, command, episode):
    """The seed of an evaluation's episode, by (seed, step, direction, episode), so that it depends on nothing run before."""
    direction = 0 if command is None else round(command.direction_deg * 1000)
    return seed_of(seed, EVALUATION, step, direction, episode)


def named(what, seed):
    """A lane or an episode and its seed, for messages."""
    return f"{what} (seed {seed.entropy}, spawn key {seed.spawn_key})"
