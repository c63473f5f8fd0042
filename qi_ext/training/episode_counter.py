"""The episodes of a run, counted as they end."""

import numpy as np

WINDOW_STEPS = 20_000


class EpisodeCounter:
    """Keeps what is asked of the episodes of a run: those that ended in its first and in its last `WINDOW_STEPS`, and counts.

    first, recent: (n, 3), float64: step it ended at, return, length.
    """

    def __init__(self):
        self.steps = 0
        self.episodes = 0
        self.blow_ups = 0
        self.first = np.empty((0, 3))
        self.recent = np.empty((0, 3))

    def add(self, n_steps, n_lanes, episodes, measured=slice(None)):
        """A batch of `n_steps` from `n_lanes` lanes, in which `episodes` ended (an array of `rollouts.EPISODE`).

        measured: which of them count for returns and lengths, all or bool, (n,).
        """
        counted = episodes[measured]
        rows = np.empty((len(counted), 3))
        rows[:, 0] = self.steps + (counted["time"] + 1) * n_lanes
        rows[:, 1] = counted["episode_return"]
        rows[:, 2] = counted["length"]
        self.steps += n_steps
        self.episodes += len(episodes)
        self.blow_ups += int(episodes["blew_up"].sum())
        self.first = np.concatenate([self.first, rows[rows[:, 0] <= WINDOW_STEPS]])
        recent = np.concatenate([self.recent, rows])
        self.recent = recent[recent[:, 0] > self.steps - max(WINDOW_STEPS, n_steps)]

    def since(self, step):
        """Number, mean return and mean length of the episodes that ended after `step`; means are None without any.

        step: within the last batch, or the last `WINDOW_STEPS`.
        """
        return _means(self.recent[self.recent[:, 0] > step])

    def window_lengths(self):
        """Mean episode length of the first and of the last `WINDOW_STEPS`, or None where no episode ended there."""
        return _means(self.first)[2], self.since(self.steps - WINDOW_STEPS)[2]

    def recent_return(self):
        """Mean return of the last `WINDOW_STEPS`, or None where no episode ended there."""
        return self.since(self.steps - WINDOW_STEPS)[1]

    def state(self):
        """Arrays and plain data, to go on from with `restore`."""
        data = {"steps": self.steps, "episodes": self.episodes, "blow_ups": self.blow_ups}
        return {"first": self.first, "recent": self.recent}, data

    def restore(self, arrays, data):
        """Go on from what `state` gave."""
        self.first, self.recent = (arrays[name].reshape(-1, 3) for name in ("first", "recent"))
        self.steps, self.episodes, self.blow_ups = data["steps"], data["episodes"], data["blow_ups"]


def _means(rows):
    if not len(rows):
        return 0, None, None
    _, return_mean, length_mean = rows.mean(axis=0).tolist()
    return len(rows), return_mean, length_mean
