"""What of a finished run is published: a short curve, and one JSON object of figures and of what made them."""

import csv
import hashlib
import io
import json
import math
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
from experiments import EVALUATION
from safetensors.numpy import load
from tables import processor

from qi_ext.demonstrations import load_demonstrations
from qi_ext.report.tables import GAIT_COLUMNS, totals
from qi_ext.sampling.pool import available_cpus
from qi_ext.tasks.directions import task_commands
from qi_ext.training.episode_counter import WINDOW_STEPS
from qi_ext.training.run_directory import write_json
from qi_ext.utils.files import write_atomically

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "mujoco", "numpy", "loco-mujoco", "mushroom-rl")
LEVELS = (400, 800)  # returns
CURVE_ROWS = 200
MEANS = ("return_mean", "length_mean")  # over episodes
FIGURES = ("speed_along", "std", "discriminator_accuracy_policy", "discriminator_accuracy_expert")
CURVE = ("step", "minutes", *MEANS, "episodes", *FIGURES)


def made_with():
    """The code, the libraries and the machine as they are now: what figures depend on. commit: None outside a repository."""
    import torch

    return {
        "commit": _git("rev-parse", "HEAD"),
        # Publishing itself changes results/.
        "clean": _git("status", "--porcelain", "--", ".", ":!results") == "",
        "processor": processor(),
        "cores": available_cpus(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def note_made_with(path):
    """Add `made_with` to the JSON list at `path`, unless it is there: a run may be gone on with on another day."""
    records = json.loads(path.read_text()) if path.exists() else []
    now = made_with()
    if now not in records:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, [*records, now])


def publish(experiment, seed, directory, made, folder):
    """Write curve.csv and result.json of the run in `directory` into `folder`. made: the list of `note_made_with`."""
    result, curve = publication(experiment, seed, directory, made)
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / "curve.csv") as file:
        file.write(curve.encode())
    write_json(folder / "result.json", result)


def publication(experiment, seed, directory, made):
    """What `publish` writes: the dict of result.json, and the text of curve.csv."""
    run, evaluation = (json.loads((directory / name).read_text()) for name in ("result.json", EVALUATION))
    rows = progress(directory / "progress.csv", run["training_seconds"])
    robustness = evaluation.pop("robustness", [])
    result = {
        "name": experiment.name,
        "seed": seed,
        "commands": experiment.commands(seed),
        "options": experiment.options,
        "settings": experiment.settings,
        "steps": run["steps"],
        "training_minutes": run["training_seconds"] / 60.0,
        "return_reached": {str(level): reached(rows, level) for level in LEVELS},
        "evaluation": {name: reduced(figures) for name, figures in evaluation.items()},
        "robustness": [
            {name: figures if name == "condition" else reduced(figures) for name, figures in row.items()} for row in robustness
        ],
        "agent": agent_hashes(directory / "agent.safetensors"),
        "demonstrations": {
            "source": run["demonstrations"],
            "synthetic": _synthetic(experiment),
            "hash": run["demonstrations_hash"],
        },
        "device": run["device"],
        "made_with": made,
    }
    return _rounded(result), curve_text(rows)


def progress(path, training_seconds):
    """The updates of a progress.csv, dicts of numbers, None where a cell is empty; with `begin`, the step an update begins at.

    minutes: since the run began, at the end of the update. Updates take what their steps_per_second say; what is then left of
    `training_seconds`, a warm start above all, comes before the first.
    """
    with open(path, newline="") as file:
        rows = [{name: float(text) if text else None for name, text in row.items()} for row in csv.DictReader(file)]
    begin, seconds = 0, []
    for row in rows:
        row["step"], row["episodes"] = int(row["step"]), int(row["episodes"])
        seconds.append((row["step"] - begin) / row["steps_per_second"])
        row["begin"], begin = begin, row["step"]
    passed = training_seconds - math.fsum(seconds)
    for row, taken in zip(rows, seconds, strict=True):
        passed += taken
        row["minutes"] = passed / 60.0
    return rows


def reached(rows, level):
    """steps and minutes of the first update at which the mean return of the last 20,000 steps' episodes is at least `level`.

    Of those steps, whole updates count; at least the last one does. None where there is no such update.
    """
    first = 0
    for i, row in enumerate(rows):
        while first < i and rows[first]["begin"] < row["step"] - WINDOW_STEPS:
            first += 1
        mean = _over_episodes(rows[first : i + 1], "return_mean")
        if mean is not None and mean >= level:
            return {"steps": row["step"], "minutes": row["minutes"]}
    return None


def curve_text(rows):
    """curve.csv: neighbouring updates taken together, so that at most 200 rows are left; 4 digits.

    step and minutes are those of the last one, episodes is their sum, return_mean and length_mean are over episodes, the rest
    are means over updates. Empty where there is no figure.
    """
    size = max(1, math.ceil(len(rows) / CURVE_ROWS))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CURVE)
    for i in range(0, len(rows), size):
        group = rows[i : i + size]
        means = {name: _over_episodes(group, name) for name in MEANS}
        for name in FIGURES:
            values = [row[name] for row in group if row.get(name) is not None]
            means[name] = sum(values) / len(values) if values else None
        cells = {name: "" if value is None else f"{value:.4g}" for name, value in means.items()}
        cells |= {"step": group[-1]["step"], "minutes": f"{group[-1]['minutes']:.4g}"}
        cells["episodes"] = sum(row["episodes"] for row in group)
        writer.writerow([cells[name] for name in CURVE])
    return text.getvalue()


def reduced(result):
    """Of a result of `evaluate`: mean return, that of the lowest direction and of each, falls, episodes, mean gait measures."""
    lowest, falls, episodes = totals(result)
    kept = {
        "return_mean": result["return_mean"],
        "lowest": lowest,
        "falls": falls,
        "episodes": episodes,
        "returns": {f"{row['direction_deg']:g}": row["return_mean"] for row in result["directions"]},
    }
    if "mean" in result:
        kept["gait"] = {name: result["mean"][name] for _, name, _ in GAIT_COLUMNS}
    return kept


def agent_hashes(path):
    """SHA-256 of an agent's file, and of its tensors alone: safetensors writes the metadata beside them in any order."""
    content = Path(path).read_bytes()
    digest = hashlib.sha256()
    for name, tensor in sorted(load(content).items()):
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode() + np.ascontiguousarray(tensor).tobytes())
    return {"file_sha256": hashlib.sha256(content).hexdigest(), "tensors_sha256": digest.hexdigest()}


def _synthetic(experiment):
    config = experiment.config
    commands = task_commands(config.task.task, config.n_directions, config.speed)
    return load_demonstrations(config.demonstrations, commands, config.compat).synthetic


def _over_episodes(rows, name):
    """The mean of `name` over all episodes of these updates, None without any."""
    ended = [row for row in rows if row["episodes"]]
    episodes = sum(row["episodes"] for row in ended)
    return math.fsum(row[name] * row["episodes"] for row in ended) / episodes if episodes else None


def _rounded(value):
    """Plain data with floats of 6 digits, which is more than a figure is good for, and less to read."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
