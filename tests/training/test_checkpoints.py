"""Checkpoints on disk: whole or not there, the right ones kept, the newest sound one found."""

import os
import pickle
import shutil

import numpy as np
import pytest

from qi_ext.training import checkpoints as module
from qi_ext.training.checkpoints import FILE, Checkpoint, Checkpoints
from qi_ext.utils.errors import UserError
from qi_ext.utils.tensor_file import write_tensors

CONFIG = {"task": "simple", "seed": 0}


def make(step, score=None, **config):
    """A checkpoint whose array says which it is."""
    return Checkpoint(step, {"a": np.full(3, float(step))}, {"step": step, "score": score, "config": CONFIG | config})


def save_agent(path):
    path.write_text("agent")


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path)


@pytest.fixture
def three(checkpoints):
    """Of steps 64, 128 and 192."""
    for step in (64, 128, 192):
        checkpoints.write(make(step), save_agent, keep=3)
    return checkpoints


def newest(checkpoints):
    """The step of the newest, and what was said."""
    said = []
    return checkpoints.newest(say=said.append).step, said


def test_a_checkpoint_comes_back_as_it_was(checkpoints):
    checkpoints.write(make(64, 1.5), save_agent, keep=3)
    found = checkpoints.newest()
    assert (found.step, found.data, found.config) == (64, make(64, 1.5).data, CONFIG)
    np.testing.assert_array_equal(found.arrays["a"], [64.0] * 3)
    assert (checkpoints.directory(64) / "agent.safetensors").read_text() == "agent"


@pytest.mark.parametrize(
    ("scores", "keep", "kept"),
    [
        ([None] * 6, 3, [192, 256, 320]),
        ([1.0, 9.0, 2.0, 3.0, 4.0, 5.0], 3, [64, 192, 256, 320]),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, [256, 320]),
        ([None, 9.0, 8.0, 9.0, None, None], 1, [192, 320]),  # of two as good the later
        ([-9.0, -1.0, -2.0, None, None, None], 1, [64, 320]),
    ],
)
def test_the_newest_and_the_best_are_kept(checkpoints, scores, keep, kept):
    for number, score in enumerate(scores):
        checkpoints.write(make(64 * number, score), save_agent, keep)
    assert checkpoints.steps() == kept


def test_the_best_of_before_is_kept_when_a_run_goes_on(checkpoints, tmp_path):
    for step, score in ((0, 9.0), (64, 1.0), (128, 2.0)):
        checkpoints.write(make(step, score), save_agent, keep=1)
    again = Checkpoints(tmp_path)
    again.newest()
    for step in (192, 256):
        again.write(make(step, 3.0), save_agent, keep=1)
    assert again.steps() == [0, 256]
    assert again.best() == 0


def test_without_scores_there_is_no_best(three):
    assert three.best() is None


def test_what_is_no_step_is_left_alone(three):
    (three.path / "notes").mkdir()
    (three.path / "777").touch()
    assert three.steps() == [64, 128, 192]
    three.write(make(256), save_agent, keep=1)
    assert {path.name for path in three.path.iterdir()} == {"256", "notes", "777"}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before the agent", "between agent and checkpoint", "within the checkpoint"])
def test_one_that_was_not_written_to_its_end_is_passed_over(three, tmp_path, monkeypatch, moment):
    def kill(*arguments):
        raise Killed

    def save(path):
        if moment == "before the agent":
            kill()
        save_agent(path)

    if moment == "between agent and checkpoint":
        monkeypatch.setattr(module, "write_tensors", kill)
    elif moment == "within the checkpoint":
        monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(Killed):
        three.write(make(256), save, keep=3)
    step, said = newest(Checkpoints(tmp_path))
    assert step == 192
    (line,) = said
    assert str(three.directory(256) / FILE) in line


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def pickled(path):
    path.write_bytes(pickle.dumps({"a": [1, 2, 3]}))


