"""npz files from anyone: arrays are read and written, nothing is ever unpickled, and every fault is a one-line UserError."""

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically

MAX_BYTES = 2**31  # unpacked, because a small file can unpack to more than memory holds


def require_keys(arrays, keys, path):
    """Raise UserError unless all `keys` are among `arrays`, {key: array}, read from `path`."""
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise UserError(f"demonstrations: {path}: missing key {', '.join(missing)}; record or download the file again")


def floats(arrays, key, path):
    """Return arrays[key] as float64, of any shape. Raises UserError where it holds no numbers."""
    try:
        return np.asarray(arrays[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"demonstrations: {path}: {key} must hold numbers, not {arrays[key].dtype}") from None


def require_finite(array, key, path):
    """Raise UserError, naming the first row, unless all numbers of an array, (n, ...), are finite."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ", ".join(f"{axis} {index}" for axis, index in zip(("row", "column"), bad[0], strict=False))
        verb = "are" if key.endswith("s") else "is"
        raise UserError(f"demonstrations: {path}: {key} {verb} not finite at {where}; cut that part out")


def whole_numbers(arrays, key, path):
    """Return arrays[key], (n,), as int64. Raises UserError where it is not one row of whole numbers."""
    numbers = floats(arrays, key, path)
    if numbers.ndim != 1 or not np.all(np.isfinite(numbers)) or np.any(numbers != np.round(numbers)):
        raise UserError(f"demonstrations: {path}: {key} must be a row of whole numbers")
    return numbers.astype(np.int64)


def read_npz(path):
    """Return all arrays of an npz, {key: array}. Raises UserError where it cannot be read; nothing is unpickled."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            beginning = file.read(64)
        if not beginning.startswith(b"PK"):
            page = b"<" in beginning[:16]
            what = "a web page; download the file itself" if page else "no npz file; save the recording as one"
            raise UserError(f"demonstrations: {path}: this is {what}")
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise UserError(f"demonstrations: {path}: unpacks to {size / 2**30:.1f} GiB, more than the 2 GiB allowed")
        with np.load(path, allow_pickle=False) as archive:
            # numpy returns a member that is no array as bytes.
            return {key: np.asarray(archive[key]) for key in archive.files}
    except MemoryError:
        raise UserError(
            f"demonstrations: {path}: an array is said to be larger than memory; record, copy or download it again"
        ) from None
    except FileNotFoundError:
        raise UserError(f"demonstrations: no such file: {path}; give the path of an npz, trot or loco-mujoco") from None
    except OSError as error:
        raise UserError(f"demonstrations: {path}: cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, tokenize.TokenError, SyntaxError):
        raise UserError(
            f"demonstrations: {path}: the file is damaged or cut short; record, copy or download it again"
        ) from None
    except RuntimeError:
        raise UserError(f"demonstrations: {path}: the file is encrypted; save it without a password") from None
    except ValueError as error:
        reason = "holds pickled objects, which are never opened" if "pickle" in str(error) else f"cannot be read: {error}"
        raise UserError(f"demonstrations: {path}: {reason}; save it as plain arrays") from None


def write_npz(path, **arrays):
    """Write arrays as a compressed npz, whole or not at all. Raises UserError where `path` cannot be written."""
    with write_atomically(path) as file:
        np.savez_compressed(file, **arrays)
