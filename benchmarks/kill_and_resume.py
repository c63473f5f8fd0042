"""Kill a training run at random moments, resume it each time, and compare what it leaves with a run that was left alone.

    python benchmarks/kill_and_resume.py --kills 20 --json FILE

Every bit of the last checkpoint must be the same (weights, optimizers, envs, generators), every row of progress.csv but for
what the clock says, and TensorBoard must show each update once. Some runs go on with another number of workers. Exits with 1
if anything differs.
"""

import csv
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.training.checkpoints import FILE, Checkpoints
from qi_ext.utils.command_line import Parser, run_command
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output, write_whole
from qi_ext.utils.tensor_file import read_tensors

ROOT = Path(__file__).parents[1]
WORKERS = ("1", "2", "3")
MORE_BATCHES = 4  # than kills, so that each comes before the end
POLL_SECONDS = 0.005

# A checkpoint about every other update, so that there is something to lose.
FULL = {"batch_size": 4096, "checkpoint_every": 0.1, "warm_start": 1, "pool": "loky"}
QUICK = FULL | {"batch_size": 64, "checkpoint_every": 0.0, "pool": "serial", "n_envs": 4, "discriminator_batch_size": 32}
QUICK |= {"warm_start_threads": 1}  # several wait for each other for long where the processors are busy
QUICK |= {"policy_hidden": 16, "critic_hidden": 16, "discriminator_hidden": 16}


@dataclass
class Leg:
    """Part of a run, from its start or a kill to the next kill or its end.

    begun_at: step that it went on from. ended_at: step of the last row. passed_over: number of checkpoints that could not be
    read. started: whether it came to the training.
    """

    workers: str
    begun_at: int
    ended_at: int
    passed_over: int
    started: bool
    killed: bool


def main(arguments=None):
    """Parse, kill and resume, compare, print. Returns 1 if anything differs."""
    parser = Parser("kill_and_resume.py", __doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often the run is killed [20]", metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [0]", metavar="N")
    parser.add_argument("--json", type=str, help="the JSON file to write [none]", metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="networks of 16 units, batches of 64, in one process")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        raise UserError(f"--kills: must be at least 1, not {options.kills}")
    if options.json:
        require_output(options.json, "--json")
    settings = QUICK if options.quick else FULL
    n_batches = options.kills + MORE_BATCHES
    settings = settings | {"n_steps": n_batches * settings["batch_size"], "evaluation_episodes": 0, "task": "hard"}

    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        run(settings, alone, resume=False)
        seconds = json.loads((alone / "0" / "result.json").read_text())["training_seconds"]
        print(f"left alone: {n_batches} updates in {seconds:.0f} s")
        legs = run_with_kills(settings, killed, options.kills, seconds / n_batches, random.Random(options.seed))
        found = differences(alone / "0", killed / "0")
    values = summary(legs) | {"updates": n_batches, "differences": len(found)}
    if values["kills"] < options.kills:
        found.append(f"the run was over before it was killed {options.kills} times")
    for name, value in values.items():
        print(f"{name}: {value}")
    for text in found:
        print(f"differs: {text}")
    if not found:
        print("bit-identical: checkpoint, progress.csv, TensorBoard")
    if options.json:
        write_whole(options.json, json.dumps(values, indent=2) + "\n")
    return 1 if found else 0


def run_with_kills(settings, results_dir, kills, update_seconds, moments):
    """Start a run, kill it at random moments, and resume it after each. Returns its `Leg`s."""
    n_batches = settings["n_steps"] // settings["batch_size"]
    legs = []
    # A kill comes up to one and a half updates after a row, also one from before the last kill, so that starts are hit, too.
    for batch in sorted(moments.sample(range(n_batches - 2), kills)):
        delay = moments.uniform(0.0, 1.5 * update_seconds)
        leg = run(settings, results_dir, bool(legs), moments.choice(WORKERS), (batch * settings["batch_size"], delay))
        begun = f"begun at step {leg.begun_at:,}" if leg.started else "still starting"
        print(f"kill {len(legs) + 1}: {leg.workers} workers, {begun}; last row of step {leg.ended_at:,}", flush=True)
        legs.append(leg)
    return [*legs, run(settings, results_dir, True, moments.choice(WORKERS))]


