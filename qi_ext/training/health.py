"""Warnings from the figures of the updates, each with what to try."""

from collections import deque
from contextlib import suppress

IN_A_ROW = 5  # updates that must agree before anything is said; single ones mean little
SATURATED_ENTROPY = 0.05  # nats; runs that learn keep 0.3 and more, and ln 2 is no opinion at all
STANDING_LENGTH = 300.0  # steps
STANDING_SHARE = 0.15  # of the commanded speed
COLLAPSED_SHARE = 0.25  # of the best mean episode length so far
WORTH_LOSING = 100.0  # steps

NEEDED = {"length_mean", "speed_along", "std", "line_search_step"}  # figures; that of the discriminator may be missing

ADVICE = {
    "saturated": (
        "the discriminator is certain of everything it sees, so that its reward says nothing: "
        "in a new run, try a larger --gradient_penalty, or a smaller --discriminator_learning_rate or --discriminator_updates"
    ),
    "stands": (
        "the robot stays up but hardly moves ({speed_along:.2f} m/s along the command): "
        "it may still learn to; if it does not, try a larger --gradient_penalty, or --warm_start 60, in a new run"
    ),
    "collapsed": (
        "episodes have become much shorter than they were ({length_mean:.0f} steps, at best {best:.0f}): "
        "try another --seed, or a smaller --max_kl or --discriminator_learning_rate, in a new run"
    ),
    "rigid": (
        "the policy has stopped exploring (standard deviation {std:.3f}, at its bound): "
        "in a new run, try a larger --min_std or --entropy_coefficient"
    ),
    "line search": (
        "the line search keeps finding no step that helps: "
        "in a new run, try a larger --cg_damping or --batch_size, or a smaller --max_kl"
    ),
}


class Health:
    """Watch over a run's figures: each warning is given once it has lasted, and again should it come back."""

    def __init__(self, speed, min_std):
        """speed: the commanded one, m/s. min_std: the policy's lower bound."""
        self._speed, self._min_std = speed, min_std
        self._counts = dict.fromkeys(ADVICE, 0)
        self._told = set()
        self._lengths = deque(maxlen=2 * IN_A_ROW)
        self._best = 0.0

    def recall(self, rows):
        """Look at the rows, {name: text}, of a run that goes on, whose warnings were given then."""
        for row in rows:
            with suppress(TypeError):  # of a cell that is empty where a run has a number
                if row.keys() >= NEEDED:
                    self.look({name: float(text) if text else None for name, text in row.items()})

    def look(self, figures):
        """Return the warnings, as text, that follow from one more update. figures: {name: number or None}."""
        said = []
        for name, bad in self._signs(figures).items():
            # What failed now and then for long is told from what fails once: a good update takes back a bad one.
            self._counts[name] = min(self._counts[name] + 1, 2 * IN_A_ROW) if bad else max(self._counts[name] - 1, 0)
            if self._counts[name] == 0:
                self._told.discard(name)
            elif self._counts[name] >= IN_A_ROW and name not in self._told:
                self._told.add(name)
                said.append(ADVICE[name].format(best=self._best, **figures))
        return said

    def _signs(self, figures):
        length, entropy = figures["length_mean"], figures.get("discriminator_entropy")
        if length is not None:
            self._lengths.append(length)
        if len(self._lengths) == self._lengths.maxlen:
            self._best = max(self._best, sum(self._lengths) / len(self._lengths))
        return {
            "saturated": entropy is not None and entropy < SATURATED_ENTROPY,
            "stands": (length is None or length >= STANDING_LENGTH) and figures["speed_along"] < STANDING_SHARE * self._speed,
            "collapsed": length is not None and self._best >= WORTH_LOSING and length < COLLAPSED_SHARE * self._best,
            "rigid": figures["std"] < 1.01 * self._min_std,
            "line search": figures["line_search_step"] == 0.0,
        }
