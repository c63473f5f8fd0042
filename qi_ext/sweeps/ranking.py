"""Which configuration of a sweep is best: by the mean over its seeds, and how sure that is."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from qi_ext.errors import UserError
from qi_ext.training.values import shown

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ranked:
    """A configuration, all seeds of it. found: {seed: `Status`} of those that are done. returns: {seed: mean return}.

    n_seeds: that it was to have. interval: in which the mean lies with CONFIDENCE; None for a single seed.
    """

    name: str
    found: dict
    returns: dict
    n_seeds: int

    @property
    def mean(self):
        return float(np.mean(list(self.returns.values()))) if self.returns else None

    @property
    def interval(self):
        return interval(list(self.returns.values()))

    @property
    def is_complete(self):
        return len(self.returns) == self.n_seeds

    @property
    def best_seed(self):
        """The seed with the highest return."""
        return max(self.returns, key=self.returns.get)


def interval(values):
    """Where the mean of a normal distribution lies with CONFIDENCE, (low, high), by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    return tuple(map(float, stats.t.interval(CONFIDENCE, len(values) - 1, np.mean(values), stats.sem(values))))


def rank(found, policy="deterministic"):
    """The configurations of a sweep, [`Ranked`], the best first; those that lack seeds come after all others.

    found: all of `statuses`. Raises UserError where no trial is done and evaluated.
    """
    groups = {}
    for status in found:
        groups.setdefault(status.trial.configuration, []).append(status)
    ranked = []
    for name, of_group in groups.items():
        done = {each.trial.seed: each for each in of_group if each.mean_return(policy) is not None}
        returns = {seed: status.mean_return(policy) for seed, status in done.items()}
        ranked.append(Ranked(name, done, returns, len(of_group)))
    if not any(each.returns for each in ranked):
        raise UserError("--best: no trial is done and evaluated; see --status, and leave evaluation_episodes above 0")
    return sorted(ranked, key=lambda each: (not each.is_complete, each.mean is None, -(each.mean or 0.0)))


def marginals(found, policy="deterministic"):
    """What each setting does, whatever the others are: {name: {value as text: [return, ...]}} of all `Status` that are done;
    settings that have several values only."""
    by_name = {}
    for status in found:
        for name, value in status.trial.varied.items():
            returns = by_name.setdefault(name, {}).setdefault(shown(value), [])
            if status.mean_return(policy) is not None:
                returns.append(status.mean_return(policy))
    return {name: values for name, values in by_name.items() if len(values) > 1}
