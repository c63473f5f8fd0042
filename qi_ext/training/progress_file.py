"""The curves of a run, read from its progress.csv."""

import numpy as np

from qi_ext.utils.errors import UserError
from qi_ext.utils.limits import MOST_COUNTED
from qi_ext.utils.programs import program
from qi_ext.utils.reading import NoSuchFile, read_csv

MAX_BYTES = 2**26  # of a progress.csv
LARGEST = 1e30
MAX_ROWS = 200  # of a curve that is shown or published


def read_progress(path):
    """Return the columns of a progress.csv, {name: (n_updates,)}, float64, NaN where a cell is empty.

    Empty where there is no file, as in a run that is only cloned. A last line that is not yet whole is left out. Raises
    UserError where the file is not of numbers, or its steps are none.
    """
    try:
        names, rows = read_csv(path, MAX_BYTES)
    except NoSuchFile:
        return {}
    if not rows:
        return {}
    if "step" not in names:
        raise UserError(f"{path}: is not a progress.csv of {program('train')}: it has no column step")
    try:
        table = np.array([[float(cell or "nan") for cell in row] for row in rows])
        columns = dict(zip(names, table.T, strict=True))
    except ValueError:
        raise UserError(f"{path}: is not a progress.csv of {program('train')}: a value is not a number") from None
    steps = columns["step"]
    if not ((steps >= 0.0) & (steps <= MOST_COUNTED)).all() or (np.abs(table[np.isfinite(table)]) > LARGEST).any():
        raise UserError(f"{path}: is not a progress.csv of {program('train')}: it holds numbers that no run can have")
    return columns


def neighbours(n_updates):
    """Return slices of neighbouring updates to take together, [slice, ...], so that at most MAX_ROWS are left."""
    size = max(1, -(-n_updates // MAX_ROWS))
    return [slice(begin, min(begin + size, n_updates)) for begin in range(0, n_updates, size)]


def mean_of_known(values):
    """Mean of the values, (n,), that are finite; NaN without any."""
    known = values[np.isfinite(values)]
    return known.mean() if known.size else np.nan
