"""The state of each trial, told by files that are really there, without Slurm."""

import json
import os
import socket

import psutil
import pytest

from qi_ext.sweeps.commands import SWEEP_FILE, retry
from qi_ext.sweeps.description import read_sweep
from qi_ext.sweeps.slurm_files import job_file, script_file
from qi_ext.sweeps.status import count, statuses
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD
from qi_ext.utils.errors import UserError

ENDED = {"started": 1.0, "ended": 2.0, "exit_code": 1, "host": socket.gethostname(), "pid": 1}
ENDED |= {"slurm_job": "", "progressed": True}


@pytest.fixture
def sweep(tmp_path):
    """A sweep of two trials, of which nothing is there."""
    (tmp_path / SWEEP_FILE).write_text("fixed: {n_steps: 128}\nseeds: 2")
    return read_sweep(tmp_path / SWEEP_FILE, tmp_path)


@pytest.fixture
def without_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "")


def record(trial, **changed):
    trial.directory.mkdir(parents=True, exist_ok=True)
    (trial.directory / TRIAL_RECORD).write_text(json.dumps(ENDED | changed))


def finish(trial, steps=128):
    trial.directory.mkdir(parents=True, exist_ok=True)
    (trial.directory / "result.json").write_text(json.dumps({"steps": steps}))


def give_to_slurm(sweep, trial):
    script_file(sweep, trial).parent.mkdir(exist_ok=True)
    script_file(sweep, trial).write_text("#!/bin/sh\n")


def test_what_was_never_begun_waits_only_where_the_sweep_runs(sweep):
    assert [each.state for each in statuses(sweep)] == ["not begun"] * 2
    assert [each.state for each in statuses(sweep, running_here=True)] == ["waiting"] * 2


def test_a_result_of_fewer_steps_than_are_asked_for_is_not_the_end(sweep):
    first, second = sweep.trials
    finish(first, steps=64)
    finish(second)
    assert [each.state for each in statuses(sweep)] == ["not begun", "done"]


def test_the_time_that_is_left_is_that_of_the_last_updates(sweep):
    first, _ = sweep.trials
    record(first, started=psutil.Process().create_time(), ended=None, exit_code=None, pid=os.getpid())
    # The last line is not yet whole.
    (first.directory / "progress.csv").write_text("step,steps_per_second\n32,2\n64,6\n12")
    status = statuses(sweep)[0]
    assert (status.state, status.steps, status.n_steps, status.seconds_left) == ("running", 64, 128, 16.0)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "ended with exit code 1"),
        ({"exit_code": 0}, "ended without a result"),
        ({"exit_code": -9}, "killed by SIGKILL"),
        ({"exit_code": 143}, "stopped by SIGTERM, and saved"),
        ({"exit_code": 130, "progressed": False}, "stopped by SIGINT before it came any further"),
        ({"ended": None, "exit_code": None}, "killed"),
    ],
)
def test_how_a_process_ended_is_said_with_its_last_lines(sweep, changed, reason):
    first, _ = sweep.trials
    record(first, **changed)
    (first.directory / TRIAL_LOG).write_text("== then\nof then\n== now\nit went wrong\n")
    status = statuses(sweep)[0]
    assert (status.state, status.reason, status.lines) == ("failed", reason, ("it went wrong",))


@pytest.mark.parametrize(
    "changed",
    [{"pid": "text"}, {"pid": 10**30}, {"host": 5}, {"ended": None}, {"exit_code": "x"}, {"started": "x"}, {"slurm_job": []}],
    ids=str,
)
def test_a_record_that_is_none_blocks_nothing(sweep, changed):
    first, second = sweep.trials
    record(first, **changed)
    finish(second)
    assert [each.state for each in statuses(sweep)] == ["not begun", "done"]


def test_what_may_still_run_on_another_machine_is_not_begun_again_here(sweep):
    first, second = sweep.trials
    record(first, ended=None, exit_code=None, host="elsewhere")
    finish(second)
    status = statuses(sweep)[0]
    assert status.state == "unknown"
    assert "elsewhere" in status.reason
    with pytest.raises(UserError, match="whether it runs is not known: elsewhere began it"):
        retry(sweep.directory, on_slurm=False)
    (first.directory / TRIAL_RECORD).unlink()
    assert statuses(sweep)[0].state == "not begun"


def test_a_process_that_runs_is_seen_in_an_allocation_too(sweep):
    first, _ = sweep.trials
    began = psutil.Process().create_time()
    record(first, started=began, ended=None, exit_code=None, pid=os.getpid(), slurm_job="7 0")
    assert [each.state for each in statuses(sweep)] == ["running", "not begun"]


@pytest.mark.usefixtures("without_slurm")
def test_what_slurm_alone_knows_is_unknown_where_it_does_not_answer(sweep):
    first, second = sweep.trials
    give_to_slurm(sweep, first)
    give_to_slurm(sweep, second)
    finish(second)
    found = statuses(sweep)
    assert [each.state for each in found] == ["unknown", "done"]
    assert "squeue" in found[0].reason
    assert count(found) == "2 trials: 1 done, 1 unknown"
    with pytest.raises(UserError, match="whether it runs is not known"):
        retry(sweep.directory, on_slurm=False)
    finish(first)  # now there is nothing to ask
    assert [each.state for each in statuses(sweep)] == ["done"] * 2


def test_a_trial_keeps_its_files_when_the_sweep_grows(sweep):
    before = {trial.directory: (script_file(sweep, trial), job_file(sweep, trial)) for trial in sweep.trials}
    (sweep.directory / SWEEP_FILE).write_text("fixed: {n_steps: 128}\nseeds: [7, 1, 0]")
    grown = read_sweep(sweep.directory / SWEEP_FILE, sweep.directory)
    after = {trial.directory: (script_file(grown, trial), job_file(grown, trial)) for trial in grown.trials}
    assert len(set(after.values())) == 3
    assert after.items() > before.items()
