"""npz files from anyone: arrays are read and written, nothing is ever unpickled, and every fault is a one-line UserError."""

import math
import tokenize
import zipfile
import zlib

import numpy as np

from qi_ext.robot.commands import Command
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically
from qi_ext.utils.reading import NoSuchFile, open_regular, open_zip
from qi_ext.utils.words import in_one_line

MAX_BYTES = 2**31  # unpacked, because a small file can unpack to more than memory holds
MAX_SEGMENTS = 100_000
MAX_SPEED = 100.0  # m/s of a goal


def require_keys(arrays, keys, path, remedy="record or download the file again"):
    """Raise UserError, ending in `remedy`, unless all `keys` are among `arrays`, {key: array}, read from `path`."""
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise UserError(f"demonstrations: {path}: missing key {', '.join(missing)}; {remedy}")


def floats(arrays, key, path):
    """Return arrays[key] as float64, of any shape. Raises UserError where it holds no real numbers."""
    array = np.asarray(arrays[key])
    if array.dtype.kind not in "biuf":
        raise UserError(f"demonstrations: {path}: {key} must hold numbers, not {array.dtype!s:.100}")
    return array.astype(np.float64)


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
    if numbers.ndim != 1 or not np.all(np.abs(numbers) <= 2.0**53) or np.any(numbers != np.round(numbers)):
        raise UserError(f"demonstrations: {path}: {key} must be a row of whole numbers")
    return numbers.astype(np.int64)


def require_few_segments(n_segments, path):
    """Raise UserError where there are more segments than can be worth their time, one after the other."""
    if n_segments > MAX_SEGMENTS:
        raise UserError(
            f"demonstrations: {path}: has {n_segments:,} segments, and may have {MAX_SEGMENTS:,}; "
            "give longer ones (last, split_points or segment_bounds)"
        )


def command_of(direction_deg, speed, path):
    """Return the `Command` of a goal, degrees and m/s, that a file names. Raises UserError where it cannot be."""
    if abs(direction_deg) > 1e6 or abs(speed) > MAX_SPEED:
        raise UserError(
            f"demonstrations: {path}: a goal of {direction_deg:.4g} degrees at {speed:.4g} m/s cannot be; "
            f"speeds are at most {MAX_SPEED:g} m/s"
        )
    try:
        # Arrow matrices give degrees with rounding errors, which would pass for another direction.
        return Command(round(float(direction_deg), 6), round(float(speed), 6))
    except ValueError as error:
        raise UserError(f"demonstrations: {path}: {error}") from None


def read_npz(path):
    """Return all arrays of an npz, {key: array}. Raises UserError where it cannot be read; nothing is unpickled.

    Of the arrays, all values together are as many as MAX_BYTES hold in float32.
    """
    try:
        with open_regular(path) as file:
            beginning = file.read(64)
        if not beginning.startswith(b"PK"):
            page = b"<" in beginning[:16]
            what = "a web page; download the file itself" if page else "no npz file; save the recording as one"
            raise UserError(f"{path}: this is {what}")
        with open_zip(path, MAX_BYTES) as archive:
            left, arrays = MAX_BYTES // 4, {}
            for member in archive.infolist():
                array = _array(archive, member)
                left -= array.size
                if left < 0:
                    raise UserError(f"{path}: holds more than the {MAX_BYTES // 4:,} values allowed")
                arrays[member.filename.removesuffix(".npy")] = array
            return arrays
    except NoSuchFile:
        raise UserError(
            f"demonstrations: no such file: {path}; give the path of an npz or of motion clips, trot, loco-mujoco or minari:ID"
        ) from None
    except UserError as error:
        raise UserError(f"demonstrations: {error}") from None
    except MemoryError:
        raise UserError(
            f"demonstrations: {path}: an array is said to be larger than memory; record, copy or download it again"
        ) from None
    except OSError as error:
        raise UserError(f"demonstrations: {path}: cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RecursionError, SyntaxError, tokenize.TokenError):
        raise UserError(
            f"demonstrations: {path}: the file is damaged or cut short; record, copy or download it again"
        ) from None
    except RuntimeError:
        raise UserError(f"demonstrations: {path}: the file is encrypted; save it without a password") from None
    # Of numpy, for headers that are none.
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        told = in_one_line(error)
        reason = "holds pickled objects, which are never opened" if "pickle" in told else f"cannot be read: {told}"
        raise UserError(f"demonstrations: {path}: {reason}; save it as plain arrays") from None


def _array(archive, member):
    """The array in a member of an npz; one that is no array comes as bytes. Raises whatever numpy and zipfile do."""
    with archive.open(member) as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return np.asarray(archive.read(member))
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read_header(file)
        # Or numpy takes as much memory as the header says, and whoever uses an array of empty texts, all the time there is.
        if min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > member.file_size:
            raise EOFError
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def write_npz(path, **arrays):
    """Write arrays as a compressed npz, whole or not at all. Raises UserError where `path` cannot be written."""
    with write_atomically(path) as file:
        np.savez_compressed(file, **arrays)
