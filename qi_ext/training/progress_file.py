"""The curves of a run, read from its progress.csv."""

import csv

import numpy as np

from qi_ext.utils.errors import UserError
from qi_ext.utils.programs import program

MAX_ROWS = 200  # of a curve that is shown or published


def read_progress(path):
    """Return the columns of a progress.csv, {name: (n_updates,)}, float64, NaN where a cell is empty.

    Empty where there is no file, as in a run that is only cloned. A last line that is not yet whole is left out. Raises
    UserError where the file is not of numbers.
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(line for line in file if line.endswith("\n")))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in (rows[0] if rows else {})}
    except FileNotFoundError:
        return {}
    except (TypeError, ValueError, csv.Error):
        raise UserError(f"{path}: is not a progress.csv of {program('train')}: a value is not a number") from None


def neighbours(n_updates):
    """Return slices of neighbouring updates to take together, [slice, ...], so that at most MAX_ROWS are left."""
    size = max(1, -(-n_updates // MAX_ROWS))
    return [slice(begin, min(begin + size, n_updates)) for begin in range(0, n_updates, size)]


def mean_of_known(values):
    """Mean of the values, (n,), that are finite; NaN without any."""
    known = values[np.isfinite(values)]
    return known.mean() if known.size else np.nan
