"""Episodes of a run, counted as they end."""

import numpy as np

from qi_ext.utils.limits import MOST_COUNTED

WINDOW_STEPS = 20_000
COUNTS = ("steps", "episodes", "blow_ups")


class EpisodeCounter:
    """Counts of steps, episodes and blow-ups, and the episodes that ended in the first and in the last steps, a window each.

    window: env steps; `WINDOW_STEPS`, or a batch where that is longer.
    first, recent: (n, 3), float64: the step that an episode ended at, its return, its length.
    """

    def __init__(self, batch_size=0):
        self.window = max(WINDOW_STEPS, batch_size)
        self.steps = 0
        self.episodes = 0
        self.blow_ups = 0
        self.first = np.empty((0, 3))
        self.recent = np.empty((0, 3))

    def add(self, n_steps, n_envs, episodes, measured=slice(None)):
        """Count a batch of `n_steps` from `n_envs` envs, in which `episodes` ended (an array of `rollouts.EPISODE`).

        measured: those that count for returns and lengths, all or bool, (n,).
        """
        counted = episodes[measured]
        rows = np.empty((len(counted), 3))
        rows[:, 0] = self.steps + (counted["time"] + 1) * n_envs
        rows[:, 1] = counted["episode_return"]
        rows[:, 2] = counted["length"]
        self.steps += n_steps
        self.episodes += len(episodes)
        self.blow_ups += int(episodes["blew_up"].sum())
        self.first = np.concatenate([self.first, rows[rows[:, 0] <= self.window]])
        recent = np.concatenate([self.recent, rows])
        self.recent = recent[recent[:, 0] > self.steps - max(self.window, n_steps)]

    def since(self, step):
        """Number, mean return and mean length of the episodes that ended after `step`; means are None without any.

        step: within the last batch, or the last window.
        """
        return _means(self.recent[self.recent[:, 0] > step])

    def window_lengths(self):
        """Mean episode length of the first and of the last window, or None where no episode ended there."""
        return _means(self.first)[2], self.since(self.steps - self.window)[2]

    def recent_return(self):
        """Mean return of the last window, or None where no episode ended there."""
        return self.since(self.steps - self.window)[1]

    def state(self):
        """Two arrays and three counts, {name: value}, for `load_state`."""
        return {name: getattr(self, name) for name in ("first", "recent", *COUNTS)}

    def load_state(self, state):
        """Go on from what `state` gave. Raises KeyError or ValueError for anything else."""
        for name in ("first", "recent"):
            if not isinstance(state[name], np.ndarray) or state[name].dtype != np.float64 or state[name].shape[1:] != (3,):
                raise ValueError(f"{name} must be an array of (n, 3) numbers")
            if not (np.abs(state[name]) <= MOST_COUNTED).all():  # which NaN is not
                raise ValueError(f"{name} holds a number that no episode can have")
        for name in COUNTS:
            if type(state[name]) is not int or not 0 <= state[name] <= MOST_COUNTED:
                raise ValueError(f"{name} must be a whole number of at least 0")
        self.first, self.recent = state["first"], state["recent"]
        self.steps, self.episodes, self.blow_ups = (state[name] for name in COUNTS)


def _means(rows):
    if not len(rows):
        return 0, None, None
    _, return_mean, length_mean = rows.mean(axis=0).tolist()
    return len(rows), return_mean, length_mean
