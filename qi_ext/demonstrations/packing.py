"""Arrays of fixed-point numbers as bytes that deflate to half the size of float32; the embedded sets are stored so.

Neighbouring rows of motion are alike, and so are their differences. What is stored are second differences down each column, as
whole numbers with the sign in the lowest bit, and of these the lowest bytes first: the higher ones are mostly 0.
"""

import numpy as np

from qi_ext.utils.errors import UserError

# Binary digits kept after the point: actions to 0.008 Nm, states to 4e-6 (rad, m, rad/s, m/s), headings to 5e-7. More digits
# are noise, which does not compress.
BITS = {"states": 17, "actions": 12, "executed_noise": 12, "headings": 20}
PREFIX = "packed_"
_BYTES = 4
_NEGATIVE_ZERO = -(2**31)  # stands for -0.0, which the hash of a set's content tells from 0.0


def pack(values, bits):
    """Return values, (N, k), rounded to `bits` binary digits after the point, as (4, k, N) uint8.

    Raises ValueError for values of 2^(31 - bits) or more, and for those that are not finite.
    """
    values = np.transpose(values)
    whole = np.round(values * 2.0**bits)
    if not np.abs(whole).max(initial=0.0) < 2.0**31:
        raise ValueError(f"only finite numbers below {2.0 ** (31 - bits):g} can be packed")
    whole[(values == 0.0) & np.signbit(values)] = _NEGATIVE_ZERO
    # Differences may pass 2^31, and come back as they went: both ways are modulo 2^32.
    differences = np.diff(np.diff(whole.astype(np.int32), axis=1, prepend=np.int32(0)), axis=1, prepend=np.int32(0))
    signs_last = np.ascontiguousarray((differences << 1) ^ (differences >> 31)).astype("<u4")
    return np.ascontiguousarray(np.moveaxis(signs_last.view(np.uint8).reshape(*signs_last.shape, _BYTES), -1, 0))


def unpack(planes, bits):
    """Return the values, (N, k) float64, of planes, (4, k, N) uint8. The inverse of `pack`."""
    signs_last = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")[..., 0].astype(np.uint32)
    differences = (signs_last >> 1).astype(np.int32) ^ -(signs_last & 1).astype(np.int32)
    whole = np.cumsum(np.cumsum(differences, axis=1, dtype=np.int32), axis=1, dtype=np.int32)
    return np.where(whole == _NEGATIVE_ZERO, -0.0, whole / 2.0**bits).T.copy()


def packed_arrays(states, actions, executed_actions, headings=None):
    """Return what stands in a file for these arrays, {key: (4, k, N) uint8}."""
    columns = {"states": states, "actions": actions, "executed_noise": executed_actions - actions, "headings": headings}
    return {PREFIX + name: pack(values, BITS[name]) for name, values in columns.items() if values is not None}


def unpacked(arrays, path):
    """Return arrays, {key: array}, with those that `packed_arrays` made as they were before.

    path: where they are from, for messages. Raises UserError for packed arrays of another form.
    """
    plain, found = dict(arrays), {}
    for name, bits in BITS.items():
        planes = plain.pop(PREFIX + name, None)
        if planes is None:
            continue
        if planes.dtype != np.uint8 or planes.ndim != 3 or len(planes) != _BYTES:
            raise UserError(f"demonstrations: {path}: {PREFIX}{name} must be (4, columns, rows) bytes; record the file again")
        found[name] = unpack(planes, bits)
    noise = found.pop("executed_noise", None)
    if noise is not None:
        if "actions" not in found or noise.shape != found["actions"].shape:
            raise UserError(
                f"demonstrations: {path}: {PREFIX}executed_noise needs {PREFIX}actions of its shape; record the file again"
            )
        found["executed_actions"] = found["actions"] + noise
    return plain | found
