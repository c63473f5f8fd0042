import csv
import sys
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qi_ext.training.config import make_config
from qi_ext.training.log import TAGS, ProgressLog
from qi_ext.training.run_directory import RunDirectory
from qi_ext.training.wandb_log import require_wandb
from qi_ext.utils.errors import UserError

FIGURES = {"return_mean": 1.5, "kl": 0.25}


@pytest.fixture
def open_log(tmp_path):
    """open_log(step=None, **settings): a `ProgressLog` in tmp_path, of a run that begins or goes on from `step`."""
    logs = []

    def make(step=None, **settings):
        logs.append(ProgressLog(RunDirectory(tmp_path), make_config(seed=7, **settings), step))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@pytest.fixture
def log(open_log):
    return open_log()


def events(directory):
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return accumulator


def rows(directory):
    with open(directory / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def steps(directory):
    """Of the rows, and of the events."""
    return [int(row["step"]) for row in rows(directory)], [event.step for event in events(directory).Scalars("train/approx_kl")]


def test_rows_are_on_disk_at_once(log, tmp_path):
    log.write(64, FIGURES)
    assert rows(tmp_path) == [{"step": "64", "return_mean": "1.5", "kl": "0.25"}]


def test_events_are_on_disk_at_once(log, tmp_path):
    """Or a run that is killed would lack, when it goes on, what its last checkpoint had seen."""
    for step in (64, 128, 192):
        log.write(step, FIGURES)
        assert steps(tmp_path)[1][-1] == step


def test_a_figure_that_is_not_there_is_empty(log, tmp_path):
    log.write(64, {"return_mean": None, "kl": 0.25})
    log.write(128, {"return_mean": 2.0, "kl": 0.5})
    assert [row["return_mean"] for row in rows(tmp_path)] == ["", "2.0"]
    log.close()
    assert [event.step for event in events(tmp_path).Scalars("rollout/ep_rew_mean")] == [128]


def test_each_figure_has_its_tag_and_the_rest_is_the_discriminators(log, tmp_path):
    log.write(64, dict.fromkeys(TAGS, 1.0) | {"logit_expert": 2.0})
    log.close()
    written = events(tmp_path)
    assert set(written.Tags()["scalars"]) == {*TAGS.values(), "discriminator/logit_expert"}
    (event,) = written.Scalars("discriminator/logit_expert")
    assert (event.step, event.value) == (64, 2.0)


def test_settings_are_among_the_events(log, tmp_path):
    log.close()
    written = events(tmp_path)
    (text,) = written.Tensors("config/text_summary")
    assert "| seed | 7 |" in text.tensor_proto.string_val[0].decode()


def test_final_figures_are_among_the_events(log, tmp_path):
    log.write_hyperparameters(64, {"deterministic": 12.5})
    log.close()
    (event,) = events(tmp_path).Scalars("final/deterministic")
    assert (event.step, event.value) == (64, 12.5)


def test_final_figures_of_a_run_that_was_made_longer_are_each_at_their_step(open_log, tmp_path):
    for step, before in ((64, None), (128, 64)):
        log = open_log(before)
        log.write(step, FIGURES)
        log.write_hyperparameters(step, {"deterministic": float(step)})
        log.close()
    assert [event.step for event in events(tmp_path).Scalars("final/deterministic")] == [64, 128]


@pytest.mark.parametrize("step", [0, 64, 128])
def test_a_run_that_goes_on_has_each_step_once_and_nothing_from_beyond(open_log, tmp_path, step):
    log = open_log()
    for each in (64, 128):
        log.write(each, FIGURES)
    log.close()
    again = open_log(step)
    assert [int(row["step"]) for row in again.rows] == steps(tmp_path)[0] == [each for each in (64, 128) if each <= step]
    for each in range(step + 64, 193, 64):
        again.write(each, FIGURES)
    assert steps(tmp_path) == ([64, 128, 192], [64, 128, 192])


def test_what_was_written_before_is_kept_to_the_letter(open_log, tmp_path):
    log = open_log()
    log.write(64, {"return_mean": None, "kl": 0.1 + 0.2})
    log.close()
    before = (tmp_path / "progress.csv").read_bytes()
    open_log(64)
    assert (tmp_path / "progress.csv").read_bytes() == before


@pytest.mark.parametrize("left", [1, 8, 15])
def test_a_row_that_was_cut_off_is_written_anew(open_log, tmp_path, left):
    """Wherever a kill or a full disk cut it."""
    log = open_log()
    log.write(64, FIGURES)
    first = (tmp_path / "progress.csv").read_bytes()
    log.write(128, FIGURES)
    log.close()
    path = tmp_path / "progress.csv"
    path.write_bytes(path.read_bytes()[: len(first) + left])
    again = open_log(64)
    assert path.read_bytes() == first
    again.write(128, FIGURES)
    assert steps(tmp_path)[0] == [64, 128]


def test_a_header_that_was_cut_off_is_written_anew(open_log, tmp_path):
    (tmp_path / "progress.csv").write_text("step,ret")
    open_log(0).write(64, FIGURES)
    assert steps(tmp_path)[0] == [64]


def test_a_run_that_starts_over_forgets_the_rows_and_events_of_before(open_log, tmp_path):
    log = open_log()
    log.write(64, FIGURES | {"kl": 9.0})
    log.close()
    open_log().write(64, FIGURES)
    assert steps(tmp_path) == ([64], [64])
    assert events(tmp_path).Scalars("train/approx_kl")[0].value == 0.25


def test_a_closed_log_leaves_the_hook_of_threads_as_it_was(open_log):
    before = threading.excepthook
    open_log().close()
    assert threading.excepthook is before


def test_wandb_that_is_not_installed_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="^--wandb: wandb is not installed; pip install wandb"):
        require_wandb(make_config(wandb="mine"))
    require_wandb(make_config())


