"""Sweeps on a real Slurm: trials that are killed, cancelled, preempted or near their time limit, and what comes of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from qi_ext.commands.train import experiment
from qi_ext.sweeps.commands import SWEEP_FILE
from qi_ext.sweeps.description import read_sweep
from qi_ext.sweeps.slurm_files import job_file, script_file
from qi_ext.sweeps.status import statuses
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD
from qi_ext.utils.slurm import own_jobs

pytestmark = pytest.mark.slurm
DEADLINE = 240.0  # s; for what takes seconds, on machines that do other things too
SETTINGS = (
    "task: simple, n_steps: 8192, n_envs: 8, batch_size: 512, evaluation_episodes: 0, checkpoint_every: 0, "
    "policy_hidden: [32, 32], critic_hidden: [32], discriminator_hidden: [32]"
)
RESOURCES = "cores: 1, memory: 2G, time: 10, partition: low"


def wait_for(condition, what, seconds=DEADLINE):
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        assert now < deadline, what
        time.sleep(max(0.1, 4.0 * (now - asked)))  # what is waited for needs the processors


def finished(process):
    printed, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, printed, errors)


@pytest.fixture
def launch(slurm, monkeypatch, request, tmp_path):
    """A function that runs a launcher where the cluster is to be had: the finished process, or with wait=False the process."""
    root = request.config.rootpath
    for name, value in (slurm.environment | {"PYTHONPATH": str(root)}).items():
        monkeypatch.setenv(name, value)

    def run(name, *arguments, wait=True):
        words = [sys.executable, str(root / "launchers" / name), *map(str, arguments)]
        process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return finished(process) if wait else process

    return run


@pytest.fixture
def submit(launch, slurm, tmp_path):
    """A function: submit a sweep of this text; the `Sweep`. What is left of it is cancelled afterwards."""
    directory = tmp_path / "it's a, sweep"

    def submit(text, folder_in_the_way=""):
        path = tmp_path / "submitted.yaml"
        path.write_text(text)
        words = [path, "--results_dir", directory]
        if folder_in_the_way:
            (directory / folder_in_the_way).mkdir(parents=True)
            path.rename(directory / SWEEP_FILE)
            words = ["--retry", directory]
        done = launch("sweep.py", *words, "--slurm")
        assert done.returncode == 0, done.stdout + done.stderr
        return read_sweep(directory / SWEEP_FILE, directory)

    yield submit
    slurm.ask("scancel", "--me", check=False)
    wait_for(lambda: not slurm.ask("squeue", "--me", "--noheader").strip(), "jobs are left")


def in_training(sweep, but=()):
    """A trial other than those in `but` that has begun to learn and has more than half of its steps before it; None."""
    for each in statuses(sweep):
        if each.state == "running" and 0 < each.steps < each.n_steps / 2 and each.trial not in but:
            return each.trial
    return None


def status_of(sweep, trial):
    return next(each for each in statuses(sweep) if each.trial == trial)


def job_of(sweep, trial):
    """Number of the job of a trial, which it writes when it begins."""
    wait_for(lambda: job_file(sweep, trial).exists(), "its job does not begin")
    return job_file(sweep, trial).read_text().split()[0]


def test_what_is_stopped_goes_on_to_the_same_end_and_what_is_killed_is_told(slurm, launch, submit, tmp_path):
    sweep = submit(f"fixed: {{{SETTINGS}}}\nseeds: 3\nresources: {{{RESOURCES}}}")
    assert len(sweep.trials) == 3

    killed = wait_for(lambda: in_training(sweep), "no trial trains")
    os.kill(json.loads((killed.directory / TRIAL_RECORD).read_text())["pid"], signal.SIGKILL)
    # The signal that Slurm sends before the time limit.
    limited = wait_for(lambda: in_training(sweep, [killed]), "no other trial trains")
    slurm.ask("scancel", "--batch", "--signal=USR1", job_of(sweep, limited))
    # A job that wants the whole node, in a partition that comes first.
    preempted = wait_for(lambda: in_training(sweep, [killed, limited]), "no third trial trains")
    slurm.ask("sbatch", "-p", "high", "-c", "2", "-o", "/dev/null", "--wrap", "true")

    wait_for(lambda: status_of(sweep, killed).state == "failed", "it is not told that a trial was killed")
    assert status_of(sweep, killed).reason.startswith("killed by SIGKILL; job ")
    wait_for(lambda: slurm.job(job_of(sweep, limited))["Restarts"] != "0", "what is near its time limit is not requeued")
    wait_for(lambda: slurm.job(job_of(sweep, preempted))["Restarts"] != "0", "nothing is preempted")

    wait_for(lambda: {each.state for each in statuses(sweep)} == {"done", "failed"}, "the sweep does not end")
    assert [each.trial for each in statuses(sweep) if each.state == "failed"] == [killed]
    shown = launch("sweep.py", "--status", sweep.directory)
    assert shown.returncode == 1
    assert "3 trials: 2 done, 1 failed" in shown.stdout
    assert f"failed: {killed.directory}: killed by SIGKILL" in shown.stdout

    retrying = launch("sweep.py", "--retry", sweep.directory, "--wait", wait=False)
    undisturbed = [run_alone(trial, tmp_path / f"alone{i}") for i, trial in enumerate((limited, preempted))]
    again = finished(retrying)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 trials: 3 done" in again.stdout

    for trial in (killed, limited, preempted):
        assert "going on from step" in (trial.directory / TRIAL_LOG).read_text()
    for trial, expected in zip((limited, preempted), undisturbed, strict=True):
        found = load_file(trial.directory / "agent.safetensors")
        assert expected.keys() == found.keys()
        assert all(np.array_equal(expected[name], found[name]) for name in expected)


def run_alone(trial, directory):
    """Run a trial in this process. Returns the weights of its agent, {name: array}."""
    experiment(**trial.settings, seed=trial.seed, results_dir=str(directory))
    return load_file(directory / str(trial.seed) / "agent.safetensors")


def test_what_is_cancelled_or_cannot_begin_is_told(slurm, submit, tmp_path, request):
    recording = tmp_path / 'it\'s $my "own", -1 *.npz'
    shutil.copy(request.config.rootpath / "qi_ext" / "demonstrations" / "data" / "trot_simple.npz", recording)
    settings = f"{SETTINGS}, demonstrations: {json.dumps(str(recording))}"
    sweep = submit(
        f"fixed: {{{settings}}}\ngrid: {{gamma: [0.9, 0.91, 0.92, 0.93]}}\nseeds: 1\nresources: {{{RESOURCES}}}",
        f"gamma___0.91/0/{TRIAL_LOG}",
    )
    first, blocked, _, last = sweep.trials

    wait_for(lambda: status_of(sweep, blocked).state == "failed", "it is not told that a run could not begin")
    status = status_of(sweep, blocked)
    assert status.reason == f"job {job_of(sweep, blocked)} ended before the run began"
    assert "IsADirectoryError" in "".join(status.lines)

    assert status_of(sweep, last).state == "waiting"
    (job,) = (each for each in own_jobs() if each.script == str(script_file(sweep, last)))
    slurm.ask("scancel", job.number)
    wait_for(lambda: status_of(sweep, last).state == "failed", "it is not told that a job was cancelled")
    assert status_of(sweep, last).reason.startswith("its job never started: it was refused, cancelled")

    wait_for(lambda: status_of(sweep, first).steps, "it does not train")
    given = yaml.safe_load((first.directory / "config.yaml").read_text())
    assert given.items() >= (first.settings | {"demonstrations": str(recording), "policy_hidden": [32, 32]}).items()
    slurm.ask("scancel", job_of(sweep, first))
    wait_for(lambda: status_of(sweep, first).state == "failed", "it is not told that a run was stopped")
    assert status_of(sweep, first).reason.startswith("stopped by SIGTERM, and saved; job ")


def test_what_comes_no_further_within_its_time_limit_is_told_and_not_queued_for_ever(slurm, submit):
    """A warm start is not saved before its end, so each job would do the same again."""
    sweep = submit(f"fixed: {{{SETTINGS}, warm_start: 100000}}\nseeds: 1\nresources: {{{RESOURCES}}}")
    (trial,) = sweep.trials
    log = trial.directory / TRIAL_LOG
    wait_for(lambda: log.exists() and "run directory" in log.read_text(), "it does not begin")
    slurm.ask("scancel", "--batch", "--signal=USR1", job_of(sweep, trial))
    wait_for(lambda: status_of(sweep, trial).state == "failed", "it is not told")
    assert status_of(sweep, trial).reason.startswith("stopped by SIGTERM before it came any further; job ")
    assert slurm.job(job_of(sweep, trial))["Restarts"] == "0"


def test_what_sbatch_refuses_stops_the_sweep(launch, slurm, tmp_path):
    path = tmp_path / "tried.yaml"
    path.write_text(f"fixed: {{{SETTINGS}}}\nseeds: 2\nresources: {{partition: nowhere}}")
    done = launch("sweep.py", path)
    assert done.returncode == 2
    assert "invalid partition" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sweep.py: ")]
    assert "not submitted" in line and "--retry" in line
    assert not slurm.ask("squeue", "--me", "--noheader")


def test_jobs_ask_for_what_the_sweep_says(launch, slurm, tmp_path):
    """sbatch refuses it here, where there is no GPU; its script is there."""
    path = tmp_path / "tried.yaml"
    resources = "cores: 3, memory: 4G, time: 1-2:03:04, gpu: a100:2, account: us"
    path.write_text(f"fixed: {{{SETTINGS}}}\ntrials: [{{name: mine}}]\nresources: {{{resources}}}")
    launch("sweep.py", path)
    sweep = read_sweep(path, tmp_path / "runs" / "sweeps" / "tried")
    script = script_file(sweep, sweep.trials[0]).read_text()
    assert f"--results_dir {sweep.directory / 'mine'} " in script
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    expected = ["--gres=gpu:a100:2", "-A us", "--cpus-per-task 3", "--mem-per-cpu=1366", "-t 1-02:03:04", "--requeue"]
    assert set(expected) < set(lines)
    assert "--signal=B:USR1@120" in lines


@pytest.mark.slow
def test_a_run_that_is_longer_than_its_time_limit_goes_on_after_it(slurm, launch, submit):
    settings = SETTINGS.replace("n_steps: 8192", "n_steps: 90112")
    sweep = submit(f"fixed: {{{settings}}}\nseeds: 1\nresources: {{cores: 1, memory: 2G, time: 1}}")
    (trial,) = sweep.trials
    wait_for(lambda: slurm.job(job_of(sweep, trial)).get("Restarts") == "1", "the limit does not end it", 300.0)
    assert status_of(sweep, trial).state in ("waiting", "running")
    done = launch("sweep.py", "--retry", sweep.directory, "--wait")
    assert done.returncode == 0, done.stdout
