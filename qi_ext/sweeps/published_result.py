"""The published result of a trial: commands, settings, evaluation and hashes, as result.json holds them."""

import hashlib
import shlex
import statistics
from pathlib import Path

import numpy as np

from qi_ext.demonstrations import load_demonstrations
from qi_ext.report.tables import GAIT_COLUMNS, row_label, totals
from qi_ext.sweeps.published_curve import curve_csv, read_curve, return_reached
from qi_ext.sweeps.schemas import EVALUATED, FINISHED
from qi_ext.tasks.directions import task_commands
from qi_ext.training.config import makes_the_experiment
from qi_ext.training.run_directory import MAX_RESULT
from qi_ext.utils.reading import read_bytes, read_json
from qi_ext.utils.tensor_file import MAX_BYTES, read_safetensors
from qi_ext.utils.words import typed

RUNS = Path("runs", "results")  # where the recorded commands leave their runs
EVALUATION = "evaluation.json"  # of a run, by evaluate.py
LEVELS = (400, 800)  # returns
COLUMNS = (("velocity error\nm/s", "velocity_error", ".3f"), *GAIT_COLUMNS)  # mean |v_xy - command|, as `evaluate` gives it


def published_result(trial, made_with):
    """Return the content of result.json, a dict, and the text of curve.csv, of a trial that is trained and evaluated.

    made_with: list of what the run and its evaluation were made with, as `note_made_with` writes it.
    """
    run = read_json(trial.directory / "result.json", FINISHED, MAX_RESULT)
    evaluation = read_json(trial.directory / EVALUATION, EVALUATED, MAX_RESULT)
    curve = read_curve(trial.directory / "progress.csv", run["training_seconds"])
    robustness = evaluation.pop("robustness", [])
    result = {
        "name": trial.name,
        "seed": trial.seed,
        "commands": recorded_commands(trial),
        "settings": learning_settings(trial.config),
        "steps": run["steps"],
        "training_minutes": run["training_seconds"] / 60.0,
        "return_reached": {str(level): return_reached(curve, level) for level in LEVELS},
        "evaluation": {name: _summary(each) for name, each in evaluation.items()},
        "robustness": [
            {name: each if name == "condition" else _summary(each) for name, each in row.items()} for row in robustness
        ],
        "agent": agent_hashes(trial.directory / "agent.safetensors"),
        "demonstrations": {
            "source": run["demonstrations"],
            "synthetic": _are_demonstrations_synthetic(trial.config),
            "hash": run["demonstrations_hash"],
        },
        "device": run["device"],
        "made_with": made_with,
    }
    # What was set stays exact, or nobody could tell that it is what was asked for.
    return _rounded(result) | {"settings": result["settings"]}, curve_csv(curve)


def training_command(trial):
    """Words of the command that trains the configuration of a trial, without seed and place."""
    words = ["python", "launchers/run_gail.py"]
    for name, value in trial.settings.items():
        if name != "evaluation_episodes":
            words += [f"--{name}", *map(typed, value if isinstance(value, list) else [value])]
    return words


def evaluation_command(trial, runs):
    """Words of the command that evaluates the agent of a trial. runs: directory of the runs of all trials."""
    words = ["python", "launchers/evaluate.py", "--agent", str(agent_path(runs, trial.name, trial.seed))]
    words += ["--episodes", str(trial.publication.episodes)]
    if trial.publication.courses:
        words += ["--courses", *trial.publication.courses]
    for name in ("pool", "scheduler"):
        if name in trial.settings:
            words += [f"--{name}", trial.settings[name]]
    if trial.publication.robustness:
        words.append("--robustness")
    if trial.publication.beside:
        words += ["--beside", str(agent_path(runs, trial.publication.beside, trial.seed))]
    return [*words, "--json", str(Path(runs, trial.name, str(trial.seed), EVALUATION))]


def recorded_commands(trial):
    """Return the two commands that train and evaluate a trial, as they are typed in the repository, wherever the run was."""
    place = ["--seed", str(trial.seed), "--results_dir", str(RUNS / trial.name)]
    training = [*training_command(trial), *place, "--evaluation_episodes", str(trial.config.run.evaluation_episodes)]
    return [shlex.join(training), shlex.join(evaluation_command(trial, RUNS))]


def learning_settings(config):
    """Settings that make a run what it is, {name: value}, defaults included, without seed, place and machine."""
    return {name: value for name, value in config.settings().items() if makes_the_experiment(name) and name != "seed"}


def agent_path(runs, name, seed):
    return Path(runs, name, str(seed), "agent.safetensors")


def agent_hashes(path):
    """SHA-256 of an agent's file, and of its tensors alone: its metadata name the versions of the libraries."""
    content, (tensors, _) = read_bytes(path, MAX_BYTES), read_safetensors(path)
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode() + np.ascontiguousarray(tensor).tobytes())
    return {"file_sha256": hashlib.sha256(content).hexdigest(), "tensors_sha256": digest.hexdigest()}


def _summary(result):
    """Summary of a result of `evaluate`: mean return, that of the lowest direction and of each, falls, mean gait measures."""
    lowest, falls, episodes = totals(result)
    summary = {
        "return_mean": result["return_mean"],
        "lowest": lowest,
        "falls": falls,
        "episodes": episodes,
        "returns": {row_label(row): row["return_mean"] for row in result["directions"]},
    }
    if "mean" in result:
        summary["gait"] = {name: result["mean"].get(name) for _, name, _ in GAIT_COLUMNS}
        errors = [row["velocity_error_mean"] for row in result["directions"] if "velocity_error_mean" in row]
        if errors:
            summary["gait"]["velocity_error"] = statistics.mean(errors)
    return summary


def _are_demonstrations_synthetic(config):
    task = config.task
    commands = task_commands(**task.of_commands)
    return load_demonstrations(task.demonstrations, commands, task.compat, **task.of_recording).synthetic


def _rounded(value):
    """Plain data with floats of 6 digits, more than a figure is good for."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
