"""Read demonstrations from an npz of ours or of loco-mujoco, and write ours."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from qi_ext.demonstrations.checks import check_form
from qi_ext.demonstrations.dataset import HZ, KINDS, REAL_HZ, Demonstrations
from qi_ext.demonstrations.loco_mujoco_formats import from_perfect, from_real, is_real
from qi_ext.demonstrations.npz import command_of, floats, read_npz, require_few_segments, require_keys, whole_numbers, write_npz
from qi_ext.demonstrations.packing import packed_arrays, unpacked
from qi_ext.demonstrations.stated import honour_stated
from qi_ext.robot import a1
from qi_ext.utils.errors import UserError
from qi_ext.utils.output import printable

FORMAT_VERSION = 3  # of packed arrays; 2 of headings; 1 where the command stays within each segment

OURS = ("states", "actions", "executed_actions", "external_force", "kind", "command", "segment_bounds", "initial_state")


def read(path):
    """Read `Demonstrations` from an npz of any of the three formats. Raises UserError where it holds none."""
    return from_arrays(read_npz(path), path)


def from_arrays(arrays, path):
    """Return `Demonstrations` of {key: array} in any of the three formats. path: where they are from, for messages.

    They have passed `check_form`, and nothing else of what `load_demonstrations` looks at.
    Raises UserError where there are none.
    """
    arrays = unpacked(arrays, path)
    arrays, notes = honour_stated(arrays, REAL_HZ if is_real(arrays) else HZ, path)
    ours = "segment_bounds" in arrays
    if ours:
        demonstrations = _from_ours(arrays, path)
    elif "states" in arrays:
        demonstrations = from_perfect(arrays, path)
    elif is_real(arrays):
        demonstrations = from_real(arrays, path)
    else:
        raise UserError(
            f"demonstrations: {path}: holds {', '.join(sorted(arrays)[:8]) or 'nothing'}, which is none of the known formats: "
            "ours (segment_bounds, states, ...), loco-mujoco's perfect (states, last, ...) or its real one (q_trunk_tx, ...)"
        )
    check_form(demonstrations, path)
    demonstrations = replace(demonstrations, notes=(*demonstrations.notes, *notes))
    # Our file holds float32, which rounds the goal features.
    restored = ours and demonstrations.headings is None
    return demonstrations.with_commands(demonstrations.commands) if restored else demonstrations


def write(path, demonstrations, made_by="", packed=False):
    """Write our format: the fields of `Demonstrations`, states and actions in float32.

    made_by: the command line that recorded them, kept in the file. Recorded actions have few enough digits for float32.
    packed: write the form of the embedded sets (packing.py), half as large, which only `load_demonstrations` reads; values are
    rounded to its digits. Raises UserError where one of the arrays is None or the file cannot be written.
    """
    require_ours(demonstrations, path)
    moving = {} if demonstrations.headings is None else {"headings": demonstrations.headings}
    rows = {name: getattr(demonstrations, name) for name in ("states", "actions", "executed_actions")}
    if packed:
        try:
            rows = packed_arrays(**rows, **moving)
        except ValueError as error:
            raise UserError(f"demonstrations: {path}: {error}; write the plain format") from None
    else:
        rows = {name: array.astype(np.float32) for name, array in rows.items()} | moving
    write_npz(
        path,
        format_version=np.array(3 if packed else 2 if moving else 1),
        **rows,
        external_force=demonstrations.external_force.astype(np.float32),
        kind=np.array(demonstrations.kind),
        command=np.array([(command.direction_deg, command.speed) for command in demonstrations.commands]),
        segment_bounds=demonstrations.bounds,
        initial_state=demonstrations.initial_state,
        synthetic=np.array(demonstrations.synthetic),
        source=np.array(demonstrations.source),
        made_by=np.array(made_by),
    )


def require_ours(demonstrations, path):
    """Raise UserError, naming `path`, where one of the arrays that our format needs is None."""
    for name in ("actions", "executed_actions", "external_force", "initial_state"):
        if getattr(demonstrations, name) is None:
            raise UserError(f"demonstrations: {path}: our format needs {name}, and these have none")


def _from_ours(arrays, path):
    require_keys(arrays, OURS, path)
    for key in ("format_version", "synthetic", "source"):
        if key in arrays and arrays[key].ndim:
            raise UserError(f"demonstrations: {path}: {key} must be a single value, not of shape {arrays[key].shape}")
    version = float(floats(arrays, "format_version", path)) if "format_version" in arrays else FORMAT_VERSION
    if not version >= 0.0:
        raise UserError(f"demonstrations: {path}: format_version must be a whole number, not {version:g}")
    if version > FORMAT_VERSION:
        raise UserError(f"demonstrations: {path}: format version {version:g} is newer than this program; update it")
    if arrays["kind"].ndim > 1:
        raise UserError(f"demonstrations: {path}: kind must be a row of names, not of shape {arrays['kind'].shape}")
    require_few_segments(arrays["kind"].size, path)
    kind = tuple(str(kind) for kind in np.atleast_1d(arrays["kind"]))
    unknown = sorted(set(kind) - set(KINDS))
    if unknown:
        raise UserError(
            f"demonstrations: {path}: unknown kind {' '.join(', '.join(unknown).split())[:200]}; known are {', '.join(KINDS)}"
        )
    states = floats(arrays, "states", path)
    table = floats(arrays, "command", path)
    if states.ndim != 2 or states.shape[1] != a1.N_OBSERVATIONS or table.ndim != 2 or table.shape[1] != 2:
        raise UserError(
            f"demonstrations: {path}: states must be (N, {a1.N_OBSERVATIONS}) and command (S, 2), "
            f"not {states.shape} and {table.shape}"
        )
    require_few_segments(len(table), path)
    return Demonstrations(
        states=states,
        bounds=whole_numbers(arrays, "segment_bounds", path),
        commands=tuple(command_of(direction, speed, path) for direction, speed in table),
        kind=kind,
        source=printable(str(arrays.get("source", f"recorded: {Path(path).name}"))[:1000]),
        synthetic=bool(arrays.get("synthetic", False)),
        actions=floats(arrays, "actions", path),
        executed_actions=floats(arrays, "executed_actions", path),
        external_force=floats(arrays, "external_force", path),
        initial_state=floats(arrays, "initial_state", path),
        headings=floats(arrays, "headings", path) if "headings" in arrays else None,
    )
