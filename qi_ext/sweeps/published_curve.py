"""The curve of a run as it is published: minutes, the step at which a return is reached, and a short curve.csv."""

import csv
import io
import math

import numpy as np

from qi_ext.training.episode_counter import WINDOW_STEPS
from qi_ext.training.progress_file import mean_of_known, neighbours, read_progress
from qi_ext.utils.errors import UserError

EPISODE_MEANS = ("return_mean", "length_mean")
NEEDED = (*EPISODE_MEANS, "episodes", "steps_per_second")
UPDATE_MEANS = ("speed_along", "std", "discriminator_accuracy_policy", "discriminator_accuracy_expert")
COLUMNS = ("step", "minutes", *EPISODE_MEANS, "episodes", *UPDATE_MEANS)


def read_curve(path, training_seconds):
    """Return the columns of a progress.csv, {name: (n_updates,)}, with the columns begin and minutes.

    begin: step at which an update begins. minutes: since the run began, at the end of an update. An update takes what its
    steps_per_second say; the rest of `training_seconds`, above all a warm start, comes before the first. Raises UserError
    where a column is missing.
    """
    curve = read_progress(path)
    missing = [name for name in NEEDED if name not in curve]
    if curve and missing:
        raise UserError(f"{path}: has no column {missing[0]}; it cannot be published")
    curve = {name: curve.get(name, np.empty(0)) for name in ("step", *NEEDED)} | curve
    curve["episodes"] = np.nan_to_num(curve["episodes"])  # an empty cell counts none
    curve["begin"] = np.concatenate([[0.0], curve["step"]])[: len(curve["step"])]
    seconds = (curve["step"] - curve["begin"]) / curve["steps_per_second"]
    curve["minutes"] = (training_seconds - seconds.sum() + np.cumsum(seconds)) / 60.0
    return curve


def return_reached(curve, level):
    """Return {steps, minutes} of the first update at which training reaches a mean return of `level`, None where it does not.

    The mean is over the episodes of the whole updates in the last WINDOW_STEPS, and at least of the last update.
    """
    first = np.searchsorted(curve["begin"], curve["step"] - WINDOW_STEPS)
    for i, step in enumerate(curve["step"]):
        mean = _mean_over_episodes(curve, "return_mean", slice(min(first[i], i), i + 1))
        if mean is not None and mean >= level:
            return {"steps": int(step), "minutes": float(curve["minutes"][i])}
    return None


def curve_csv(curve):
    """Return the text of curve.csv: neighbouring updates taken together, so that at most MAX_ROWS are left; 4 digits.

    step and minutes are those of the last update of a row, episodes is a sum, return_mean and length_mean are means over
    episodes, the rest are means over updates. A cell without a figure is empty.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for updates in neighbours(len(curve["step"])):
        cells = {name: _mean_over_episodes(curve, name, updates) for name in EPISODE_MEANS}
        means = {name: mean_of_known(curve.get(name, np.empty(0))[updates]) for name in UPDATE_MEANS}
        cells |= {name: None if np.isnan(mean) else mean for name, mean in means.items()}
        cells["minutes"] = curve["minutes"][updates][-1]
        cells = {name: "" if value is None else f"{value:.4g}" for name, value in cells.items()}
        cells |= {"step": int(curve["step"][updates][-1]), "episodes": int(curve["episodes"][updates].sum())}
        writer.writerow([cells[name] for name in COLUMNS])
    return text.getvalue()


def _mean_over_episodes(curve, name, updates):
    """Mean over all episodes that ended in these updates; None without any."""
    episodes = curve["episodes"][updates]
    ended = episodes > 0
    if not ended.any():
        return None
    return math.fsum(curve[name][updates][ended] * episodes[ended]) / episodes.sum()
