"""Checkpoints on disk: whole or not there, the right ones kept, the newest sound one found."""

import os
import pickle
import shutil

import numpy as np
import pytest

from qi_ext.training import checkpoints as module
from qi_ext.training.checkpoints import FILE, Checkpoint, Checkpoints
from qi_ext.training.episode_counter import EpisodeCounter
from qi_ext.utils.errors import UserError
from qi_ext.utils.tensor_file import _digest, read_safetensors, read_tensors, to_safetensors, write_tensors

CONFIG = {"task": "simple", "seed": 0}


class Part:
    """Something that is trained."""

    def __init__(self, **values):
        self.values = values

    def state(self):
        return self.values

    def load_state(self, state):
        if state.keys() != self.values.keys():
            raise ValueError("other names")
        self.values = state


def make(step, score=None, weight=0.5, **config):
    counter = EpisodeCounter()
    counter.steps = step
    parts = {"agent": Part(**{"critic/weight": np.full(3, weight)}), "episodes": counter}
    about = {"step": step, "score": score, "config": CONFIG | config, "seconds": 1.5, "demonstrations_hash": "abc"}
    return Checkpoint.of(parts, **about)


def save_agent(path):
    path.write_text("agent")


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path)


@pytest.fixture
def three(checkpoints):
    """Of steps 64, 128 and 192."""
    for step in (64, 128, 192):
        checkpoints.save(make(step), save_agent, keep=3)
    return checkpoints


def load_newest(checkpoints):
    """The step of the newest sound one, and what was said."""
    said = []
    return checkpoints.load_newest(say=said.append).step, said


def test_a_checkpoint_comes_back_as_it_was(checkpoints):
    checkpoints.save(make(64, 1.5), save_agent, keep=3)
    found = checkpoints.load_newest()
    assert found.model_dump(exclude={"states"}) == make(64, 1.5).model_dump(exclude={"states"})
    agent, episodes = Part(**{"critic/weight": None}), EpisodeCounter()
    found.load_into({"agent": agent, "episodes": episodes})
    np.testing.assert_array_equal(agent.values["critic/weight"], [0.5] * 3)
    assert episodes.steps == 64
    assert (checkpoints.directory(64) / "agent.safetensors").read_text() == "agent"


def test_a_file_from_before_there_were_parts_comes_back(checkpoints):
    counts = {"steps": 64, "episodes": 5, "blow_ups": 0}
    about = {"step": 64, "score": None, "config": CONFIG, "seconds": 1.5, "demonstrations_hash": "abc", "versions": "torch 1"}
    checkpoints.directory(64).mkdir(parents=True)
    arrays = {"agent/critic/weight": np.ones(3), "lanes/state": np.ones(2)}
    arrays |= {f"episodes/{name}": np.zeros((0, 3)) for name in ("first", "recent")}
    write_tensors(checkpoints.directory(64) / FILE, "checkpoint", arrays, about | {"counts": counts, "n_episodes": 5})
    states = checkpoints.load(64).states
    assert {part: set(state) for part, state in states.items()} == {
        "agent": {"critic/weight"},
        "lanes": {"state"},
        "episodes": {"first", "recent", *counts},
    }


def test_arrays_are_named_by_part_and_name(three):
    arrays, data = read_tensors(three.directory(64) / FILE, "checkpoint")
    assert set(arrays) == {"agent/critic/weight", "episodes/first", "episodes/recent"}
    assert data["parts"] == {"agent": {}, "episodes": {"steps": 64, "episodes": 0, "blow_ups": 0}}


def test_a_learner_that_has_diverged_is_not_saved():
    with pytest.raises(FloatingPointError, match="critic/weight not finite; the last checkpoint is good"):
        make(64, weight=np.nan)


@pytest.mark.parametrize(
    "parts",
    [{"agent": Part(**{"critic/weight": 0})}, {"agent": Part(other=0), "episodes": EpisodeCounter()}],
    ids=["unknown part", "other names"],
)
def test_states_of_other_parts_do_not_fit(parts):
    with pytest.raises(UserError, match="^--resume: the checkpoint of step 64 does not fit this program: "):
        make(64).load_into(parts)


def test_demonstrations_that_changed_are_refused_by_both_hashes():
    make(64).require_demonstrations("here.npz", "abc")
    with pytest.raises(UserError, match=r"^--demonstrations: here.npz has changed since the run began \(content x, then abc\)"):
        make(64).require_demonstrations("here.npz", "x")


@pytest.mark.parametrize(
    ("scores", "keep", "kept"),
    [
        ([None] * 6, 3, [192, 256, 320]),
        ([1.0, 9.0, 2.0, 3.0, 4.0, 5.0], 3, [64, 192, 256, 320]),
        ([None, 9.0, 8.0, 9.0, None, None], 1, [192, 320]),  # of two as good the later
    ],
)
def test_the_newest_and_the_best_are_kept(checkpoints, scores, keep, kept):
    for number, score in enumerate(scores):
        checkpoints.save(make(64 * number, score), save_agent, keep)
    assert checkpoints.steps() == kept


def test_the_best_of_before_is_kept_when_a_run_goes_on(checkpoints, tmp_path):
    for step, score in ((0, 9.0), (64, 1.0), (128, 2.0)):
        checkpoints.save(make(step, score), save_agent, keep=1)
    again = Checkpoints(tmp_path)
    again.load_newest()
    again.save(make(192, 3.0), save_agent, keep=1)
    assert (again.steps(), again.best()) == ([0, 192], 0)


