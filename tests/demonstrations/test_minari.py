"""Demonstrations written as Minari datasets and read from them, ours and those of Minari's own `DataCollector`."""

import importlib.util
import json
import subprocess
import sys
import types
from dataclasses import replace

import gymnasium
import h5py
import minari as library
import numpy as np
import pytest
from torch.utils import _pytree

from qi_ext.demonstrations import load_demonstrations, minari, npz, resolved_name
from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

# Minari warns of an author that is not given, and the like.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ID = "quadruped/test-v0"
ARRAYS = ("states", "actions", "executed_actions", "external_force", "initial_state", "bounds")


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """The folder of the datasets, empty."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def env():
    return gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", task="hard")


@pytest.fixture
def record(env, monkeypatch):
    """record(directions_deg, steps=30, **options): makes the dataset of the trot expert by Minari's `DataCollector`."""

    def make(directions_deg, steps=30, **options):
        collector = library.DataCollector(env, **options)
        quadruped = env.unwrapped.quadruped
        with monkeypatch.context() as patch:
            if importlib.util.find_spec("jax") is None:  # of which the collector uses one function
                jax = types.SimpleNamespace(tree_util=_pytree)
                patch.setitem(sys.modules, "jax", jax)
                patch.setitem(sys.modules, "jax.tree_util", _pytree)
            for direction in directions_deg:
                collector.reset(seed=0, options={"direction_deg": direction})
                controller = TrotController(quadruped.model, np.radians(direction), 0.5)
                controller.reset(quadruped.data)
                for _ in range(steps):
                    collector.step(controller.action(quadruped.data))
        return collector.create_dataset(ID)

    return make


def read(task="hard", speed=0.5, compat="task"):
    return load_demonstrations(f"minari:{ID}", task_commands(task, speed=speed), compat)


def refusal():
    """The message with which loading is refused: one line that names the dataset."""
    with pytest.raises(UserError) as raised:
        read()
    message = str(raised.value)
    assert "\n" not in message
    assert f"minari:{ID}" in message
    return message


# Ours


def test_demonstrations_are_read_as_they_were_written_to_the_last_bit(walking, env):
    random = np.random.default_rng(0)
    written = replace(walking((0.0, 90.0, 45.0), rows=20), kind=("push", "noise", "nominal"))
    written = replace(written, initial_state=random.normal(size=(3, 175))).with_commands(written.commands)
    minari.write(ID, written, env, "make it")
    for compat in ("task", "upstream"):
        found = read(compat=compat)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(found, name), getattr(written, name), err_msg=name)
        for name in ("commands", "kind", "source", "synthetic"):
            assert getattr(found, name) == getattr(written, name)
        assert found.content_hash() == written.content_hash()


def test_minari_loads_the_episodes_with_rewards_of_the_task_and_makes_its_environment(gliding, env):
    written = gliding((0.0, 90.0), rows=20)
    minari.write(ID, written, env, "make it")
    dataset = library.load_dataset(ID)
    assert (dataset.total_episodes, dataset.total_steps) == (2, 38)
    assert dataset.storage.metadata["description"] == "make it"
    episode = dataset[1]
    np.testing.assert_array_equal(episode.observations, written.states[20:])
    np.testing.assert_array_equal(episode.actions, written.executed_actions[20:-1])
    np.testing.assert_array_equal(episode.rewards, a1.environment_reward(written.states[20:-1]))
    assert not episode.terminations.any()
    assert np.flatnonzero(episode.truncations).tolist() == [18]
    assert episode.infos["direction_deg"].tolist() == [90.0] * 20
    recovered = dataset.recover_environment()
    assert recovered.spec.id == "QuadrupedDirection-v0"
    assert recovered.unwrapped.quadruped.commands == task_commands("hard")
    assert (dataset.observation_space, dataset.action_space) == (recovered.observation_space, recovered.action_space)


