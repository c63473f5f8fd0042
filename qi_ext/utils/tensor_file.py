"""Arrays and plain data in one safetensors file, with a digest that shows any changed byte."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole

FORMAT_VERSION = 1


def write_tensors(path, kind, arrays, data):
    """Write arrays, {name: numpy array}, and data, plain JSON, whole or not at all. kind: that `read_tensors` must ask for."""
    text = json.dumps(data, sort_keys=True, allow_nan=False)
    header = {"format_version": str(FORMAT_VERSION), "kind": kind, "data": text}
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_whole(path, save(arrays, metadata=header | {"digest": _digest(header, arrays)}))


def read_tensors(path, kind):
    """Return the arrays and the data of a file that `write_tensors` wrote; nothing in it is executed.

    Raises UserError, in one line, where the file is missing, cut off, changed, or of another kind or version.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        arrays = {name: array.copy() for name, array in load(content).items()}  # which checks the header's length, too
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        digest = header.pop("digest")
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a {kind} of ours, or damaged ({_short(error)})") from None
    if header.get("kind") != kind:
        raise UserError(f"{path}: not a {kind} of ours, but of kind {header.get('kind')!r}")
    if header.get("format_version") != str(FORMAT_VERSION):
        raise UserError(f"{path}: format version {header.get('format_version')!r}, but this program reads {FORMAT_VERSION}")
    if digest != _digest(header, arrays):
        raise UserError(f"{path}: damaged: its content is not what was written")
    return arrays, json.loads(header["data"])


def _digest(header, arrays):
    """SHA-256 of everything in the file, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _short(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
