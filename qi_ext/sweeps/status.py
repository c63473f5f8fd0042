"""The state of each trial of a sweep, by the files that it has left and by what Slurm answers."""

import re
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import psutil
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict  # of typing, pydantic takes none before Python 3.12

from qi_ext.sweeps.description import Trial
from qi_ext.sweeps.slurm_files import job_file, script_file, slurm_directories
from qi_ext.sweeps.trial_process import ATTEMPT, STOPPED, how_it_ended
from qi_ext.training.progress_file import read_progress
from qi_ext.training.result import Seconds  # here, since 1970
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD, RunDirectory
from qi_ext.utils import slurm
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import read_json, read_text

STATES = ("done", "running", "waiting", "failed", "not begun", "unknown")
UPDATES = 20  # over which the speed is measured


class Record(TypedDict):
    """Content of trial.json, as `trial_process.experiment` writes it. ended, exit_code: None while the run goes on."""

    __pydantic_config__ = ConfigDict(extra="allow")

    started: Seconds
    ended: Seconds | None
    exit_code: Annotated[int, Field(ge=-128, le=255)] | None
    host: Annotated[str, Field(max_length=255)]
    pid: Annotated[int, Field(ge=1, le=2**31 - 1)] | None
    slurm_job: Annotated[str, Field(max_length=50)]
    progressed: bool


def _ended_with_a_code(record: Record) -> Record:
    if (record["ended"] is None) != (record["exit_code"] is None):
        raise ValueError("ended and exit_code go together")
    return record


_RECORD = TypeAdapter(Annotated[Record, AfterValidator(_ended_with_a_code)])


@dataclass(frozen=True)
class Status:
    """State of one trial.

    state: one of STATES. steps: trained, of n_steps. seconds_left: of training, None where it is not known. result: content of
    result.json where the trial is done. reason: in a few words, why it failed, waits or is not known. lines: the last that it
    printed.
    """

    trial: Trial
    state: str
    steps: int = 0
    n_steps: int = 0
    seconds_left: float | None = None
    result: dict | None = None
    reason: str = ""
    lines: tuple = ()

    def mean_return(self):
        """Mean return of the evaluation at the end of the run, deterministic; None where there was none."""
        return (self.result or {}).get("evaluation", {}).get("deterministic", {}).get("return_mean")


def statuses(sweep, running_here=False):
    """Return the `Status` of each trial. running_here: whether a process runs the sweep on this machine.

    Slurm is asked only where a trial that it was given is not done; where it does not answer, the state is unknown.
    """
    found = [_status_by_files(trial) for trial in sweep.trials]
    given_to_slurm = [each.state != "done" and script_file(sweep, each.trial).exists() for each in found]
    jobs, unanswered = [], ""
    try:
        jobs = slurm.own_jobs() if any(given_to_slurm) else []
    except UserError as error:
        unanswered = str(error)
    for i, is_job in enumerate(given_to_slurm):
        if is_job and unanswered:
            found[i] = replace(found[i], state="unknown", seconds_left=None, reason=unanswered)
        else:
            found[i] = _status_of_job(sweep, found[i], jobs) if is_job else _status_of_process(found[i], running_here)
    return found


def count(found):
    """Words for how many `Status` are in which state."""
    states = Counter(each.state for each in found)
    return f"{len(found)} trials: " + ", ".join(f"{states[state]} {state}" for state in STATES if states[state])


def read_record(trial):
    """Return the content of a trial.json, None where there is none that can be read."""
    with suppress(UserError):
        return read_json(trial.directory / TRIAL_RECORD, _RECORD)
    return None


