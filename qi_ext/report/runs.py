"""Run directories, read for a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qi_ext.training.config import make_config, makes_the_experiment, require_sound, with_later_settings
from qi_ext.training.progress_file import mean_of_known, neighbours, read_progress
from qi_ext.training.run_directory import RunDirectory
from qi_ext.utils.errors import UserError
from qi_ext.utils.programs import command, program, shell_word
from qi_ext.utils.settings import shown

if TYPE_CHECKING:
    from qi_ext.evaluation import EvaluatedAgent  # loco_mujoco, which takes a second

# Settings that name the run and its place; they are not part of its title.
IDENTITY = ("task", "algorithm", "backend", "seed", "results_dir")


@dataclass(frozen=True)
class Run:
    """One run. config: {name: value}. curves: {name: (n,)}, float64, NaN where there is no number. result: of result.json, or
    None while the run is not finished. agent: the newest one.
    """

    path: Path
    config: dict
    curves: dict
    result: dict | None
    agent: "EvaluatedAgent"

    @property
    def changed(self):
        """The settings that differ from the defaults, {name: value}."""
        warm = {"warm_start": self.config["warm_start"]} if self.config.get("warm_start") else {}
        chosen = make_config(*(self.config[name] for name in ("task", "algorithm", "backend")), **warm)
        defaults = chosen.settings() | dict.fromkeys(warm, 0)
        found = {name: value for name, value in self.config.items() if name in defaults and name not in IDENTITY}
        return {name: value for name, value in found.items() if value != defaults[name]}

    @property
    def title(self):
        """Algorithm, task, and the settings that change what is learned: the same for all seeds."""
        words = [f"{self.config['algorithm'].upper()}, {self.config['task']}"]
        if self.config["backend"] != "native":
            words.append(self.config["backend"])
        changed = {name: value for name, value in self.changed.items() if makes_the_experiment(name)}
        return ", ".join(words + [f"{name} {shown(value)}" for name, value in changed.items()])

    @property
    def command(self):
        """The command that repeats the run, for a shell."""
        words = ["--task", self.config["task"], "--algorithm", self.config["algorithm"]]
        if self.config["backend"] != "native":
            words += ["--backend", self.config["backend"]]
        for name, value in {"seed": self.config["seed"], **self.changed, "results_dir": self.config["results_dir"]}.items():
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        return f"{command('train')} {' '.join(map(shell_word, words))}"


def by_experiment(runs):
    """Group runs that differ only in their seed, {title: [`Run`, ...]}, finished ones first."""
    experiments = {}
    for run in sorted(runs, key=lambda run: run.result is None):
        experiments.setdefault(run.title, []).append(run)
    return experiments


def find_run(path):
    """Return the `RunDirectory` at a path. Raises UserError where there is no run, or no agent in it yet."""
    directory = RunDirectory(path, "RUN_DIR", to_write=False)
    config = directory.config()
    if not all(name in config for name in IDENTITY):
        if directory.path.exists():
            fault = directory.config_fault() or f"it has no config.yaml of {program('train')}"
        else:
            fault = "it is not there"
        raise UserError(f"RUN_DIR: {path} is not the directory of a run: {fault}; name RESULTS_DIR/SEED")
    require_sound(config, f"RUN_DIR: {directory.path / 'config.yaml'}")
    if not directory.agent.exists():
        raise UserError(f"RUN_DIR: {path} has no agent.safetensors yet; wait for the first checkpoint")
    return directory


def read_run(path):
    """Read the `Run` in a run directory. Raises UserError where there is none, or no agent in it yet."""
    from qi_ext.evaluation import load_evaluated_agent  # loco_mujoco, which takes a second

    directory = find_run(path)
    curves = read_curves(directory.path / "progress.csv")
    config = with_later_settings(directory.config())
    return Run(directory.path, config, curves, directory.read_result(), load_evaluated_agent(str(directory.agent)))


def read_curves(path):
    """Read the columns of a progress.csv, {name: (n,)}, averaged over neighbouring updates to at most 200 rows.

    A column is added, minutes: of training, at the end of each row. Empty where there is no file, as for a run that is only
    cloned. Raises UserError where a value is not a number.
    """
    table = read_progress(path)
    rows = neighbours(len(table.get("step", ())))
    thinned = {name: np.array([mean_of_known(values[row]) for row in rows]) for name, values in table.items()}
    if "step" in table:
        thinned["step"] = np.array([table["step"][row][-1] for row in rows])
        if "steps_per_second" in table:
            seconds = np.diff(table["step"], prepend=0.0) / table["steps_per_second"]
            thinned["minutes"] = np.array([np.nancumsum(seconds)[row][-1] for row in rows]) / 60.0
    return thinned
