"""Keys of a recording that say what its numbers are: rate, times, units and order of joints. A contradiction is refused."""

import re

import numpy as np

from qi_ext.demonstrations.npz import floats
from qi_ext.robot import a1
from qi_ext.utils.errors import UserError

RATES = ("frequency", "fps", "hz", "rate")  # Hz
STEPS = ("dt", "timestep")  # s
TOLERANCE = 0.02  # of a rate
FOREIGN_UNITS = {"deg", "degree", "degrees", "rpm", "mm", "cm", "inch", "inches", "feet"}
LEG_COLUMNS = (a1.LEG_POSITION, a1.LEG_VELOCITY)


def honour_stated(arrays, hz, path):
    """Return arrays, {key: array}, with joints in our order, and notes on what was changed, a list.

    arrays: as read from a file. hz: rate of the format's rows. Keys: frequency, fps, hz or rate in Hz, dt or timestep in s;
    time, (N,), in s; units, a text; joint_names, the order of the joints in the columns of states and actions. The real
    format names each column, and needs no joint_names. path: for messages. Raises UserError for a contradiction.
    """
    for key in RATES + STEPS:
        if key in arrays:
            stated = floats(arrays, key, path)
            if stated.size != 1 or not np.isfinite(stated).all() or stated.item() <= 0.0:
                _fail(path, f"{key} must be a single positive number")
            _require_rate(1.0 / stated.item() if key in STEPS else stated.item(), hz, f"{key} is {stated.item():g}", path)
    if "time" in arrays:
        rows = len(np.atleast_1d(arrays.get("states", arrays.get("q_trunk_tx", arrays["time"]))))
        _require_times(floats(arrays, "time", path), rows, hz, path)
    if "units" in arrays:
        words = re.findall("[a-z]+", " ".join(map(str, np.atleast_1d(arrays["units"]).ravel())).lower())
        foreign = sorted(FOREIGN_UNITS & set(words))
        if foreign:
            _fail(path, f"units are {', '.join(foreign)}; give m, rad, m/s and rad/s")
    if "joint_names" in arrays and "states" in arrays:
        return _in_our_order(arrays, path)
    return arrays, []


def _require_rate(stated, hz, what, path):
    if abs(stated / hz - 1.0) > TOLERANCE:
        _fail(path, f"{what}, but the rows of this format are at {hz:g} Hz; resample it")


def _require_times(time, rows, hz, path):
    if time.ndim != 1 or len(time) < 2 or len(time) != rows or not np.isfinite(time).all():
        wanted = f"one for each of the {rows} rows of the recording"
        _fail(path, f"time must be a row of finite seconds, {wanted}, not of shape {time.shape}")
    # Between segments time may jump.
    low, middle, high = np.percentile(np.diff(time), [5.0, 50.0, 95.0])
    if middle <= 0.0:
        _fail(path, "time does not rise from row to row")
    _require_rate(1.0 / middle, hz, f"time says {1.0 / middle:.3g} Hz", path)
    if high - low > 0.2 * middle:
        _fail(path, f"time steps vary from {1000 * low:.1f} to {1000 * high:.1f} ms; resample it evenly")


def _in_our_order(arrays, path):
    names = [str(name).lower().removesuffix("_joint") for name in np.atleast_1d(arrays["joint_names"]).ravel()]
    trunk = [joint.lower() for joint in a1.TRUNK_JOINTS]
    legs = [name for name in names if name not in trunk]
    ours = [name.lower() for name in a1.ACTUATORS]
    unknown = [name for name in legs if name not in ours]
    if unknown:
        _fail(path, f"joint_names holds {unknown[0]!r}; the A1's are {a1.LEG_JOINTS[0]}, {a1.LEG_JOINTS[1]}, ...")
    if sorted(legs) != sorted(ours):
        _fail(path, f"joint_names must name each of the {len(ours)} joints of the legs once")
    if names[: len(names) - len(legs)] != trunk[len(trunk) - len(names) + len(legs) :]:
        _fail(path, f"joint_names must begin with the trunk's, in the order {', '.join(a1.TRUNK_JOINTS)}, or leave them out")
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
    for key in ("actions", "executed_actions"):
        if key in arrays and np.ndim(arrays[key]) == 2 and np.shape(arrays[key])[1] == a1.N_ACTIONS:
            arrays[key] = floats(arrays, key, path)[:, order]
    return arrays, [f"joints put in our order, from that of joint_names ({legs[0]}, {legs[1]}, {legs[2]}, {legs[3]}, ...)"]


def _fail(path, problem):
    raise UserError(f"demonstrations: {path}: {problem}")
