"""Keys of a recording that say what its numbers are: rate, times, units and order of joints. A contradiction is refused."""

import re

import numpy as np

from qi_ext.demonstrations.npz import floats
from qi_ext.robot import a1
from qi_ext.utils.errors import UserError

# Names of what is stated, in lower case and without underscores; before those of RATES and STEPS may stand one of OF_ROWS.
RATES = ("frequency", "freq", "fps", "hz", "rate")  # Hz
STEPS = ("dt", "timestep")  # s
OF_ROWS = ("", "control", "frame", "record", "recording", "sample", "sampling")
TIMES = ("time", "times", "timestamp", "timestamps", "t")
UNITS = ("unit", "units", "angleunit", "angleunits")
NAMES = ("jointnames", "jointorder", "joints", "dofnames")
TOLERANCE = 0.02  # of a rate
FOREIGN_UNITS = {"deg", "degree", "degrees", "rpm", "mrad", "mm", "cm", "km", "inch", "inches", "ft", "feet", "mph"}
LEG_COLUMNS = (a1.LEG_POSITION, a1.LEG_VELOCITY)


def honour_stated(arrays, hz, path):
    """Return arrays, {key: array}, with joints in our order, and notes on what was changed, a list.

    arrays: as read from a file. hz: rate of the format's rows. Keys, in any case and with or without underscores: frequency,
    fps, hz or rate in Hz, dt or timestep in s; time, (N,), in s; units, a text; joint_names, the order of the joints in
    the columns of states and actions. The real format names each column, and needs no joint_names. path: for messages. Raises
    UserError for a contradiction.
    """
    rows = [len(arrays[key]) for key in ("states", "q_trunk_tx") if key in arrays and np.ndim(arrays[key])]
    for key, array in list(arrays.items()):
        name = _plain(key)
        if _is_of_rows(name, RATES + STEPS):
            stated = floats(arrays, key, path)
            if stated.size != 1 or not np.isfinite(stated).all() or stated.item() <= 0.0:
                _fail(path, f"{key} must be a single positive number")
            rate = 1.0 / stated.item() if _is_of_rows(name, STEPS) else stated.item()
            _require_rate(rate, hz, f"{key} is {stated.item():g}", path)
        elif name in TIMES:
            _require_times(floats(arrays, key, path), rows, hz, key, path)
        elif name in UNITS:
            foreign = sorted(FOREIGN_UNITS & set(re.findall("[a-z]+", " ".join(_texts(array)).lower())))
            if foreign:
                _fail(path, f"{key} are {', '.join(foreign)}; give m, rad, m/s and rad/s")
    # "joints" alone may as well be angles.
    named = [key for key in arrays if _plain(key) in NAMES and (arrays[key].dtype.kind in "SU" or _plain(key) != "joints")]
    if named and "states" in arrays:
        return _in_our_order(arrays, named[0], path)
    return arrays, []


def _plain(key):
    return key.lower().replace("_", "")


def _is_of_rows(name, known):
    return any(name == first + last for first in OF_ROWS for last in known)


def _texts(array):
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)
        for each in np.atleast_1d(array).ravel().tolist()
    ]


def _require_rate(stated, hz, what, path):
    if abs(stated / hz - 1.0) > TOLERANCE:
        _fail(path, f"{what}, but the rows of this format are at {hz:g} Hz; resample it")


def _require_times(time, rows, hz, key, path):
    if time.ndim != 1 or len(time) < 2 or not np.isfinite(time).all() or rows[:1] not in ([], [len(time)]):
        wanted = f"one for each of the {rows[0]} rows of the recording" if rows else "one for each row"
        _fail(path, f"{key} must be a row of finite seconds, {wanted}, not of shape {time.shape}")
    # Between segments time may jump.
    low, middle, high = np.percentile(np.diff(time), [5.0, 50.0, 95.0])
    if middle <= 0.0:
        _fail(path, f"{key} does not rise from row to row")
    _require_rate(1.0 / middle, hz, f"{key} says {1.0 / middle:.3g} Hz", path)
    if high - low > 0.2 * middle:
        _fail(path, f"steps of {key} vary from {1000 * low:.1f} to {1000 * high:.1f} ms; resample it evenly")


def _in_our_order(arrays, key, path):
    names = [name.lower().removesuffix("_joint") for name in _texts(arrays[key])]
    trunk = [joint.lower() for joint in a1.TRUNK_JOINTS]
    legs = [name for name in names if name not in trunk]
    ours = [name.lower() for name in a1.ACTUATORS]
    unknown = [name for name in legs if name not in ours]
    if unknown:
        _fail(path, f"{key} holds {unknown[0]!r}; the A1's are {a1.LEG_JOINTS[0]}, {a1.LEG_JOINTS[1]}, ...")
    if sorted(legs) != sorted(ours):
        _fail(path, f"{key} must name each of the {len(ours)} joints of the legs once")
    if names[: len(names) - len(legs)] != trunk[len(trunk) - len(names) + len(legs) :]:
        _fail(path, f"{key} must begin with the trunk's, in the order {', '.join(a1.TRUNK_JOINTS)}, or leave them out")
    order = np.array([legs.index(name) for name in ours])
    if np.array_equal(order, np.arange(len(ours))):
        return arrays, []
    arrays = dict(arrays)
    states = floats(arrays, "states", path)
    if states.ndim == 2 and states.shape[1] == a1.N_OBSERVATIONS:
        states = states.copy()
        for columns in LEG_COLUMNS:
            states[:, columns] = states[:, columns][:, order]
        arrays["states"] = states
    for name in ("actions", "executed_actions"):
        if name in arrays and np.ndim(arrays[name]) == 2 and np.shape(arrays[name])[1] == a1.N_ACTIONS:
            arrays[name] = floats(arrays, name, path)[:, order]
    return arrays, [f"joints put in our order, from that of {key} ({legs[0]}, {legs[1]}, {legs[2]}, {legs[3]}, ...)"]


def _fail(path, problem):
    raise UserError(f"demonstrations: {path}: {problem}")