def _status_by_files(trial):
    """Return done or not begun, as far as the files of the run alone tell."""
    config, result = trial.config, RunDirectory(trial.directory, to_write=False).read_result()
    if result is not None and (config.run.minutes or result.get("steps", 0) >= config.run.n_steps):
        return Status(trial, "done", result["steps"], config.run.n_steps, result=result)
    progress = {}
    with suppress(UserError):
        progress = read_progress(trial.directory / "progress.csv")
    steps = max((int(step) for step in progress.get("step", ()) if np.isfinite(step)), default=0)
    speeds = progress.get("steps_per_second", np.empty(0))[-UPDATES:]
    seconds_left = None
    # Where `minutes` are given, they or the steps end the run.
    if not config.run.minutes and speeds.size and speeds.mean() > 0.0:
        seconds_left = max(0, config.run.n_steps - steps) / float(speeds.mean())
    return Status(trial, "not begun", steps, config.run.n_steps, seconds_left)


def _status_of_process(status, running_here):
    """Return the status of a trial that Slurm was not given."""
    if status.state == "done":
        return status
    trial, record = status.trial, read_record(status.trial)
    if record is None:
        return replace(status, state="waiting" if running_here else "not begun", seconds_left=None)
    if _process_runs(record):
        return replace(status, state="running", reason=f"{record['host']}, process {record['pid']}")
    if record["ended"] is None and record["host"] != socket.gethostname():
        reason = f"{record['host']} began it and does not say; look there, or remove its {TRIAL_RECORD} where it runs no more"
        return replace(status, state="unknown", seconds_left=None, reason=reason)
    return _failed(status, how_it_ended(record) if record["ended"] is not None else "killed", _last_lines(trial))


def _status_of_job(sweep, status, jobs):
    """Return the status of a trial that is not done, and was given to Slurm. jobs: those of `slurm.own_jobs`."""
    trial, record, started = status.trial, read_record(status.trial), _started_job(sweep, status.trial)
    number = started.split()[0] if started else ""
    script = str(script_file(sweep, trial))
    # By number as well, because a job's script may have been submitted by another name of its directory.
    job = next((each for each in jobs if each.script == script or each.number == number), None)
    if job is not None and job.state not in ("RUNNING", "COMPLETING"):
        reason = f"job {job.number}: {job.state.lower()}, {job.reason}"
        return replace(status, state="waiting", seconds_left=None, reason=reason)
    if job is not None:
        return replace(status, state="running", reason=f"job {job.number}")
    if not started:
        return _failed(status, "its job never started: it was refused, cancelled, or could not begin on its node")
    printed = slurm.printed(slurm_directories(sweep.directory)[1], number)
    if record is None or record["slurm_job"] != started:
        return _failed(status, f"job {number} ended before the run began", printed)
    own, state = _last_lines(trial), slurm.last_state(number)
    if record["ended"] is None:
        return _failed(status, f"killed with its job, {number} {state}".strip(), [*own, *printed])
    reason, code = how_it_ended(record), record["exit_code"]
    if code >= 0 and code not in STOPPED:
        return _failed(status, reason, own)
    # Slurm may know why: out of memory, a time limit, a job that it did not queue again.
    return _failed(status, f"{reason}; job {number} {state}".strip(), [*own, *printed])


def _failed(status, reason, lines=()):
    """Return failed, unless the run has come to its end since its files were looked at."""
    now = _status_by_files(status.trial)
    return now if now.state == "done" else replace(now, state="failed", seconds_left=None, reason=reason, lines=tuple(lines))


def _started_job(sweep, trial):
    """Return what the job of a trial wrote when it started; "" where none has."""
    with suppress(UserError):
        started = read_text(job_file(sweep, trial)).strip()
        return started if re.fullmatch(r"[0-9_]{1,40}( [0-9]{1,10})?", started) else ""
    return ""


def _last_lines(trial):
    return slurm.last_lines(trial.directory / TRIAL_LOG, since=ATTEMPT)


def _process_runs(record):
    """Return whether the process of a record runs on this machine."""
    if record["ended"] is not None or record["pid"] is None or record["host"] != socket.gethostname():
        return False
    with suppress(psutil.Error):
        # Another process may have the number by now.
        return abs(psutil.Process(record["pid"]).create_time() - record["started"]) < 60.0
    return False
