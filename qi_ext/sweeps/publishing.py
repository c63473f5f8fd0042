"""Publishing of trials: train and evaluate them, and copy curve and result to results/NAME/SEED."""

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from qi_ext.demonstrations import resolved_name
from qi_ext.robot.courses import COURSES
from qi_ext.sampling.pool import available_cpus
from qi_ext.sweeps import commands
from qi_ext.sweeps.description import read_sweep
from qi_ext.sweeps.made_with import ROOT, note_made_with
from qi_ext.sweeps.published_result import EVALUATION, agent_path, evaluation_command, learning_settings, published_result
from qi_ext.sweeps.schemas import EVALUATED, MADE_WITH
from qi_ext.sweeps.status import read_record, statuses
from qi_ext.sweeps.trial_process import REFUSED
from qi_ext.training.config import require_sound, with_later_settings
from qi_ext.training.run_directory import MAX_RESULT, RunDirectory, write_json
from qi_ext.utils.display import say
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole
from qi_ext.utils.reading import read_json
from qi_ext.utils.signals import STOPS, Signals, stopped_by

FILE = "experiments.yaml"


def read_published(folder, directory):
    """Return the `Sweep` of `folder`/experiments.yaml, to be in `directory`, as it is published. Raises UserError.

    Each run has the whole machine, because its minutes are published, and is evaluated by a command of its own.
    """
    path = Path(folder, FILE)
    sweep = read_sweep(path, directory)
    for trial in sweep.trials:
        if trial.publication is None:
            raise UserError(f"{path}: trial {trial.index} ({trial.configuration}): needs `name`, and `what` for the tables")
    trials = tuple(replace(trial, fixed=trial.fixed | {"evaluation_episodes": 0}) for trial in sweep.trials)
    return replace(sweep, trials=trials, resources=replace(sweep.resources, cores=available_cpus()))


def require_trained_beside(trials):
    """Raise UserError unless each agent that one of these is evaluated beside is trained, or is one of them."""
    directories = {trial.directory for trial in trials}
    for trial in trials:
        beside = trial.publication.beside
        other = trial.results_dir.with_name(beside) / str(trial.seed) if beside else None
        if beside and other not in directories and not (other / "result.json").exists():
            raise UserError(f"{trial.name}: is evaluated beside {beside}, seed {trial.seed}, which is to be run first")


def run_and_publish(sweep, trial, folder):
    """Train and evaluate a trial of a sweep as far as that is not done, then publish it in `folder`/NAME/SEED.

    Raises UserError where what was asked cannot be done, or the directory holds another run; OSError where a launcher did not
    end well; KeyboardInterrupt or Terminated where a signal stopped the run.
    """
    directory, made_with = trial.directory, trial.results_dir / f"{trial.seed}.made_with.json"
    trained = statuses(sweep.only([trial]))[0].state == "done"
    if trained:
        _require_same_settings(trial)
    if trained and not made_with.exists():
        raise UserError(f"{directory}: {made_with.name} beside it is missing, so that what made it is unknown; move both away")
    if not (trained and _is_evaluated(trial)):
        note_made_with(made_with)
        if not trained:
            (directory / EVALUATION).unlink(missing_ok=True)
            _train(sweep, trial)
            _require_same_settings(trial)
        _evaluate(trial)
    result, curve = published_result(trial, read_json(made_with, MADE_WITH))
    target = Path(folder, trial.name, str(trial.seed))
    target.mkdir(parents=True, exist_ok=True)
    write_whole(target / "curve.csv", curve)
    write_json(target / "result.json", result)


def _train(sweep, trial):
    code = commands.run(sweep.only([trial]))
    if code - 128 in STOPS:
        raise stopped_by(code - 128)
    if code:
        refused = (read_record(trial) or {}).get("exit_code") == REFUSED
        raise (UserError if refused else OSError)(f"{trial.directory}: is not trained; what was said of it is above")


def _evaluate(trial):
    _, launcher, *options = evaluation_command(trial, trial.results_dir.parent)
    say(f"$ python {shlex.join([launcher, *options])}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Signals(), subprocess.Popen([sys.executable, launcher, *options], cwd=ROOT, env=environment) as process:
        try:
            process.wait()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        kind = UserError if process.returncode == REFUSED else OSError
        raise kind(f"{launcher} ended with exit code {process.returncode}; what it said is above")


def _require_same_settings(trial):
    """Raise UserError unless the run in the directory of a trial has the settings of the trial."""
    there = RunDirectory(trial.directory, "--runs").config()
    require_sound(there, f"--runs: {trial.directory / 'config.yaml'}")
    there = with_later_settings(there)
    wanted = learning_settings(trial.config) | {"demonstrations": resolved_name(trial.config.task.demonstrations)}
    for name, value in wanted.items():
        if there.get(name) != value:
            other = f"{name} is {there.get(name)}, not {value}"
            raise UserError(f"{trial.directory}: holds another run than {trial.name}: {other}; move it away")


def _is_evaluated(trial):
    """Return whether there is an evaluation of the agents as they are now, with all that is to be published."""
    publication, path = trial.publication, trial.directory / EVALUATION
    names = [trial.name, *([publication.beside] if publication.beside else [])]
    agents = [agent_path(trial.results_dir.parent, name, trial.seed) for name in names]
    with suppress(OSError, UserError, KeyError):
        if any(agent.stat().st_mtime_ns > path.stat().st_mtime_ns for agent in agents):
            return False
        found = read_json(path, EVALUATED, MAX_RESULT)
        rows = found["deterministic"]["directions"]
        courses = tuple(row["course"] for row in rows if "course" in row)
        told = publication.courses or (tuple(COURSES) if trial.config.task.task == "follow" else ())
        wanted = (publication.episodes, told, publication.robustness, bool(publication.beside))
        return (rows[0]["episodes"], courses, "robustness" in found, "beside" in found) == wanted
    return False
