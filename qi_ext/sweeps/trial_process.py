"""The experiment that experiment-launcher starts: qi-ext train in a process of its own, and a record of how it ended."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import patches
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD, RunDirectory, write_json
from qi_ext.utils.display import say
from qi_ext.utils.programs import environment
from qi_ext.utils.signals import STOPS, heeded

STOPPED = {128 + number: number.name for number in STOPS}  # by exit code
REFUSED = 2  # exit code of qi-ext train where the directory holds another run
ATTEMPT = "== "  # how the line begins that an attempt writes first into the log

_running = set()
_stopping = False


def experiment(results_dir: str = "", seed: int = 0, **settings):
    """Run, or go on with, the run in results_dir/seed, with these settings of the config; a finished one is left alone.

    What the run prints goes to trial.log in its directory, how it ended to trial.json. Returns 0 where there is a result, else
    the exit code of qi-ext train, as a shell tells it; 1 where that is 0, or where it was told to stop before it had come any
    further, because it would not the next time either.
    """
    directory = RunDirectory(Path(results_dir, str(seed)), "results_dir")
    if _stopping:
        return 128 + signal.SIGTERM
    say(f"begins: {directory.path}")
    directory.path.mkdir(parents=True, exist_ok=True)
    record = {
        "started": time.time(),
        "ended": None,
        "exit_code": None,
        "host": socket.gethostname(),
        "pid": None,
        "slurm_job": _slurm_job(),
        "progressed": False,
    }
    before = newest_step(directory)
    # -P, because the working directory may have a folder of that name.
    words = [sys.executable, "-P", "-m", "qi_ext", "train", "--resume=auto"]
    words += [f"--results_dir={results_dir}", f"--seed={seed}"]
    # With =, because a value may begin with -.
    for name, value in settings.items():
        words += [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
    with open(directory.path / TRIAL_LOG, "ab") as log:
        job = f", job {os.environ['SLURM_JOB_ID']}" if record["slurm_job"] else ""
        log.write(f"\n{ATTEMPT}{time.strftime('%Y-%m-%d %H:%M:%S')} on {record['host']}{job}\n".encode())
        log.flush()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
        _running.add(process)
        if _stopping:  # a signal may have come since the first look
            process.terminate()
        try:
            record["pid"] = process.pid
            write_json(directory.path / TRIAL_RECORD, record)
            code = process.wait()
        except BaseException:  # a run that is not recorded is not to go on
            process.terminate()
            process.wait()
            raise
        finally:
            _running.discard(process)
    record |= {"ended": time.time(), "exit_code": code, "progressed": newest_step(directory) > before}
    write_json(directory.path / TRIAL_RECORD, record)
    if code == REFUSED or directory.read_result() is None:
        say(f"failed: {directory.path}: {how_it_ended(record)}")
        code = 128 - code if code < 0 else code or 1
        return 1 if code in STOPPED and not record["progressed"] else code
    say(f"done: {directory.path}")
    return 0


def newest_step(directory):
    """Step of the newest checkpoint in a `RunDirectory`; -1 where there is none."""
    return max(directory.checkpoints.steps(), default=-1)


def how_it_ended(record):
    """Words for the end of a process. record: content of its trial.json; an exit code below 0 is the signal that killed it."""
    code = record["exit_code"]
    if code in STOPPED:
        return f"stopped by {STOPPED[code]}" + (", and saved" if record["progressed"] else " before it came any further")
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with exit code {code}" if code else "ended without a result"


@contextmanager
def stopped_together():
    """Let SIGINT, SIGTERM and SIGHUP stop all trials that this process runs, which save, and let no other begin.

    Yields a list of the signals that have come.
    """
    global _stopping
    signals, _stopping = [], False

    def stop(number, frame):
        global _stopping
        _stopping = True
        signals.append(number)
        for process in list(_running):
            process.terminate()

    before = {number: signal.signal(number, stop) for number in heeded()}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _slurm_job():
    """Number of the Slurm job that this process is in, and how often it was started anew; "" outside of Slurm."""
    number = os.environ.get("SLURM_JOB_ID")
    return f"{number} {os.environ.get('SLURM_RESTART_COUNT', '0')}" if number else ""


def _environment():
    """Environment of qi-ext train: in a Slurm job that was given no GPU it sees none, though the machine may have some."""
    given = any(os.environ.get(name) for name in ("SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE"))
    return environment() | ({} if given or "SLURM_JOB_ID" not in os.environ else {"CUDA_VISIBLE_DEVICES": ""})


def main():
    """Run the experiment of a Slurm job."""
    from experiment_launcher import run_experiment

    codes = []

    @functools.wraps(experiment)
    def with_exit_code(**given):
        codes.append(experiment(**given))

    with stopped_together():
        run_experiment(with_exit_code)
    sys.exit(codes[0])


if __name__ == "__main__":
    patches.apply("experiment_launcher")
    main()