def test_combined_datasets_keep_the_labels_of_their_actions(walking, env):
    written = walking((0.0, 90.0), rows=30)
    for name in ("one-v0", "two-v0"):
        minari.write(name, written, env)
    library.combine_datasets([library.load_dataset(name) for name in ("one-v0", "two-v0")], "both-v0")
    both = load_demonstrations("minari:both-v0", task_commands("hard"))
    rows = np.concatenate([np.arange(29), np.arange(30, 59)])
    np.testing.assert_array_equal(both.actions, np.tile(written.actions[rows], (2, 1)))


def test_nothing_is_left_of_a_dataset_that_could_not_be_written_whole(gliding, env, datasets, monkeypatch):
    monkeypatch.setattr(library.MinariDataset, "__init__", lambda self, data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        minari.write(ID, gliding(), env)
    assert not (datasets / ID).exists()


# Of Minari's DataCollector


@pytest.mark.parametrize("options", [{}, {"record_infos": True}], ids=str)
def test_what_a_collector_records_is_read_by_step_under_the_tasks_commands(record, options):
    dataset = record((0.0, 90.0), **options)
    found = read()
    assert found.commands == (Command(0.0), Command(90.0))
    assert found.bounds.tolist() == [0, 30, 60]
    assert found.source == f"recorded: minari:{ID}"
    assert (found.kind, found.synthetic, found.executed_actions) == (("recorded",) * 2, False, None)
    np.testing.assert_array_equal(found.states[:30], dataset[0].observations[:-1])
    np.testing.assert_array_equal(found.actions[30:], dataset[1].actions)
    slower = read("simple", speed=0.4)
    np.testing.assert_array_equal(slower.states[:, a1.GOAL], np.tile([1.0, 0.0, 0.4], (30, 1)))


# Names


def test_a_name_is_that_of_the_dataset_wherever_it_is_used():
    assert resolved_name(f"minari:{ID}") == f"minari:{ID}"


@pytest.mark.parametrize("name", ["", "test", "../test-v0", "/tmp/test-v0", "test-v0/"])
def test_what_is_no_id_is_refused_with_an_example(name):
    with pytest.raises(UserError, match="is no id of a dataset, such as quadruped/trot-hard-v0"):
        load_demonstrations(f"minari:{name}", task_commands("hard"))


def test_a_dataset_that_is_not_there_is_refused_with_the_way_to_see_those_that_are(datasets):
    assert f"no such dataset in {datasets / 'quadruped'}; `minari list local`" in refusal()


def test_an_id_that_is_taken_is_refused_before_anything_is_recorded(gliding, env):
    minari.write(ID, gliding(), env)
    with pytest.raises(UserError, match=f"^--output: .*there already.*minari delete {ID}"):
        minari.require_new(ID, "--output")


@pytest.mark.parametrize("missing", ["minari", "h5py"])
def test_without_minari_it_says_how_to_install_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf'{missing} is not installed; pip install "minari\[hdf5\]"'):
        read()


# Datasets that cannot be learned from


def test_demonstrations_without_actions_are_refused(gliding, env):
    with pytest.raises(UserError, match=f"minari:{ID}: our format needs actions"):
        minari.write(ID, replace(gliding(), actions=None), env)


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        ({"observations": np.zeros((21, 17))}, "observations of episode 0 must have shape (21, 37), not (21, 17)"),
        ({"observations": {"state": np.zeros((21, 37))}}, "observations of episode 0 must have shape (21, 37), not a dict"),
        ({"observations": np.zeros((20, 37))}, "observations of episode 0 must have shape (21, 37), not (20, 37)"),
        ({"actions": np.zeros((20, 8))}, "actions of episode 0 must have shape (20, 12), not (20, 8)"),
        ({"rewards": np.zeros(1)}, "of at least 2 steps"),
        ({"actions": np.full((20, 12), b"word")}, "must hold numbers"),
        ({"observations": np.full((21, 37), np.nan)}, "states are not finite"),
        ({"actions": np.full((20, 12), 12.0)}, "actions reach 12, but must lie in [-1, 1]"),
    ],
)
def test_episodes_of_something_else_are_refused(gliding, env, faulty, said):
    states = gliding((0.0,), rows=21).states
    buffer = {"observations": states, "actions": np.zeros((20, 12)), "rewards": np.zeros(20)} | faulty
    flags = dict.fromkeys(("terminations", "truncations"), np.zeros(20, bool))
    spaces = {}
    if isinstance(buffer["observations"], dict):
        spaces["observation_space"] = gymnasium.spaces.Dict(state=env.observation_space)
    library.create_dataset_from_buffers(ID, [library.data_collector.EpisodeBuffer(**buffer, **flags)], env, **spaces)
    assert said in refusal()


