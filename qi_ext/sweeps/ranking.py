"""Ranking of a sweep's configurations by their mean return over seeds, with its confidence interval."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qi_ext.utils.errors import UserError
from qi_ext.utils.settings import shown

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ranked:
    """One configuration with all its seeds.

    found: {seed: `Status`} of those that are done. returns: {seed: mean return}. n_seeds: number of seeds in the sweep.
    interval: (low, high), in which the mean lies with CONFIDENCE; None for a single seed.
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
    """Confidence interval (low, high) of the mean of normally distributed values, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    if len(set(values)) == 1:
        return float(values[0]), float(values[0])
    return tuple(map(float, stats.t.interval(CONFIDENCE, len(values) - 1, np.mean(values), stats.sem(values))))


def rank(found):
    """Return the configurations, [`Ranked`], the best first; the more seeds one lacks, the later it comes.

    found: the list of `statuses`.
    """
    groups = {}
    for status in found:
        groups.setdefault(status.trial.configuration, []).append(status)
    ranked = []
    for name, of_group in groups.items():
        done = {each.trial.seed: each for each in of_group if each.mean_return() is not None}
        returns = {seed: status.mean_return() for seed, status in done.items()}
        ranked.append(Ranked(name, done, returns, len(of_group)))
    return sorted(ranked, key=lambda each: (each.n_seeds - len(each.returns), -(each.mean or 0.0)))


def by_task(found):
    """Return {task: [`Status`, ...]} of each task of which a trial is done and evaluated, because returns of different tasks
    cannot be compared. found: the list of `statuses`. Raises UserError where there is no such trial."""
    groups = {}
    for status in found:
        groups.setdefault(status.trial.config.task.task, []).append(status)
    groups = {task: of_task for task, of_task in groups.items() if any(each.mean_return() is not None for each in of_task)}
    if not groups:
        raise UserError("--best: no trial is done and evaluated; see --status, and leave evaluation_episodes above 0")
    return groups


def marginals(found):
    """Return {setting: {value as text: [return, ...]}} over all values of the other settings, of settings with several values.

    found: `Status` that are done. Empty unless each value is tried with all values of the others: it would show their effect.
    """
    names = list(dict.fromkeys(name for status in found for name in status.trial.varied))
    by_name = {name: {} for name in names}
    combinations = set()
    for status in found:
        # GAIL lacks some settings of VAIL.
        settings = status.trial.config.settings()
        values = [shown(settings.get(name, "none")) for name in names]
        combinations.add(tuple(values))
        for name, value in zip(names, values, strict=True):
            returns = by_name[name].setdefault(value, [])
            if status.mean_return() is not None:
                returns.append(status.mean_return())
    if len(combinations) < math.prod(map(len, by_name.values())):
        return {}
    return {name: values for name, values in by_name.items() if len(values) > 1}
