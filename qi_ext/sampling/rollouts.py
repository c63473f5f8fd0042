"""Rollouts: arrays [env, time, ...] of fragments, lists of whole episodes, and mushroom-rl's form of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qi_ext.robot.frames import velocity_in_command_frame

__all__ = ["EPISODE", "Rollouts", "WholeEpisodes"]

ARRAYS = ("observations", "actions", "rewards", "next_observations", "absorbing", "truncated", "last")

# An episode that ended: when in the fragment, in which env, and what it was.
EPISODE = np.dtype(
    [
        ("time", np.int64),
        ("env", np.int64),
        ("episode_return", np.float64),
        ("length", np.int64),
        ("fell", bool),  # absorbing, for whatever reason
        ("blew_up", bool),  # absorbing, because the simulation did
    ]
)


@dataclass
class Rollouts:
    """One fragment of T steps from each of N envs.

    observations, next_observations: (N, T, 37), float64. actions: (N, T, 12), float32, not clipped. rewards: (N, T), float64.
    absorbing: (N, T), bool, the episode ended by a fall. truncated: (N, T), bool, it ended by its time limit.
    last: (N, T), bool, nothing follows: absorbing, truncated, or the fragment's end, where the episode goes on later.
    episodes: structured array of `EPISODE`, by time and env: those that ended, counted from their own beginning.
    commands: (N, T, k), float64, under which the observations were made, as the task encodes them; None in a fragment.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    absorbing: np.ndarray
    truncated: np.ndarray
    last: np.ndarray
    episodes: np.ndarray
    commands: np.ndarray | None = None

    @property
    def n_steps(self) -> int:
        """Number of steps, N T."""
        return self.last.size

    def speed_along(self) -> float:
        """Mean speed of the trunk along the commanded direction, m/s."""
        along, _ = velocity_in_command_frame(self.observations)
        return float(along.mean())

    def dataset(self) -> list[tuple]:
        """mushroom-rl's list of (state, action, reward, next state, absorbing, last), env after env."""
        return [sample for env in range(len(self.last)) for sample in self.samples(env, self.last[env])]

    def samples(self, env: int, last: np.ndarray) -> list[tuple]:
        """mushroom-rl's list for one env, with flags `last`, (T,)."""
        return list(
            zip(
                self.observations[env],
                self.actions[env],
                self.rewards[env].tolist(),
                self.next_observations[env],
                self.absorbing[env].tolist(),
                last.tolist(),
                strict=True,
            )
        )

    def step_infos(self) -> dict[str, list]:
        """The steps' information dicts, {key: list}: there are none."""
        return {}

    def episode(self, row: np.void) -> "Rollouts":
        """The one whole episode that a row of `episodes` is of, where it began at time 0, as `Rollouts` of one env."""
        env, end = int(row["env"]), int(row["time"]) + 1
        arrays = {name: getattr(self, name)[env : env + 1, :end] for name in ARRAYS}
        episodes = np.array([row], dtype=EPISODE)
        episodes["env"] = 0
        commands = None if self.commands is None else self.commands[env : env + 1, :end]
        return Rollouts(**arrays, episodes=episodes, commands=commands)

    @classmethod
    def join(cls, parts: Sequence["Rollouts"]) -> "Rollouts":
        """Fragments of blocks of envs, in order, as one; each with as many steps. Envs of `episodes` are renumbered."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
        renumbered, first = [], 0
        for part in parts:
            numbered = part.episodes.copy()
            numbered["env"] += first
            renumbered.append(numbered)
            first += len(part.last)
        episodes = np.concatenate(renumbered)
        return cls(**arrays, episodes=episodes[np.lexsort((episodes["env"], episodes["time"]))])


@dataclass
class WholeEpisodes:
    """Episodes from reset to end, instead of fragments.

    samples: a list for each episode, of mushroom-rl's (state, action, reward, next state, absorbing, last).
    infos: a list for each episode, of the steps' information dicts, or empty.
    episodes: structured array of `EPISODE`, in order.
    """

    samples: list
    infos: list
    episodes: np.ndarray

    @property
    def n_steps(self) -> int:
        return sum(len(samples) for samples in self.samples)

    def dataset(self) -> list[tuple]:
        """mushroom-rl's list of samples, episode after episode."""
        return [sample for samples in self.samples for sample in samples]

    def step_infos(self, n_steps: int | None = None) -> dict[str, list]:
        """The information dicts of all steps, or the first `n_steps`, as mushroom-rl gives them to `fit`: {key: list}."""
        collected: dict[str, list] = {}
        for info in [info for infos in self.infos for info in infos][:n_steps]:
            for key, value in info.items():
                collected.setdefault(key, []).append(value)
        return collected


class EpisodeAssembler:
    """Joins consecutive fragments to whole episodes."""

    def __init__(self, n_envs: int) -> None:
        self._open: list[list[tuple]] = [[] for _ in range(n_envs)]

    def add(self, rollouts: Rollouts) -> list[list[tuple]]:
        """The episodes that ended in these `Rollouts`, each mushroom-rl's list of its samples from its first step on."""
        ended = rollouts.absorbing | rollouts.truncated
        envs = [rollouts.samples(env, ended[env]) for env in range(len(ended))]
        done = [0] * len(envs)
        episodes = []
        for row in rollouts.episodes:
            env, end = row["env"], row["time"] + 1
            episodes.append(self._open[env] + envs[env][done[env] : end])
            self._open[env], done[env] = [], end
        for env, samples in enumerate(envs):
            self._open[env] += samples[done[env] :]
        return episodes
