"""Envs as values: the state of each env is a row of arrays, so that any worker can go on with it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from qi_ext.robot.commands import key_among
from qi_ext.tasks.task import DRAWN
from qi_ext.utils.generators import pack_generator, unpack_generator

# Spawn keys of the purposes that a run's seed serves; 0 and 1 are the learner's.
ENVS, EPISODES, EVALUATION = 2, 3, 4

# The names of arrays in checkpoints, where they differ from the fields'.
STORED_AS = {"command": "goal", "start_group": "start_range"}
LARGEST = 10**9  # of any number in an env that is loaded; none comes near


class EnvError(Exception):
    """Something went wrong in one env; `env` counts from the task's first."""

    def __init__(self, message, env):
        super().__init__(message, env)
        self.env = env

    def __str__(self):
        return self.args[0]


@dataclass
class Envs:
    """N envs, as arrays with the env first.

    number: (N,), int64, of the env among all envs of the run, from 0.
    state: (N, s), float64, MuJoCo's integration state; meaningless where not `running`.
    command: (N, k), float64, the present episode's command, as `Task.tell` encodes it.
    start_group: (N,), int64, the group of start states of an env that is told its command; else `tasks.task.DRAWN`.
    running: (N,), bool, whether an episode is under way; where it is not, the next step starts one.
    step: (N,), int64, steps of the present episode. episode_return: (N,), float64, its reward so far.
    generator: (N, 6), uint64, the state of each env's own PCG64.
    """

    number: np.ndarray
    state: np.ndarray
    command: np.ndarray
    start_group: np.ndarray
    running: np.ndarray
    step: np.ndarray
    episode_return: np.ndarray
    generator: np.ndarray

    @classmethod
    def fresh(cls, seeds, state_size, command_size):
        """Envs before their first episode, one for each `numpy.random.SeedSequence` of seeds."""
        n = len(seeds)
        return cls(
            number=np.arange(n),
            state=np.zeros((n, state_size)),
            command=np.zeros((n, command_size)),
            start_group=np.full(n, DRAWN),
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
        """{name: array}, as checkpoints hold them."""
        return {STORED_AS.get(item.name, item.name): getattr(self, item.name) for item in fields(self)}

    def replaced_by(self, arrays):
        """Return the envs whose `arrays` are given. Raises ValueError, naming one, unless they are as many of this kind."""
        for name, array in self.arrays().items():
            found = arrays.get(name) if isinstance(arrays, Mapping) else None
            if not isinstance(found, np.ndarray) or found.shape != array.shape or found.dtype != array.dtype:
                raise ValueError(f"envs: {name} must be {array.dtype} of shape {array.shape}")
        envs = Envs(*(arrays[name] for name in self.arrays()))
        for counted in (envs.number, envs.start_group, envs.step):
            if not ((counted >= DRAWN) & (counted <= LARGEST)).all():
                raise ValueError("envs: number, start_range and step must be whole numbers that a run can have")
        for array in (envs.state[envs.running], envs.command, envs.episode_return):
            if not (np.abs(array) <= LARGEST).all():  # which NaN is not
                raise ValueError("envs: state, goal and episode_return must be numbers that a run can have")
        for words in envs.generator:
            unpack_generator(words)
        return envs

    def __len__(self):
        return len(self.step)

    def __getitem__(self, index):
        """The envs that a slice or an array of indices picks, as a copy."""
        return Envs(*(getattr(self, item.name)[index].copy() for item in fields(self)))

    def equals(self, other):
        """Return whether every bit is the same."""
        return all(np.array_equal(getattr(self, item.name), getattr(other, item.name)) for item in fields(self))


def seed_of(seed, purpose, *keys):
    """The `numpy.random.SeedSequence` of one env or episode of a run; purpose: ENVS, EPISODES or EVALUATION."""
    # A spawn key, because entropy that is filled up with zeros is not told from shorter entropy.
    return np.random.SeedSequence(seed, spawn_key=(purpose, *keys))


def episode_seed(seed, step, command, episode, commands=()):
    """The seed of an evaluation's episode, by (seed, step, command, episode), so that it depends on nothing run before.

    commands: all that are evaluated, which `command` is told from; see `key_among`.
    """
    return seed_of(seed, EVALUATION, step, 0 if command is None else key_among(command, commands), episode)


def named(what, seed):
    """An env or an episode and its seed, for messages."""
    return f"{what} (seed {seed.entropy}, spawn key {seed.spawn_key})"
