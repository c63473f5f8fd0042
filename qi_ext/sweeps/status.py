"""What has become of each trial of a sweep, by what is on disk and what Slurm says."""

import csv
import json
import socket
import statistics
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import psutil

from qi_ext import slurm
from qi_ext.sweeps.description import Trial
from qi_ext.sweeps.experiment import BEGINNING, how_it_ended
from qi_ext.sweeps.launching import job_file, script_file, slurm_directories
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD, RunDirectory

STATES = ("done", "running", "waiting", "failed", "not begun")
UPDATES = 20  # over which the speed is measured
RECORDED = {"started", "ended", "exit_code", "host", "pid", "slurm_job"}  # in a trial.json


@dataclass(frozen=True)
class Status:
    """Of one trial. state: one of STATES. steps: trained, of n_steps. seconds_left: of training, None where it is not known.

    result: of result.json, where it is done. reason: in a few words, why it failed, or waits. lines: the last it printed.
    """

    trial: Trial
    state: str
    steps: int = 0
    n_steps: int = 0
    seconds_left: float | None = None
    result: dict | None = None
    reason: str = ""
    lines: tuple = ()

    def mean_return(self, policy="deterministic"):
        """Of the evaluation at its end; None where there was none."""
        evaluation = (self.result or {}).get("evaluation", {})
        return evaluation[policy]["return_mean"] if policy in evaluation else None


def statuses(sweep, running_here=False):
    """The `Status` of each trial. running_here: whether a process runs the sweep on this machine. Raises UserError."""
    handed_over = any(script_file(sweep, trial).exists() for trial in sweep.trials)
    jobs = slurm.own_jobs() if handed_over else {}
    return [_status(sweep, trial, jobs.get(str(script_file(sweep, trial))), running_here) for trial in sweep.trials]


def count(found):
    """How many are in which state, in words."""
    states = Counter(each.state for each in found)
    return f"{len(found)} trials: " + ", ".join(f"{states[state]} {state}" for state in STATES if states[state])


def _status(sweep, trial, job, running_here):
    directory = RunDirectory(trial.directory)
    config, result = trial.config, directory.read_result()
    if _is_done(result, config):
        return Status(trial, "done", result["steps"], config.n_steps, result=result)
    rows = _rows(trial)
    steps = int(rows[-1]["step"]) if rows else 0
    progress = {"steps": steps, "n_steps": config.n_steps}
    record = _record(trial)
    if job is not None and job.state not in ("RUNNING", "COMPLETING"):
        return Status(trial, "waiting", **progress, reason=f"job {job.number}: {job.state.lower()}, {job.reason}")
    if job is not None or _runs(record):
        where = f"job {job.number}" if job else f"{record['host']}, process {record['pid']}"
        return Status(trial, "running", **progress, seconds_left=_seconds_left(rows, steps, config), reason=where)
    if record is None and running_here:
        return Status(trial, "waiting", **progress)
    reason, lines = _failure(sweep, trial, record)
    return Status(trial, "failed" if reason else "not begun", **progress, reason=reason, lines=tuple(lines))


def _is_done(result, config):
    if result is None:
        return False
    return bool(config.minutes) or result.get("steps", 0) >= config.n_steps


def _rows(trial):
    """The last rows of progress.csv."""
    with suppress(OSError, csv.Error), open(trial.directory / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))[-UPDATES:]
        if all((row.get("step") or "").isdigit() for row in rows):
            return rows
    return []


def _seconds_left(rows, steps, config):
    with suppress(KeyError, ValueError, ZeroDivisionError, statistics.StatisticsError):
        per_second = statistics.mean(float(row["steps_per_second"]) for row in rows)
        return max(0, config.n_steps - steps) / per_second
    return None


def _record(trial):
    """What trial.json holds, or None where there is none that can be read."""
    with suppress(OSError, ValueError):
        record = json.loads((trial.directory / TRIAL_RECORD).read_text())
        if isinstance(record, dict) and record.keys() >= RECORDED:
            return record
    return None


def _runs(record):
    """Whether the process of a record runs, outside of Slurm, on this machine."""
    if record is None or record["ended"] is not None or record["slurm_job"] or record["host"] != socket.gethostname():
        return False
    with suppress(psutil.Error):
        # Another process may have the number by now.
        return abs(psutil.Process(record["pid"]).create_time() - record["started"]) < 60.0
    return False


def _failure(sweep, trial, record):
    """(why, last lines) of a trial that neither is done nor will be; ("", []) of one that was never begun."""
    own = slurm.last_lines(trial.directory / TRIAL_LOG, since=BEGINNING)
    if not script_file(sweep, trial).exists():  # it was begun here, if at all
        if record is None:
            return "", []
        return "killed" if record["ended"] is None else how_it_ended(record["exit_code"]), own
    job = job_file(sweep, trial)
    if not job.exists():
        return "its job never started: it was refused or cancelled", []
    number = job.read_text().strip()
    printed = slurm.printed(slurm_directories(sweep.directory)[1], number)
    if record is None or record["slurm_job"] != number:
        return f"job {number} ended before the run began", printed
    if record["ended"] is None:
        return f"killed with its job, {number} {slurm.last_state(number)}".strip(), [*own, *printed]
    return how_it_ended(record["exit_code"]), own
