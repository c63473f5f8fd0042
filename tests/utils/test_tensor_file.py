import io
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from qi_ext.utils.errors import UserError
from qi_ext.utils.tensor_file import FORMAT_VERSION, read_tensors, write_tensors

ARRAYS = {
    "float32": np.array([[1.5, np.nan], [-0.0, np.inf]], dtype=np.float32),
    "float64": np.array([0.1, 1e-320]),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint64": np.array([2**64 - 1, 0], dtype=np.uint64),
    "bool": np.array([True, False, True]),
    "uint8": np.arange(5, dtype=np.uint8),
    "no dimension": np.array(3.0, dtype=np.float32),
    "empty": np.empty((0, 3)),
    "part/key é": np.zeros((1, 2)),
}
DATA = {"step": 64, "score": None, "text": 'quoted " and é', "list": [1, 2.5], "nested": {"a": True}}


def refusal(path, kind="checkpoint"):
    """The message that a file is refused with, which must be one line that names it."""
    with pytest.raises(UserError) as caught:
        read_tensors(path, kind)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


@pytest.fixture
def small(path):
    """The content of a small whole file at `path`."""
    write_tensors(path, "checkpoint", {"a": np.array([1.0, 2.0], dtype=np.float32), "b": np.array([True])}, {"step": 64})
    return path.read_bytes()


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_bit_for_bit(path, name):
    write_tensors(path, "checkpoint", {name: ARRAYS[name]}, {})
    arrays, _ = read_tensors(path, "checkpoint")
    assert list(arrays) == [name]
    found, array = arrays[name], ARRAYS[name]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_all_come_back_together_and_the_data_with_them(path):
    write_tensors(path, "checkpoint", ARRAYS, DATA)
    arrays, data = read_tensors(path, "checkpoint")
    assert arrays.keys() == ARRAYS.keys()
    assert data == DATA


def test_what_comes_back_can_be_changed(path):
    write_tensors(path, "checkpoint", ARRAYS, DATA)
    for array in read_tensors(path, "checkpoint")[0].values():
        array[...] = 0


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.arange(6.0)[::2]], ids=["transposed", "every other"])
def test_an_array_may_lie_in_memory_as_it_likes(path, array):
    write_tensors(path, "checkpoint", {"a": array}, {})
    np.testing.assert_array_equal(read_tensors(path, "checkpoint")[0]["a"], array)


def test_no_arrays_at_all_are_a_file_too(path):
    write_tensors(path, "checkpoint", {}, DATA)
    assert read_tensors(path, "checkpoint") == ({}, DATA)


def test_data_that_is_not_json_leaves_no_file(path):
    with pytest.raises(ValueError, match="JSON"):
        write_tensors(path, "checkpoint", {}, {"score": float("nan")})
    assert not path.exists()


def test_a_bit_of_any_byte_that_changed_is_noticed(path, small):
    for byte in range(len(small)):
        changed = bytearray(small)
        changed[byte] ^= 1 << byte % 8
        path.write_bytes(changed)
        refusal(path)


def test_every_length_that_is_cut_off_or_added_is_noticed(path, small):
    for length in range(len(small)):
        path.write_bytes(small[:length])
        refusal(path)
    path.write_bytes(small + b"\0")
    refusal(path)


def test_arrays_that_were_exchanged_are_noticed(path):
    first, second = np.array([1.0]), np.array([2.0])
    write_tensors(path, "checkpoint", {"a": first, "b": second}, {})
    content = path.read_bytes()
    path.write_bytes(content[:-16] + content[-8:] + content[-16:-8])
    assert "damaged" in refusal(path)


def test_another_kind_is_refused_by_name(path):
    write_tensors(path, "checkpoint", ARRAYS, DATA)
    assert "but of kind 'checkpoint'" in refusal(path, "agent")


def test_another_version_is_refused_with_both(path, monkeypatch):
    monkeypatch.setattr("qi_ext.utils.tensor_file.FORMAT_VERSION", FORMAT_VERSION + 1)
    write_tensors(path, "checkpoint", ARRAYS, DATA)
    monkeypatch.undo()
    message = refusal(path)
    assert f"format version '{FORMAT_VERSION + 1}'" in message
    assert f"reads {FORMAT_VERSION}" in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        b"not a file of ours at all",
        save({"a": np.zeros(2)}),
        save({"a": np.zeros(2)}, metadata={"kind": "checkpoint"}),
        save({"a": np.zeros(2)}, metadata={"kind": "checkpoint", "format_version": "1", "digest": "0", "data": "{}"}),
        save({}, metadata={"kind": "checkpoint", "format_version": "1", "digest": "0"}),
    ],
    ids=["empty", "zeros", "ones", "text", "bare", "no digest", "wrong digest", "no data"],
)
def test_what_we_did_not_write_is_refused(path, content):
    path.write_bytes(content)
    refusal(path)


def test_a_file_that_is_not_there_or_is_a_directory_is_refused(path, tmp_path):
    assert "No such file" in refusal(path)
    assert "directory" in refusal(tmp_path)


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 5, "torch", "torch, old"])
def test_a_pickle_is_refused_and_never_loaded(path, tmp_path, protocol):
    buffer, harmful = io.BytesIO(), Harmful(tmp_path / "harm")
    if isinstance(protocol, int):
        pickle.dump(harmful, buffer, protocol)
    else:
        torch.save(harmful, buffer, _use_new_zipfile_serialization=protocol == "torch")
    path.write_bytes(buffer.getvalue())
    refusal(path)
    assert not (tmp_path / "harm").exists()
