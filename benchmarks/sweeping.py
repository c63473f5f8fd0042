"""Steps per second of a sweep's trials that run side by side, beside those of one run that has all cores, in one run.

    python benchmarks/sweeping.py --json FILE

A local sweep of 8 trials with one core each, as many at a time as there are cores; then the same settings alone, with a process
a core. Prints a table, medians over rounds of each round's ratio, and writes the medians as one flat JSON object.
benchmarks/README.md says how to read it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import Measure, machine, make_parser, parse, print_table, take_rounds, write_medians

from qi_ext.sampling.pool import available_cpus
from qi_ext.utils.command_line import run_command
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[1]
ROUNDS = 3
N_TRIALS = 8
PACKAGES = ("mujoco", "numpy", "torch", "joblib", "experiment-launcher")
FULL, QUICK = 40_960, 8_192  # steps of a run
MEASURES = {
    "share_of_one_run": Measure("trials side by side / one run with all cores", "{:.2f}", 0.90),
    "side_by_side_steps_per_second": Measure("trials side by side, steps/s of the sum", "{:.0f}"),
    "one_run_steps_per_second": Measure("one run with all cores, steps/s", "{:.0f}"),
}


def main(arguments=None):
    """Parse, measure, print, write. Raises UserError for the user's mistakes, before anything is measured."""
    options = parse(make_parser("sweeping.py", __doc__, ROUNDS), arguments, ROUNDS)
    values = take_rounds(options.rounds, lambda: _round(QUICK if options.quick else FULL))
    print(f"{N_TRIALS} trials, {available_cpus()} at a time, {options.rounds} rounds, on {machine(PACKAGES)}")
    print_table(MEASURES, values, {"": ""}, judged=not options.quick)
    write_medians(options.json, values, {"cores": available_cpus(), "rounds": options.rounds})


def _round(n_steps):
    settings = {"n_steps": n_steps, "evaluation_episodes": 0}
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder, "sweep.yaml")
        sweep.write_text(json.dumps({"fixed": settings, "seeds": list(range(N_TRIALS)), "resources": {"cores": 1}}))
        _launch("sweep.py", sweep, "--local", "--results_dir", Path(folder, "together"))
        _launch(
            "run_gail.py", *(f"--{name}={value}" for name, value in settings.items()), "--results_dir", Path(folder, "alone")
        )
        trials = [_steps_per_second(Path(folder, "together", str(seed))) for seed in range(N_TRIALS)]
        together = sum(trials) / N_TRIALS * min(N_TRIALS, available_cpus())
        alone = _steps_per_second(Path(folder, "alone", "0"))
    return {
        "share_of_one_run": together / alone,
        "side_by_side_steps_per_second": together,
        "one_run_steps_per_second": alone,
    }


def _steps_per_second(directory):
    result = json.loads((directory / "result.json").read_text())
    return result["steps"] / result["training_seconds"]


def _launch(name, *arguments):
    done = subprocess.run([sys.executable, ROOT / "launchers" / name, *map(str, arguments)], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise UserError(f"{name} ended with exit code {done.returncode}; what it said is above")


if __name__ == "__main__":
    run_command("sweeping.py", main)