DAMAGE = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": truncate,
    "flipped": flip_a_bit,
    "a pickle": pickled,
    "of another kind": lambda path: write_tensors(path, "agent", {}, {}),
    "of another step": lambda path: shutil.copy(path.parents[1] / "64" / FILE, path),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_one_that_is_not_sound_is_named_and_passed_over(three, tmp_path, damage):
    path = three.directory(192) / FILE
    damage(path)
    step, said = newest(Checkpoints(tmp_path))
    assert step == 128
    (line,) = said
    assert line.startswith(f"passed over: {path}: ")
    assert "\n" not in line


def test_only_those_after_the_one_that_is_found_are_spoken_of(three, tmp_path):
    for step in (64, 192):
        truncate(three.directory(step) / FILE)
    step, said = newest(Checkpoints(tmp_path))
    assert (step, len(said)) == (128, 1)


def test_one_of_another_run_is_passed_over_with_the_reason(three, tmp_path):
    three.write(make(256, task="hard"), save_agent, keep=4)
    said = []
    found = Checkpoints(tmp_path).newest(lambda config: "task hard" if config["task"] == "hard" else None, said.append)
    assert found.step == 192
    assert said == [f"passed over: {three.directory(256) / FILE}: of another run: task hard"]


def test_where_none_is_sound_all_are_named_in_one_line_and_nothing_is_lost(three, tmp_path):
    for step in three.steps():
        truncate(three.directory(step) / FILE)
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(UserError) as caught:
        newest(Checkpoints(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    for step in (64, 128, 192):
        assert str(three.directory(step) / FILE) in message
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before


def test_of_many_of_another_run_a_few_are_named(checkpoints):
    for step in range(64, 704, 64):
        checkpoints.write(make(step), save_agent, keep=10)
    with pytest.raises(UserError) as caught:
        checkpoints.newest(foreign=lambda config: "of a stranger")
    message = str(caught.value)
    assert message.count("of a stranger") == 3
    assert message.endswith("; and 7 older ones")
    assert str(checkpoints.directory(640) / FILE) in message


def test_where_there_is_none_that_is_said(checkpoints):
    with pytest.raises(UserError, match="^--resume: no checkpoint to go on from: .*/checkpoints holds none$"):
        checkpoints.newest()


def test_those_passed_over_are_set_aside_and_never_overwritten(three):
    for _ in range(3):
        three.set_aside(after=128)
        three.write(make(192), save_agent, keep=3)
    assert {path.name for path in three.path.iterdir()} == {
        *("64", "128", "192"),
        *("192.passed_over", "192.passed_over1", "192.passed_over2"),
    }
    assert three.steps() == [64, 128, 192]


@pytest.mark.parametrize("left", ["nothing", "an agent", "a file cut off"])
def test_only_a_file_in_its_place_was_written_to_its_end(checkpoints, left):
    assert not checkpoints.any_written()
    checkpoints.directory(0).mkdir(parents=True)
    if left == "an agent":
        save_agent(checkpoints.directory(0) / "agent.safetensors")
    if left == "a file cut off":
        (checkpoints.directory(0) / FILE).touch()  # not by us: what we write comes whole
    assert checkpoints.any_written() == (left == "a file cut off")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [1],
        {},
        {"step": 64, "score": None},
        {"step": 64, "config": CONFIG},
        {"step": 64, "score": "best", "config": CONFIG},
        {"step": 64, "score": None, "config": "simple"},
        {"step": 65, "score": None, "config": CONFIG},
        {"score": None, "config": CONFIG},
    ],
)
def test_a_sound_file_that_says_something_else_than_a_checkpoint_is_passed_over(three, data):
    path = three.directory(192) / FILE
    write_tensors(path, "checkpoint", {}, data)
    step, (reason,) = newest(three)
    assert step == 128
    assert str(path) in reason
    assert "\n" not in reason
