"""Files that cannot be learned from: each is refused in one line that names the file and the fault."""

import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from qi_ext.demonstrations import formats, load_demonstrations, loco_mujoco_formats, npz
from qi_ext.robot import a1
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

WRITERS = {
    "ours": formats.write,
    "real": loco_mujoco_formats.write_real,
    "perfect": loco_mujoco_formats.write_perfect,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bad.npz"


@pytest.fixture
def arrays(walking, tmp_path):
    """arrays(form="ours", rows=10): the arrays of a good file of two segments of 10 rows, free to be changed."""

    def make(form="ours", rows=10):
        good = tmp_path / "good.npz"
        WRITERS[form](good, walking((0.0, 0.0), rows))
        with np.load(good) as archive:
            return {key: archive[key].copy() for key in archive.files}

    return make


def refusal(path):
    """The message with which loading is refused: one line that names the path."""
    with pytest.raises(UserError) as raised:
        load_demonstrations(path, task_commands("simple"))
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("form", WRITERS)
def test_a_good_file_is_not_refused(path, arrays, form):
    np.savez(path, **arrays(form, rows=30))
    assert load_demonstrations(path, task_commands("simple")).n_segments == 2


# Files that are no npz


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.write_text("<!DOCTYPE html>\n<html></html>\n"), "web page"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "no npz"),
        (lambda path: path.touch(), "no npz"),
    ],
)
def test_something_else_in_place_of_an_npz_is_refused(path, make, said):
    make(path)
    assert said in refusal(path)


def test_a_file_cut_short_is_refused(path, arrays):
    np.savez(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in refusal(path)


def test_a_damaged_file_is_refused(path, arrays):
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_an_encrypted_file_is_refused(path, arrays):
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = content.find(signature)
        while found >= 0:
            content[found + flags] |= 1
            found = content.find(signature, found + 4)
    path.write_bytes(content)
    assert "encrypted" in refusal(path)


def test_a_file_that_would_unpack_to_too_much_is_refused(path, arrays, monkeypatch):
    np.savez_compressed(path, **arrays() | {"states": np.zeros((10_000, a1.N_OBSERVATIONS))})
    monkeypatch.setattr(npz, "MAX_BYTES", 1_000_000)
    assert path.stat().st_size < 1_000_000
    assert "unpacks to" in refusal(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 37)}",  # more than memory holds
        b"{'descr': '<f8', 'shape': (((",  # does not end
    ],
)
def test_an_array_with_a_bad_header_is_refused(path, header):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("states.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    assert "download it again" in refusal(path)


def test_a_zip_of_other_files_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("states", "1, 2, 3")
        archive.writestr("last", "0, 0, 1")
    assert "must hold numbers" in refusal(path)


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["states", "something_else"])
def test_pickled_objects_are_never_opened(path, arrays, tmp_path, key):
    sprung = tmp_path / "sprung"
    np.savez(path, **arrays() | {key: np.array([Trap(sprung)], dtype=object)})
    assert "pickled" in refusal(path)
    assert not sprung.exists()
    with np.load(path, allow_pickle=True) as archive:
        archive[key]
    assert sprung.exists()  # which shows that the trap works


# Keys


def test_a_file_of_no_known_format_is_refused_with_what_it_holds(path):
    np.savez(path, weights=np.zeros(3))
    assert "weights" in refusal(path)


KEYS = [("ours", "kind", "download"), ("real", "dir_arrow", "download"), ("perfect", "last", "each piece of motion")]


@pytest.mark.parametrize(("form", "key", "remedy"), KEYS)
def test_a_missing_key_is_named(path, arrays, form, key, remedy):
    good = arrays(form)
    del good[key]
    np.savez(path, **good)
    assert re.search(rf"missing key {key}; .*{remedy}", refusal(path))


# Contents


def put(index, value):
    """Set entries of an array."""

    def change(array):
        array = array.astype(np.float64) if array.dtype.kind in "fi" else array
        array[index] = value
        return array

    return change


def cut(array):
    return array[:-1]


