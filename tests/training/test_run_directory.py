import json
import math
import os
from pathlib import Path

import pytest
import yaml

from qi_ext.training.config import make_config
from qi_ext.training.resume import find_start
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD, RunDirectory
from qi_ext.utils.errors import UserError


@pytest.fixture
def config(tmp_path):
    return make_config(results_dir=str(tmp_path / "runs" / "mine"), seed=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "mine" / "3"


def refusal(results_dir):
    """The message that a directory is refused with, which must be one line that names the option."""
    with pytest.raises(UserError) as caught:
        RunDirectory(Path(results_dir) / "3")
    message = str(caught.value)
    assert message.startswith("--results_dir: ")
    assert "\n" not in message
    return message


def contents(directory):
    return sorted(str(entry.relative_to(directory)) for entry in directory.rglob("*"))


def test_the_directory_is_named_for_the_seed_and_not_yet_created(config, path, tmp_path):
    assert find_start({"results_dir": config.run.results_dir, "seed": 3}).directory.path == path
    assert contents(tmp_path) == []


def test_create_writes_a_flat_config_that_can_be_read_again(config, path):
    path.mkdir(parents=True)  # an empty one is taken
    RunDirectory(path).create(config)
    assert contents(path) == ["config.yaml"]
    written = yaml.safe_load((path / "config.yaml").read_text())
    assert written == config.settings() == RunDirectory(path).config()
    assert make_config(**written) == config


def test_a_directory_with_something_in_it_is_refused_and_left_alone(config, path):
    path.mkdir(parents=True)
    (path / ".hidden").write_text("mine")
    with pytest.raises(UserError, match="^--results_dir: .* is not empty") as caught:
        find_start({"results_dir": config.run.results_dir, "seed": 3})
    assert str(path) in str(caught.value)
    assert contents(path) == [".hidden"]


@pytest.mark.parametrize("name", [".config.yaml.x1y2", TRIAL_LOG, TRIAL_RECORD])
def test_what_a_kill_or_a_sweep_leaves_is_nothing_of_the_run(path, name):
    path.mkdir(parents=True)
    (path / name).touch()
    assert not RunDirectory(path).occupied


@pytest.mark.parametrize("below", ["", "runs/deep"])
def test_a_file_in_the_way_is_refused_by_name(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refusal(tmp_path / "file" / below)
    assert contents(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["x" * 300, "b\udcff", "a\0b", "dangling", "dangling/0"])
def test_a_name_that_no_directory_can_have_is_refused_by_the_users_word(tmp_path, name):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="^--results_dir: .*(too long|characters that names|zero byte|is a link to)"):
        RunDirectory(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["dangling"]


def test_a_place_that_cannot_be_used_is_refused(tmp_path):
    # Permission bits do not stop root; in /proc nobody makes files.
    assert "cannot be written" in refusal("/proc/runs")
    assert RunDirectory("/proc/runs", to_write=False).read_result() is None
    assert "too long" in refusal(tmp_path / ("x" * 400))


def test_a_run_that_goes_on_has_no_result_until_it_ends(config, path):
    directory = RunDirectory(path)
    for _ in range(2):
        directory.create(config)
        assert directory.read_result() is None
        directory.write_result({"steps": 64, "length": None, "rows": [1.5]})
        assert directory.read_result() == json.loads((path / "result.json").read_text())
    assert directory.read_result() == {"steps": 64, "length": None, "rows": [1.5]}
    row = {"direction_deg": 0, "return_mean": 1.0, "falls": 0, "episodes": 1, "length_mean": 9, "velocity_error_mean": 0.1}
    older = {"steps": 64, "evaluation": {"deterministic": {"return_mean": 1.0, "directions": [row]}}}
    directory.write_result(older)
    assert directory.read_result() == older
    del row["direction_deg"]
    directory.write_result(older)
    assert directory.read_result() is None, "a row of no direction and no course"


def test_a_result_that_is_not_json_leaves_no_file(config, path):
    directory = RunDirectory(path)
    directory.create(config)
    with pytest.raises(ValueError, match="JSON"):
        directory.write_result({"return": math.nan})
    assert contents(path) == ["config.yaml"]


@pytest.mark.parametrize("content", [b"", b"[", b"\xff\xfe", b"3"])
def test_a_config_that_cannot_be_read_is_empty(config, path, content):
    directory = RunDirectory(path)
    directory.create(config)
    (path / "config.yaml").write_bytes(content)
    assert directory.config() == {}


def test_a_directory_that_another_process_has_is_refused_and_an_empty_one_goes_again(path):
    first, second = RunDirectory(path), RunDirectory(path)
    with first.lock(), pytest.raises(UserError, match="is running in another process$"), second.lock():
        pass
    assert not path.exists()
    with first.lock():
        (first.checkpoints.path / "64").mkdir(parents=True)
    with pytest.raises(UserError, match="has gone on in another process; try again$"), second.lock():
        pass


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, ""),
        ("seed: 0", ""),
        ("seed: 2020-01-01", "seed"),
        (f"seed: {'9' * 5000}", "a number has more than 300 digits"),
        ("[" * 1000, "nested deeper than 32 levels"),
        ("- 1", "valid dictionary"),
        ("FIFO", "FIFO"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_read_is_empty_and_says_why(tmp_path, content, fault):
    if content == "FIFO":
        os.mkfifo(tmp_path / "config.yaml")
    elif content is not None:
        (tmp_path / "config.yaml").write_text(content)
    directory = RunDirectory(tmp_path)
    assert bool(directory.config_fault()) == bool(fault) and fault in directory.config_fault()
    assert directory.config() == ({"seed": 0} if content == "seed: 0" else {})


@pytest.mark.parametrize(
    "content", ["[]", "5", "{}", '{"steps": "64"}', '{"steps": -1}', '{"steps": 64, "evaluation": {"a": 1}}']
)
def test_a_result_of_other_types_is_none(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    assert RunDirectory(tmp_path).read_result() is None