def test_what_is_no_step_is_left_alone(three):
    (three.path / "notes").mkdir()
    (three.path / "777").touch()
    assert three.steps() == [64, 128, 192]
    three.save(make(256), save_agent, keep=1)
    assert {path.name for path in three.path.iterdir()} == {"256", "notes", "777"}
    assert three.best() is None


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before the agent", "between agent and checkpoint", "within the checkpoint"])
def test_one_that_was_not_written_to_its_end_is_passed_over(three, tmp_path, monkeypatch, moment):
    def kill(*arguments):
        raise Killed

    if moment == "between agent and checkpoint":
        monkeypatch.setattr(module, "write_tensors", kill)
    elif moment == "within the checkpoint":
        monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(Killed):
        three.save(make(256), kill if moment == "before the agent" else save_agent, keep=3)
    step, (line,) = load_newest(Checkpoints(tmp_path))
    assert step == 192
    assert str(three.directory(256) / FILE) in line


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "gone": lambda path: path.unlink(),
    "cut off": truncate,
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"a": [1, 2, 3]})),
    "of another kind": lambda path: write_tensors(path, "agent", {}, {}),
    "of another step": lambda path: shutil.copy(path.parents[1] / "64" / FILE, path),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "nothing in it": lambda path: write_tensors(path, "checkpoint", {}, {}),
    "a list": lambda path: write_tensors(path, "checkpoint", {}, [1]),
    "a score of text": lambda path: change(path, score="best"),
    "a config of text": lambda path: change(path, config="simple"),
    "a counter of text": lambda path: change_counter(path, episodes="7"),
    "a counter of another step": lambda path: change_counter(path, steps=191),
    "no counter": lambda path: change(path, parts={"agent": {}, "episodes": {"steps": 192}}),
    "episodes that are not finite": lambda path: change_arrays(path, **{"episodes/recent": np.full((2, 3), np.nan)}),
    "weights beyond all measure": lambda path: change_arrays(path, **{"agent/critic/weight": np.full(3, 1e30)}),
    "parts of text": lambda path: change(path, parts="all"),
    "weights that are not finite": lambda path: change_arrays(path, **{"agent/critic/weight": np.array([0.5, np.nan])}),
    "data that are no JSON": lambda path: rewrite(path, data="{"),
    "data that are nested deeply": lambda path: rewrite(path, data="[" * 100_000),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "no seconds": lambda path: change(path, seconds=None),
}


def change(path, **values):
    arrays, data = read_tensors(path, "checkpoint")
    write_tensors(path, "checkpoint", arrays, data | values)


def change_counter(path, **values):
    _, data = read_tensors(path, "checkpoint")
    change(path, parts={"agent": {}, "episodes": data["parts"]["episodes"] | values})


def change_arrays(path, **changed):
    arrays, data = read_tensors(path, "checkpoint")
    write_tensors(path, "checkpoint", arrays | changed, data)


def rewrite(path, **changed):
    """Change the header of a file, and let its digest fit."""
    arrays, header = read_safetensors(path)
    header = {name: text for name, text in header.items() if name != "digest"} | changed
    path.write_bytes(to_safetensors(arrays, header | {"digest": _digest(header, arrays)}))


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_one_that_is_not_sound_is_named_and_passed_over(three, tmp_path, damage):
    path = three.directory(192) / FILE
    damage(path)
    step, (line,) = load_newest(Checkpoints(tmp_path))
    assert step == 128
    assert line.startswith(f"passed over: {path}: ")
    assert "\n" not in line


def test_only_those_after_the_one_that_is_found_are_spoken_of(three, tmp_path):
    for step in (64, 192):
        truncate(three.directory(step) / FILE)
    step, said = load_newest(Checkpoints(tmp_path))
    assert (step, len(said)) == (128, 1)


def test_one_of_another_run_is_passed_over_with_the_reason(three, tmp_path):
    three.save(make(256, task="hard"), save_agent, keep=4)
    said = []
    found = Checkpoints(tmp_path).load_newest(lambda config: "task hard" if config["task"] == "hard" else None, said.append)
    assert found.step == 192
    assert said == [f"passed over: {three.directory(256) / FILE}: of another run: task hard"]


def test_where_none_is_sound_a_few_are_named_in_one_line_and_nothing_is_lost(checkpoints, tmp_path):
    for step in range(64, 384, 64):
        checkpoints.save(make(step), save_agent, keep=10)
        truncate(checkpoints.directory(step) / FILE)
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(UserError) as caught:
        load_newest(Checkpoints(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert [str(checkpoints.directory(step) / FILE) in message for step in checkpoints.steps()] == [False] * 2 + [True] * 3
    assert message.endswith("; and 2 older ones")
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before


def test_where_there_is_none_that_is_said(checkpoints):
    with pytest.raises(UserError, match="^--resume: no checkpoint to go on from: .*/checkpoints holds none$"):
        checkpoints.load_newest()


def test_those_passed_over_are_renamed_and_never_overwritten(three):
    for _ in range(2):
        three.rename_after(128)
        three.save(make(192), save_agent, keep=3)
    assert {path.name for path in three.path.iterdir()} == {"64", "128", "192", "192.passed_over", "192.passed_over1"}
    assert three.steps() == [64, 128, 192]


def test_a_checkpoint_is_complete_once_its_file_is_there(checkpoints):
    checkpoints.directory(0).mkdir(parents=True)
    save_agent(checkpoints.directory(0) / "agent.safetensors")
    assert not checkpoints.any_complete()
    (checkpoints.directory(0) / FILE).touch()
    assert checkpoints.any_complete()