FAULTS = [
    # Shapes and types
    ("ours", "states", lambda states: states[..., None], "states must be (N, 37)"),
    ("ours", "command", cut, "1 commands need as many kinds"),
    ("ours", "actions", cut, "actions must have shape (20, 12)"),
    ("ours", "external_force", lambda force: force[:, :2], "external_force must have shape (20, 3)"),
    ("ours", "initial_state", cut, "initial_state must hold a row"),
    ("ours", "segment_bounds", lambda bounds: np.array(20), "segment_bounds must be a row of whole numbers"),
    ("ours", "format_version", lambda version: np.arange(3), "format_version must be a single value"),
    ("ours", "actions", lambda actions: np.full(actions.shape, "word"), "actions must hold numbers"),
    ("real", "dq_FL_hip_joint", cut, "dq_FL_hip_joint has shape"),
    ("perfect", "last", cut, "last (N,)"),
    ("ours", "states", lambda states: states.astype(complex), "states must hold numbers, not complex128"),
    ("ours", "kind", lambda kind: np.zeros(10**5 + 1, dtype="U1"), "has 100,001 segments, and may have 100,000"),
    ("ours", "kind", lambda kind: np.zeros((2, 2)), "kind must be a row of names"),
    # Values of one format
    ("ours", "format_version", lambda version: np.array(np.nan), "format_version must be a whole number"),
    ("ours", "command", put((1, 1), 1e300), "speeds are at most 100 m/s"),
    ("ours", "states", put((7, 20), 1e300), "states reach 1e+300 at row 7, column 20"),
    ("ours", "format_version", lambda version: version + formats.FORMAT_VERSION, "newer"),
    ("ours", "kind", put(1, "dance"), "unknown kind dance"),
    ("ours", "command", put((1, 0), np.nan), "direction"),
    ("ours", "segment_bounds", put(1, 0.5), "whole numbers"),
    ("ours", "segment_bounds", put(1, 20), "segment_bounds must rise"),
    ("real", "split_points", put(1, 100), "split_points must rise"),
    ("real", "dir_arrow", put((5, 0), np.nan), "dir_arrow is not finite at row 5, column 0"),
    ("real", "dir_arrow", put(slice(None), 0.0), "rotation"),
    ("real", "goal_speed", put(5, np.nan), "goal_speed is not finite at row 5"),
    ("perfect", "states", put(7, np.nan), "states are not finite at row 7, column 0"),
    ("perfect", "states", put((7, 34), 3.0), "cosine"),
    # Values of any
    ("ours", "states", put((7, 20), np.nan), "states are not finite at row 7, column 20"),
    ("ours", "initial_state", put((0, 1), np.nan), "initial_state"),
    ("perfect", "actions", put((7, 3), np.inf), "actions are not finite at row 7, column 3"),
    ("real", "q_RL_thigh_joint", np.degrees, "check units (rad)"),
    ("perfect", "actions", put((7, 3), -12.0), "actions reach 12, but must lie in [-1, 1], in units of 34 Nm"),
    ("ours", "executed_actions", put((7, 3), 2.0), "executed_actions reach 2"),
]


@pytest.mark.parametrize(("form", "key", "change", "said"), FAULTS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_fault_in_an_array_is_refused_with_what_and_where(path, arrays, form, key, change, said):
    good = arrays(form)
    np.savez(path, **good | {key: change(good[key])})
    assert said in refusal(path)


def test_a_refusal_is_one_line_whatever_the_file_says_of_itself(path, arrays):
    good = arrays()
    np.savez(path, **good | {"states": put((7, 20), np.nan)(good["states"]), "source": np.array("one\ntwo")})
    refusal(path)


def test_segments_joined_without_a_mark_are_refused(path, arrays):
    perfect = arrays("perfect")
    perfect["states"][9:, a1.LEG_POSITION] += 0.5
    np.savez(path, **perfect | {"last": np.zeros(len(perfect["last"]))})
    message = refusal(path)
    assert "jumps by 0." in message
    assert "rows 8 and 9" in message


def test_yaw_may_jump_from_pi_to_minus_pi(path, arrays):
    perfect = arrays("perfect")
    perfect["states"][:, a1.YAW] = np.pi - 0.001
    perfect["states"][5:, a1.YAW] -= 2.0 * np.pi
    np.savez(path, **perfect)
    assert formats.read(path).n_segments == 2
