"""Files that cannot be learned from: each ends in one line that names the file, whatever is in it."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from qi_ext.demonstrations import formats, load_demonstrations, npz
from qi_ext.robot import a1
from qi_ext.robot.commands import task_commands
from qi_ext.utils.errors import UserError


def refusal(path):
    """The message with which loading is refused, which is one line naming the path."""
    with pytest.raises(UserError) as raised:
        load_demonstrations(path, task_commands("simple"))
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bad.npz"


@pytest.fixture
def arrays(gliding, tmp_path):
    """A function giving the arrays of a good file of 20 rows, writable, in one of the formats."""

    def make(form="ours"):
        write = {
            "ours": formats.write,
            "real": formats.write_loco_mujoco_real,
            "perfect": formats.write_loco_mujoco_perfect,
        }[form]
        good = tmp_path / f"good_{form}.npz"
        write(good, gliding((0.0, 0.0), rows=10))
        with np.load(good) as archive:
            return {key: archive[key].copy() for key in archive.files}

    return make


@pytest.mark.parametrize("form", ["ours", "real", "perfect"])
def test_good_file_is_not_refused(path, arrays, form):
    np.savez(path, **arrays(form))
    assert load_demonstrations(path, task_commands("simple")).n_segments == 2


# No npz file


def test_missing_file(path):
    assert "no such file" in refusal(path)


def test_directory_in_the_place_of_the_file(path):
    path.mkdir()
    assert "directory" in refusal(path)


def test_web_page_saved_in_its_place(path):
    path.write_text("<!DOCTYPE html>\n<html><body>Not found</body></html>\n")
    assert "web page" in refusal(path)


def test_npy_file(path, arrays):
    with open(path, "wb") as file:
        np.save(file, arrays()["states"])
    assert "no npz" in refusal(path)


def test_empty_file(path):
    path.touch()
    assert "no npz" in refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_file_cut_short(path, arrays, share):
    np.savez(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cut short" in refusal(path)


def test_damaged_file(path, arrays):
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_file_that_claims_to_unpack_to_too_much(path, arrays, monkeypatch):
    np.savez_compressed(path, **arrays() | {"states": np.zeros((10_000, a1.N_OBSERVATIONS))})
    monkeypatch.setattr(npz, "MAX_BYTES", 1_000_000)
    assert path.stat().st_size < 1_000_000
    assert "unpacks to" in refusal(path)


def test_array_whose_header_claims_more_than_memory_holds(path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 37)}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("states.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    refusal(path)


def test_array_whose_header_does_not_end(path):
    header = b"{'descr': '<f8', 'shape': ((("
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("states.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    refusal(path)


def test_encrypted_file(path, arrays):
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = content.find(signature)
        while found >= 0:
            content[found + flags] |= 1
            found = content.find(signature, found + 4)
    path.write_bytes(content)
    refusal(path)


def test_zip_of_other_files(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("states", "1, 2, 3")
        archive.writestr("last", "0, 0, 1")
    refusal(path)


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["states", "kind", "source", "something_else"])
def test_pickled_objects_are_never_opened(path, arrays, tmp_path, key):
    sprung = tmp_path / "sprung"
    np.savez(path, **arrays() | {key: np.array([Trap(sprung)], dtype=object)})
    assert "pickled" in refusal(path)
    assert not sprung.exists()


def test_trap_in_a_pickled_object_would_spring(tmp_path):
    sprung = tmp_path / "sprung"
    with io.BytesIO() as file:
        np.save(file, np.array([Trap(sprung)], dtype=object))
        file.seek(0)
        np.load(file, allow_pickle=True)
    assert sprung.exists()


# Keys


def test_file_of_none_of_the_formats(path):
    np.savez(path, weights=np.zeros(3))
    assert "weights" in refusal(path)


@pytest.mark.parametrize("key", formats.OURS)
def test_missing_key_of_ours(path, arrays, key):
    good = arrays()
    del good[key]
    np.savez(path, **good)
    assert ("last" if key == "segment_bounds" else key) in refusal(path)


@pytest.mark.parametrize("key", ["q_FR_calf_joint", "dq_trunk_ty", "dir_arrow", "goal_speed"])
def test_missing_key_of_the_real_format(path, arrays, key):
    good = arrays("real")
    del good[key]
    np.savez(path, **good)
    assert f"missing key {key}" in refusal(path)


def test_missing_key_of_the_perfect_format(path, arrays):
    good = arrays("perfect")
    del good["last"]
    np.savez(path, **good)
    assert "missing key last" in refusal(path)


# Contents


def spoilt(good, key, index, value):
    array = good[key].astype(np.float64) if good[key].dtype.kind in "fi" else good[key]
    array[index] = value
    return good | {key: array}


NUMBERS = [
    ("ours", "states", (7, 20), np.nan, "row 7, column 20"),
    ("ours", "actions", (7, 3), np.inf, "actions are not finite at row 7, column 3"),
    ("ours", "executed_actions", (7, 3), np.nan, "executed_actions are not finite"),
    ("ours", "external_force", (7, 1), np.nan, "external_force are not finite"),
    ("ours", "initial_state", (0, 1), np.nan, "initial_state"),
    ("ours", "command", (1, 0), np.nan, "direction"),
    ("ours", "command", (1, 1), -0.5, "speed"),
    ("ours", "segment_bounds", 1, np.nan, "segment_bounds|segment bounds"),
    ("ours", "segment_bounds", 1, 20, "segment bounds must rise"),
    ("ours", "segment_bounds", 2, 30, "segment bounds must rise"),
    ("ours", "kind", 1, "dance", "unknown kind dance"),
    ("real", "q_FR_calf_joint", 5, np.nan, "not finite"),
    ("real", "goal_speed", 5, np.nan, "speed"),
    ("real", "dir_arrow", (5, 0), np.nan, "rotation"),
    ("real", "split_points", 1, 100, "split_points must rise"),
    ("perfect", "states", (7, 20), np.nan, "row 7, column 20"),
    ("perfect", "states", (7, 34), 3.0, "cosine"),
    ("perfect", "actions", (7, 3), np.nan, "actions are not finite"),
]


@pytest.mark.parametrize(("form", "key", "index", "value", "said"), NUMBERS, ids=str)
def test_single_bad_number(path, arrays, form, key, index, value, said):
    np.savez(path, **spoilt(arrays(form), key, index, value))
    message = refusal(path)
    assert any(part in message for part in said.split("|"))


@pytest.mark.parametrize(
    ("form", "key"),
    [
        *[("ours", key) for key in formats.OURS],
        *[("real", key) for key in ("q_trunk_tx", "dq_FL_hip_joint", "dir_arrow", "goal_speed")],
        *[("perfect", key) for key in ("states", "last", "actions")],
    ],
)
def test_array_that_is_too_short(path, arrays, form, key):
    good = arrays(form)
    np.savez(path, **good | {key: good[key][:-1]})
    refusal(path)


@pytest.mark.parametrize("key", formats.OURS)
def test_array_of_too_many_dimensions(path, arrays, key):
    good = arrays()
    np.savez(path, **good | {key: np.stack([good[key], good[key]], axis=-1)})
    refusal(path)


@pytest.mark.parametrize(
    ("form", "key"),
    [*[("ours", key) for key in formats.OURS], ("real", "q_trunk_tx"), ("real", "split_points"), ("perfect", "last")],
)
def test_single_number_where_an_array_belongs(path, arrays, form, key):
    np.savez(path, **arrays(form) | {key: np.array(1)})
    refusal(path)


@pytest.mark.parametrize(("key", "value"), [("format_version", np.arange(3)), ("synthetic", np.array([True, False]))])
def test_array_where_a_single_value_belongs(path, arrays, key, value):
    np.savez(path, **arrays() | {key: value})
    assert key in refusal(path)


@pytest.mark.parametrize("key", ["states", "actions", "command", "format_version"])
def test_words_where_numbers_belong(path, arrays, key):
    good = arrays()
    np.savez(path, **good | {key: np.full(good[key].shape, "word")})
    assert f"{key} must hold numbers" in refusal(path)


def test_source_of_two_lines(path, arrays):
    good = spoilt(arrays(), "states", (7, 20), np.nan)
    np.savez(path, **good | {"source": np.array("one\ntwo")})
    refusal(path)


def test_file_of_a_later_version(path, arrays):
    np.savez(path, **arrays() | {"format_version": np.array(formats.FORMAT_VERSION + 1)})
    assert "newer" in refusal(path)


@pytest.mark.parametrize("form", ["ours", "perfect"])
def test_joint_out_of_its_range(path, arrays, form):
    np.savez(path, **spoilt(arrays(form), "states", (7, a1.LEG_POSITION.start + 2), 1.8))
    message = refusal(path)
    assert "FR_calf_joint" in message and "row 7" in message


def test_joints_in_degrees(path, arrays):
    good = arrays("real")
    np.savez(path, **good | {"q_RL_thigh_joint": np.degrees(good["q_RL_thigh_joint"])})
    assert "RL_thigh_joint" in refusal(path)


def test_segments_joined_without_a_mark(path, arrays):
    perfect = arrays("perfect")
    perfect["states"][9:, a1.LEG_POSITION] += 0.5
    np.savez(path, **perfect | {"last": np.zeros(len(perfect["last"]))})
    message = refusal(path)
    assert "jumps by 0.5" in message
    assert "rows 8 and 9" in message


def test_a_yaw_that_wraps_is_no_jump(path, arrays):
    perfect = arrays("perfect")
    perfect["states"][:, a1.YAW] = np.pi - 0.001
    perfect["states"][5:, a1.YAW] -= 2.0 * np.pi
    np.savez(path, **perfect)
    assert load_demonstrations(path, task_commands("simple")).n_segments == 2


@pytest.mark.parametrize(("index", "value"), [(a1.TRUNK_Z, -0.3), (a1.ROLL, 0.3), (a1.PITCH, -0.2)])
def test_fallen_states(path, arrays, index, value):
    np.savez(path, **spoilt(arrays(), "states", (slice(12, 15), index), value))
    message = refusal(path)
    assert "3 of 20" in message and "row 12" in message


@pytest.mark.parametrize(("form", "key"), [("ours", "actions"), ("ours", "executed_actions"), ("perfect", "actions")])
def test_actions_in_newton_metres(path, arrays, form, key):
    np.savez(path, **spoilt(arrays(form), key, (7, 3), -12.0))
    message = refusal(path)
    assert "12" in message and "[-1, 1] of 34 Nm" in message


def test_goal_that_turns_within_a_segment(path, arrays):
    np.savez(path, **spoilt(arrays("perfect"), "states", (slice(5, 9), slice(34, 36)), (0.0, 1.0)))
    assert "turns" in refusal(path)


def test_arrow_that_is_no_rotation(path, arrays):
    np.savez(path, **spoilt(arrays("real"), "dir_arrow", slice(None), 0.0))
    assert "rotation" in refusal(path)
