"""What the pool gathered: arrays [lane, time, ...], whole episodes among them, and the list that mushroom-rl takes."""

from dataclasses import dataclass

import numpy as np

from qi_ext.robot import a1

ARRAYS = ("observations", "actions", "rewards", "next_observations", "absorbing", "truncated", "last")

# An episode that ended: when in the fragment, in which lane, and what it was.
EPISODE = np.dtype(
    [
        ("time", np.int64),
        ("lane", np.int64),
        ("episode_return", np.float64),
        ("length", np.int64),
        ("fell", bool),  # absorbing, for whatever reason
        ("blew_up", bool),  # absorbing, because the simulation did
    ]
)


@dataclass
class Rollouts:
    """One fragment of T steps from each of N lanes.

    observations, next_observations: (N, T, 37), float64. actions: (N, T, 12), float32, not clipped. rewards: (N, T), float64.
    absorbing: (N, T), bool, the episode ended by a fall. truncated: (N, T), bool, it ended by its time limit.
    last: (N, T), bool, nothing follows: absorbing, truncated, or the fragment's end, where the episode goes on later.
    episodes: structured array of `EPISODE`, by time and lane: those that ended, counted from their own beginning.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    absorbing: np.ndarray
    truncated: np.ndarray
    last: np.ndarray
    episodes: np.ndarray

    @property
    def n_steps(self):
        """N T."""
        return self.last.size

    def speed_along(self):
        """Mean speed of the trunk along the commanded direction, m/s."""
        cosine, sine, _ = np.moveaxis(self.observations[..., a1.GOAL], -1, 0)
        along = self.observations[..., a1.TRUNK_VX] * cosine + self.observations[..., a1.TRUNK_VY] * sine
        return float(along.mean())

    def dataset(self):
        """mushroom-rl's list of (state, action, reward, next state, absorbing, last), lane after lane."""
        return [sample for lane in range(len(self.last)) for sample in self.samples(lane, self.last[lane])]

    def samples(self, lane, last):
        """mushroom-rl's list for one lane, with flags `last`, (T,)."""
        return list(
            zip(
                self.observations[lane],
                self.actions[lane],
                self.rewards[lane].tolist(),
                self.next_observations[lane],
                self.absorbing[lane].tolist(),
                last.tolist(),
                strict=True,
            )
        )

    def episode(self, row):
        """The one whole episode that a row of `episodes` is of, where it began at time 0, as `Rollouts` of one lane."""
        lane, end = int(row["lane"]), int(row["time"]) + 1
        arrays = {name: getattr(self, name)[lane : lane + 1, :end] for name in ARRAYS}
        row = np.array([row], dtype=EPISODE)
        row["lane"] = 0
        return Rollouts(**arrays, episodes=row)

    @classmethod
    def join(cls, parts):
        """Blocks of lanes, in order, as one; each with as many steps. Lanes of `episodes` are renumbered."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
        episodes, first = [], 0
        for part in parts:
            numbered = part.episodes.copy()
            numbered["lane"] += first
            episodes.append(numbered)
            first += len(part.last)
        episodes = np.concatenate(episodes)
        return cls(**arrays, episodes=episodes[np.lexsort((episodes["lane"], episodes["time"]))])


class EpisodeAssembler:
    """Puts fragments together to whole episodes, for whoever counts on seeing those."""

    def __init__(self, n_lanes):
        self._open = [[] for _ in range(n_lanes)]

    def add(self, rollouts):
        """The episodes that ended in these `Rollouts`, each mushroom-rl's list of its samples from its first step on."""
        ended = rollouts.absorbing | rollouts.truncated
        lanes = [rollouts.samples(lane, ended[lane]) for lane in range(len(ended))]
        done = [0] * len(lanes)
        episodes = []
        for row in rollouts.episodes:
            lane, end = row["lane"], row["time"] + 1
            episodes.append(self._open[lane] + lanes[lane][done[lane] : end])
            self._open[lane], done[lane] = [], end
        for lane, samples in enumerate(lanes):
            self._open[lane] += samples[done[lane] :]
        return episodes
