"""One seed of an experiment, trained and evaluated by the launchers, as far as that is not done already."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from experiments import EVALUATION, agent_path
from published import ROOT, note_made_with, publish
from tables import say

from qi_ext.demonstrations import resolved_name
from qi_ext.training.run_directory import RunDirectory
from qi_ext.utils.errors import UserError
from qi_ext.utils.signals import Signals


class LaunchError(OSError):
    """A launcher ended otherwise than by the user's mistake."""


def run_one(experiment, seed, runs, folder):
    """Train and evaluate under the folder `runs`, then publish in `folder`/NAME/SEED.

    Raises UserError where what was asked cannot be done, or another run than this experiment's is in the way; LaunchError where
    a launcher did not end well.
    """
    directory = Path(runs, experiment.name, str(seed))
    made_with = directory.with_name(f"{seed}.made_with.json")
    trained = is_trained(experiment, seed, runs)
    evaluated = trained and is_evaluated(experiment, seed, runs)
    if trained and not made_with.exists():
        raise UserError(f"{directory}: {made_with.name} beside it is missing, so that what made it is unknown; move both away")
    if not evaluated:
        note_made_with(made_with)
    if not trained:
        (directory / EVALUATION).unlink(missing_ok=True)
        launch([*experiment.training(seed, runs), "--resume", "auto"])
        if not is_trained(experiment, seed, runs):
            raise UserError(f"{directory}: holds another run than the experiment {experiment.name}; move it away")
    if not evaluated:
        launch(experiment.evaluation(seed, runs))
    publish(experiment, seed, directory, json.loads(made_with.read_text()), Path(folder, experiment.name, str(seed)))


def is_trained(experiment, seed, runs):
    """Whether the run is finished, with the settings of the experiment."""
    directory = RunDirectory(Path(runs, experiment.name, str(seed)), "--runs")
    wanted = experiment.settings | {"demonstrations": resolved_name(experiment.config.demonstrations)}
    return directory.read_result() is not None and directory.config().items() >= wanted.items()


def is_evaluated(experiment, seed, runs):
    """Whether an evaluation is there that has all that the experiment asks for, of the agents that are there now."""
    path = Path(runs, experiment.name, str(seed), EVALUATION)
    names = [experiment.name, experiment.beside] if experiment.beside else [experiment.name]
    with suppress(OSError, ValueError, KeyError):
        if any(agent_path(runs, name, seed).stat().st_mtime_ns > path.stat().st_mtime_ns for name in names):
            return False
        found = json.loads(path.read_text())
        episodes = found["deterministic"]["directions"][0]["episodes"]
        return (episodes, "robustness" in found, "beside" in found) == (
            experiment.episodes,
            experiment.robustness,
            bool(experiment.beside),
        )
    return False


def require_beside(pairs, runs):
    """Raise UserError unless the agent that each (experiment, seed) is evaluated beside is there, or is trained before it."""
    before = set()
    for experiment, seed in pairs:
        other = (experiment.beside, seed)
        if experiment.beside and other not in before and not agent_path(runs, *other).with_name("result.json").exists():
            raise UserError(f"{experiment.name}: is evaluated beside {other[0]}, seed {seed}, which is to be run first")
        before.add((experiment.name, seed))


def launch(words):
    """Run a launcher. It is told when this process is to stop, and waited for, because it has something to save then."""
    say(f"$ python {' '.join(words)}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Signals(), subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment) as process:
        try:
            process.wait()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        kind = UserError if process.returncode == 2 else LaunchError
        raise kind(f"{words[0]} ended with exit code {process.returncode}; what it said is above")