@pytest.mark.extensive
def test_wandb_gets_every_figure_by_its_step(open_log, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = []
    for step, before in ((64, None), (128, 64)):
        log = open_log(before, wandb="mine")
        monkeypatch.setattr(log._wandb, "log", lambda row, real=log._wandb.log: (logged.append(row), real(row)))
        log.write(step, FIGURES)
        log.write_hyperparameters(step, {"deterministic": 12.5})
        log.close()
    assert logged == [{"rollout/ep_rew_mean": 1.5, "train/approx_kl": 0.25, "step": step} for step in (64, 128)]
    assert wandb.run is None
    runs = {path.stem.removeprefix("run-") for path in (tmp_path / "wandb").rglob("run-*.wandb")}
    assert len(runs) == 1, "it is the same run that goes on"


def test_wandb_that_cannot_be_had_is_refused_in_one_line_and_nothing_is_left(open_log, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(dir, **settings):
        (dir / "wandb").mkdir()
        raise wandb.Error("no API key:\n  call wandb login")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match='^--wandb: no API key: call wandb login; or --wandb "" to do without$'):
        open_log(wandb="mine")
    assert list(tmp_path.iterdir()) == []


def test_runs_of_the_same_name_are_told_apart_in_wandb(open_log, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    identities = []
    for _ in range(2):
        open_log(wandb="mine").close()
        identities.append((tmp_path / "wandb_id").read_text())
    assert identities[0] != identities[1]


def test_a_row_of_other_figures_than_those_before_is_refused(open_log, tmp_path):
    log = open_log()
    log.write(64, FIGURES)
    log.close()
    with pytest.raises(UserError, match="has other columns than this program writes; move it away, and resume$"):
        open_log(64).write(128, FIGURES | {"new": 1.0})
    assert steps(tmp_path)[0] == [64]


def test_a_file_that_is_no_progress_is_refused_and_left(open_log, tmp_path):
    (tmp_path / "progress.csv").write_text("name,price\nbread,2\n")
    with pytest.raises(UserError, match="progress.csv: is not a progress.csv of ours; move it away$"):
        open_log(64)
    assert "bread" in (tmp_path / "progress.csv").read_text()