def run(settings, results_dir, resume, workers="2", kill_at=None):
    """Run the launcher to its end, or kill it. kill_at: (step, seconds after that step was logged). Returns a `Leg`."""
    command = [sys.executable, str(ROOT / "launchers" / "run_gail.py"), "--results_dir", str(results_dir)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    command += [f"--n_workers={workers}", *(["--resume=auto"] if resume else [])]
    if settings["pool"] == "serial" and workers != "1":
        command += ["--pool=loky"]
    progress = results_dir / "0" / "progress.csv"
    with tempfile.TemporaryFile("w+") as output:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            if kill_at is not None:
                wait_for_step(process, progress, *kill_at)
                process.kill()
        finally:
            process.wait()
        output.seek(0)
        printed = output.read()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run ended with exit code {process.returncode}:\n{printed}")
    begun = re.search(r"^going on from step ([\d,]+)$", printed, re.MULTILINE)
    return Leg(
        workers=workers,
        begun_at=int(begun[1].replace(",", "")) if begun else 0,
        ended_at=last_step(progress),
        passed_over=len(re.findall(r"^passed over: ", printed, re.MULTILINE)),
        started="run directory: " in printed,
        killed=process.returncode != 0,
    )


def wait_for_step(process, path, step, delay):
    """Wait until `delay` seconds after the progress.csv at `path` has come to a step, or until the process has ended."""
    until = None if step else time.monotonic() + delay
    while process.poll() is None and (until is None or time.monotonic() < until):
        if until is None and last_step(path) >= step:
            until = time.monotonic() + delay
        time.sleep(POLL_SECONDS)


def last_step(path):
    """Return the step of the last whole row of a progress.csv; 0 where there is none."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines[1:] if line.endswith("\n")]
    return int(whole[-1].split(",")[0]) if whole else 0


def differences(alone, killed):
    """Return texts that name what differs between two run directories."""
    (first, data), (second, other) = (last_checkpoint(directory) for directory in (alone, killed))
    found = [f"checkpoint: {name} is not in both" for name in first.keys() ^ second.keys()]
    for name in first.keys() & second.keys():
        one, two = first[name], second[name]
        if (one.dtype, one.shape, one.tobytes()) != (two.dtype, two.shape, two.tobytes()):
            found.append(f"checkpoint: {name}")
    found += [f"checkpoint: {name}" for name in ("step", "score", "parts") if data[name] != other[name]]
    if read_rows(alone) != read_rows(killed):
        found.append("progress.csv")
    first, second = read_curves(alone), read_curves(killed)
    return found + [f"TensorBoard: {tag}" for tag in sorted(first.keys() | second.keys()) if first.get(tag) != second.get(tag)]


def last_checkpoint(directory):
    checkpoints = Checkpoints(directory)
    return read_tensors(checkpoints.directory(checkpoints.steps()[-1]) / FILE, "checkpoint")


def read_rows(directory):
    """Return the rows of progress.csv without the columns that are clock times."""
    from qi_ext.training.log import tag

    with open(directory / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: text for name, text in row.items() if not tag(name).startswith("time/")} for row in rows]


def read_curves(directory):
    """Return TensorBoard's scalars, {tag: [(step, value)]}, without the values of clock times."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of what a resumed run takes back, as it should
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, None if tag.startswith("time/") else event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def summary(legs):
    """Return {name: number} about the kills."""
    kills, resumed = legs[:-1], legs[1:]
    return {
        "kills": sum(leg.killed for leg in kills),
        "kills_before_training": sum(not leg.started for leg in kills),
        "resumed_with_other_workers": sum(a.workers != b.workers for a, b in zip(kills, resumed, strict=True)),
        "steps_done_again": sum(max(a.ended_at - b.begun_at, 0) for a, b in zip(kills, resumed, strict=True) if b.started),
        "checkpoints_passed_over": sum(leg.passed_over for leg in legs),
    }


if __name__ == "__main__":
    run_command("kill_and_resume.py", main)