def test_what_its_numbers_mean_is_checked_as_that_of_a_file_is(walking, env):
    high = walking((0.0,), rows=60)
    high.states[:, a1.TRUNK_Z] += 0.43
    minari.write(ID, high, env)
    assert "is the trunk's height absolute" in refusal()


def test_a_dataset_without_episodes_is_refused(record):
    record(())
    assert "must have episodes" in refusal()


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"<html>"])
def test_a_damaged_file_is_refused(gliding, env, datasets, content):
    minari.write(ID, gliding(), env)
    (datasets / ID / "data" / "main_data.hdf5").write_bytes(content)
    assert "cannot be read" in refusal()


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_damaged_metadata_are_refused(gliding, env, datasets, content):
    minari.write(ID, gliding(), env)
    (datasets / ID / "data" / "metadata.json").write_text(content)
    assert "cannot be read" in refusal()


def test_a_file_that_would_unpack_to_too_much_is_refused(gliding, env, datasets, monkeypatch):
    minari.write(ID, gliding(), env)
    file = datasets / ID / "data" / "main_data.hdf5"
    with h5py.File(file, "a") as archive:
        archive.create_dataset("episode_0/infos/bomb", (10**12,), np.float64, chunks=True)
    assert file.stat().st_size < npz.MAX_BYTES
    assert "more than the 2 GiB allowed" in refusal()


def linked(file):
    file["episode_0/infos/elsewhere"] = h5py.ExternalLink("/dev/zero", "/")


def in_another_file(file):
    file.create_dataset("episode_0/infos/raw", (9,), np.float64, external=[("/etc/passwd", 0, 72)])


def in_circles(file):
    file["episode_0/infos/all"] = file["/"]


def of_texts(file):
    file["episode_0/infos/texts"] = ["x"]


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (linked, "'elsewhere' is a link to elsewhere"),
        (in_another_file, "'raw' is no plain array in this file"),
        (in_circles, "deeper than 8 levels"),
        (of_texts, "'texts' is no plain array"),
    ],
)
def test_what_would_be_read_from_elsewhere_or_without_end_is_refused(gliding, env, datasets, add, said):
    minari.write(ID, gliding(), env)
    with h5py.File(datasets / ID / "data" / "main_data.hdf5", "a") as file:
        add(file)
    assert said in refusal()


BOX = {"type": "Box", "dtype": "float64", "shape": [37], "low": 0.0, "high": 1.0}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data_format": "arrow"}, "its data_format is not hdf5"),
        ({"total_episodes": 10**12}, "it has 2 episodes"),
        ({"observation_space": json.dumps(BOX | {"shape": [10**12]})}, "observation_space is of a shape"),
        ({"action_space": json.dumps({"type": "Tuple", "subspaces": [BOX | {"dtype": "U99999999"}]})}, "action_space is of"),
    ],
)
def test_metadata_that_say_more_than_there_is_are_refused(gliding, env, datasets, changed, said):
    minari.write(ID, gliding(), env)
    file = datasets / ID / "data" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    assert said in refusal()


def test_nothing_that_a_dataset_names_is_executed(walking, env, datasets, monkeypatch):
    minari.write(ID, walking(), env)
    started = []
    monkeypatch.setattr(subprocess, "getoutput", lambda **options: started.append(options))
    file = datasets / ID / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    spec = json.loads(metadata["env_spec"]) | {"entry_point": "subprocess:getoutput", "kwargs": {"cmd": "true"}}
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    read()
    del metadata["action_space"]
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    assert "metadata.json has no spaces" in refusal()
    assert started == []
