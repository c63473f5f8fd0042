"""What the tests of training share: runs of two updates of small networks, and what they leave, to be compared exactly."""

import csv
import os
import signal
import time
from types import SimpleNamespace

import pytest
from tensorboard.summary.writer import event_file_writer

from qi_ext.training.checkpoints import FILE, Checkpoints
from qi_ext.training.log import ProgressLog
from qi_ext.training.resume import find_start
from qi_ext.training.training_run import TrainingRun
from qi_ext.utils.errors import Terminated
from qi_ext.utils.tensor_file import read_tensors

CLOCK = ("steps_per_second", "collect_seconds", "learn_seconds")
TINY = {
    "n_steps": 128,
    "batch_size": 64,
    "n_envs": 4,
    "lanes_per_block": 2,
    "pool": "serial",
    "policy_hidden": [16],
    "critic_hidden": [16],
    "discriminator_hidden": [16],
    "discriminator_batch_size": 32,
    "evaluation_episodes": 0,
    "learner_threads": 1,
    "warm_start_threads": 1,
    "checkpoint_every": 0.0,
}


@pytest.fixture(autouse=True)
def files_in_order(monkeypatch):
    """TensorBoard reads files in the order of the seconds in their names, and here several are begun in one."""
    monkeypatch.setattr(event_file_writer, "socket", SimpleNamespace(gethostname=lambda: str(time.time_ns())))


@pytest.fixture
def tiny(tmp_path):
    """tiny(algorithm="gail", **settings): settings of two updates of 64 steps of 4 envs, in this process.

    Small networks, a checkpoint after each update, no evaluation.
    """

    def make(algorithm="gail", **settings):
        return TINY | {"algorithm": algorithm, "results_dir": str(tmp_path / "runs")} | settings

    return make


@pytest.fixture(scope="session")
def build():
    """build(settings, resume=""): the `TrainingRun` of a run, not yet begun."""
    return lambda settings, resume="": TrainingRun(find_start(settings, str(resume)))


@pytest.fixture(scope="session")
def complete():
    """complete(training): train it to its end, or find that it has come there; returns what is written of it."""

    def to_its_end(training):
        result = training.finished()
        if result is None:
            with training:
                result = training.train()
                training.directory.write_result(result)
        return result | {"directory": str(training.directory.path)}

    return to_its_end


@pytest.fixture(scope="session")
def run(build, complete):
    """run(settings, resume=""): a `TrainingRun` that has come to its end; its `result` is what `complete` returned."""

    def of(settings, resume=""):
        training = build(settings, resume)
        training.result = complete(training)
        return training

    return of


@pytest.fixture
def after_update(monkeypatch):
    """after_update(step, action): have action() called when a run has written its figures of `step`."""

    def arrange(step, action):
        write = ProgressLog.write

        def write_and_act(log, at, row):
            write(log, at, row)
            if at == step:
                action()

        monkeypatch.setattr(ProgressLog, "write", write_and_act)

    return arrange


@pytest.fixture
def stop(after_update, complete, monkeypatch):
    """stop(training, step, number=signal.SIGINT): run it until it has been stopped by a signal after `step`; returns it."""

    def run_and_stop(training, step, number=signal.SIGINT):
        before = ProgressLog.write
        after_update(step, lambda: os.kill(os.getpid(), number))
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Terminated):
            complete(training)
        monkeypatch.setattr(ProgressLog, "write", before)
        return training

    return run_and_stop


@pytest.fixture(scope="session")
def rows():
    """rows(directory): progress.csv without what the clock says."""

    def of(directory):
        with open(directory / "progress.csv", newline="") as file:
            return [{name: value for name, value in row.items() if name not in CLOCK} for row in csv.DictReader(file)]

    return of


@pytest.fixture(scope="session")
def saved():
    """saved(directory, step=None): a checkpoint's arrays, as bytes, and what it counts; the last one's without a step."""

    def of(directory, step=None):
        checkpoints = Checkpoints(directory)
        step = checkpoints.steps()[-1] if step is None else step
        arrays, data = read_tensors(checkpoints.directory(step) / FILE, "checkpoint")
        counted = {name: data[name] for name in ("step", "score", "parts")}
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}, counted

    return of
