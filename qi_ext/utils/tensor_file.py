"""Arrays and plain data in one safetensors file, with a digest that shows any changed byte."""

import hashlib
import io
import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole
from qi_ext.utils.reading import open_regular, parse_json, read_bytes
from qi_ext.utils.words import in_one_line

FORMAT_VERSION = 1
MAX_BYTES = 2**31  # of a file
MAX_HEADER = 2**24  # bytes: names and shapes, and plain data, which take many times as much memory
MAX_TENSORS = 2**16


def write_tensors(path, kind, arrays, data):
    """Write arrays, {name: numpy array}, and data, plain JSON, whole or not at all. kind: that `read_tensors` must ask for."""
    text = json.dumps(data, sort_keys=True, allow_nan=False)
    header = {"format_version": str(FORMAT_VERSION), "kind": kind, "data": text}
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_whole(path, to_safetensors(arrays, header | {"digest": _digest(header, arrays)}))


def read_tensors(path, kind):
    """Return the arrays and the data of a file that `write_tensors` wrote; nothing in it is executed.

    Raises UserError, in one line, where the file is missing, cut off, changed, or of another kind or version.
    """
    arrays, header = read_safetensors(path)
    digest = header.pop("digest", None)
    if header.get("kind") != kind:
        raise UserError(f"{path}: not a {kind} of ours, but of kind {header.get('kind')!r:.100}")
    if header.get("format_version") != str(FORMAT_VERSION):
        found = header.get("format_version")
        raise UserError(f"{path}: format version {found!r:.100}, but this program reads {FORMAT_VERSION}")
    if digest != _digest(header, arrays):
        raise UserError(f"{path}: damaged: its content is not what was written")
    data = parse_json(header.get("data", ""), path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a {kind} of ours: its data are no mapping")
    return arrays, data


def to_safetensors(arrays, metadata):
    """Return the bytes of a safetensors file, the same for the same arrays, {name: array}, and metadata, {str: str}.

    safetensors itself writes the metadata in any order.
    """
    content = save(arrays, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def read_safetensors(path, limit=MAX_BYTES):
    """Return the arrays, {name: array}, and the metadata, {str: str}, of any safetensors file of at most `limit` bytes.

    Raises NoSuchFile, and UserError where it is not such a file, or damaged.
    """
    with open_regular(path) as file:
        _header(file, path)  # by itself first, so that nothing is read of a large file that is something else
    content = read_bytes(path, limit)
    try:
        arrays = {name: array.copy() for name, array in load(content).items()}
    except (SafetensorError, AttributeError, KeyError, MemoryError, TypeError, ValueError) as error:
        reason = in_one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{path}: not a safetensors file, or damaged ({reason})") from None
    # Of what was read, because another file may be at the path by now.
    return arrays, _header(io.BytesIO(content), path).get("__metadata__", {})


def _header(file, path) -> dict[str, Any]:
    try:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length).decode() if length <= MAX_HEADER else ""
    except (OSError, UnicodeDecodeError):
        text = ""
    header = parse_json(text, f"{path}: not a safetensors file, or damaged") if text.startswith("{") else None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise UserError(f"{path}: not a safetensors file, or damaged (its header)")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UserError(f"{path}: not a safetensors file, or damaged (its metadata)")
    return header


def _digest(header, arrays):
    """SHA-256 of everything in the file, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
