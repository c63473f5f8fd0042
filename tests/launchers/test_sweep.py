"""`launchers/sweep.py` on this machine: real runs, as tiny as they can be."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time

import psutil
import pytest

from qi_ext import load_agent
from qi_ext.sweeps.commands import SWEEP_FILE
from qi_ext.training.run_directory import TRIAL_LOG, TRIAL_RECORD
from qi_ext.utils.errors import UserError

TINY = (
    "pool: serial, n_envs: 4, batch_size: 64, n_steps: 128, policy_hidden: [16], critic_hidden: [16], "
    "discriminator_hidden: [16], discriminator_batch_size: 32"
)
LONG = TINY.replace("n_steps: 128", "n_steps: 1000000")
DEADLINE = 120.0  # s


@pytest.fixture
def main(request, monkeypatch, tmp_path):
    """sweep.py's main, in an empty directory, on all processors; without films, which would take longest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "off")
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))
    return runpy.run_path(str(request.config.rootpath / "launchers" / "sweep.py"))["main"]


@pytest.fixture
def write(tmp_path):
    """A function that writes a sweep's file: its name."""

    def write(text, name="tried.yaml"):
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.mark.extensive
def test_a_sweep_runs_to_the_end_and_its_best_is_picked(main, write, tmp_path, capsys):
    path = write(
        f"fixed: {{{TINY}, evaluation_episodes: 1}}\ngrid: {{gamma: [0.9, 0.97]}}\nseeds: 1\nresources: {{cores: 1}}",
        "it's, mine.yaml",
    )
    assert main([path, "--local"]) == 0
    assert "2 trials: 2 done" in capsys.readouterr().out
    folder = tmp_path / "runs" / "sweeps" / "it's, mine"
    runs = {gamma: folder / f"gamma___{gamma}" / "0" for gamma in ("0.9", "0.97")}
    results = [json.loads((run / "result.json").read_text()) for run in runs.values()]
    assert all((run / TRIAL_LOG).stat().st_size for run in runs.values())

    assert main(["--status", str(folder)]) == 0
    assert "gamma 0.97, seed 0" in capsys.readouterr().out

    assert main(["--best", str(folder)]) == 0
    means = {gamma: result["evaluation"]["deterministic"]["return_mean"] for gamma, result in zip(runs, results, strict=True)}
    best = max(means, key=means.get)
    assert f"of gamma {best}, seed 0" in capsys.readouterr().out
    assert (folder / "best.safetensors").read_bytes() == (runs[best] / "agent.safetensors").read_bytes()
    assert load_agent(folder / "best.safetensors")
    page = (folder / "report.html").read_text()
    assert f"{means[best]:.1f}" in page and "Returns by gamma" in page

    assert main(["--retry", str(folder), "--local"]) == 0  # nothing is left to do
    assert [json.loads((run / "result.json").read_text()) for run in runs.values()] == results


def test_a_trial_that_fails_is_told_and_the_others_run(main, write, tmp_path, capsys):
    grid = f"{{demonstrations: [trot, {tmp_path / 'none.npz'}]}}"
    path = write(f"fixed: {{{TINY}, evaluation_episodes: 0}}\ngrid: {grid}\nseeds: 1")
    assert main([path, "--local"]) == 1
    printed = capsys.readouterr().out
    assert "2 trials: 1 done, 1 failed" in printed
    assert "ended with exit code 2" in printed
    assert "qi-ext train: " in printed and "none.npz" in printed  # its last line
    assert "sweep.py --retry" in printed and "goes on with them" in printed
    folder = tmp_path / "runs" / "sweeps" / "tried"
    run = folder / "demonstrations___trot" / "0"
    assert json.loads((run / "result.json").read_text())["steps"] == 128
    assert json.loads((run / TRIAL_RECORD).read_text())["exit_code"] == 0 and (run / TRIAL_LOG).stat().st_size

    assert main(["--status", "runs/sweeps/tried"]) == 1
    assert "demonstrations trot, seed 0" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already; --status and --retry"):
        main([path, "--local"])
    with pytest.raises(UserError, match="no trial is done and evaluated"):
        main(["--best", "runs/sweeps/tried"])


@pytest.mark.extensive
def test_a_sweep_that_is_stopped_saves_and_goes_on(main, write, tmp_path, request):
    path = write(f"fixed: {{{LONG}, evaluation_episodes: 0}}\ngrid: {{gamma: [0.9, 0.97]}}\nseeds: 4\nresources: {{cores: 2}}")
    words = [sys.executable, request.config.rootpath / "launchers" / "sweep.py", path, "--local"]
    folder = tmp_path / "runs" / "sweeps" / "tried"
    # In a group of its own, which gets Ctrl-C as from a terminal.
    with subprocess.Popen(words, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + DEADLINE
        while not list(folder.glob("*/*/checkpoints/*/checkpoint.safetensors")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        printed, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, printed
    records = [json.loads(path.read_text()) for path in folder.glob(f"*/*/{TRIAL_RECORD}")]
    # The sweep ends with SIGTERM what Ctrl-C has not ended.
    assert any(record["exit_code"] in (130, 143) for record in records)
    assert all(record["exit_code"] for record in records)  # others may have been stopped before they could save
    assert not any(psutil.pid_exists(record["pid"]) for record in records)
    assert "not begun" in printed and "and saved" in printed


def test_a_dry_run_leaves_nothing(main, write, tmp_path, capsys):
    assert (
        main([write(f"fixed: {{{TINY}}}\ngrid: {{gamma: [0.9, 0.97]}}\nresources: {{cores: 1}}"), "--local", "--dry_run"]) == 0
    )
    printed = capsys.readouterr().out
    assert "6 runs here" in printed and "each with 1 core and" in printed and "768 steps: about 0.00 core-hours" in printed
    assert not (tmp_path / "runs").exists()


def test_minutes_bound_the_hours_that_are_estimated(main, write, capsys):
    """Three runs, at most 6 minutes of 2 cores each."""
    main([write("fixed: {task: hard, minutes: 6}\nseeds: 3"), "--local", "--dry_run"])
    assert "about 0.60 core-hours" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "give one of SWEEP.yaml, --status DIR, --retry DIR and --best DIR"),
        (["a.yaml", "--status", "x"], "give one of"),
        (["a.yaml", "--local", "--slurm"], "--local, --slurm: leave one out"),
        (["--status", "x", "--results_dir", "y"], "--results_dir: the sweep is in x"),
        (["--status", "x", "--local"], "--local: is not for --status"),
        (["--best", "x", "--dry_run"], "--dry_run: is not for --best"),
        (["--status", "x"], f"x: is not the directory of a sweep: it has no {SWEEP_FILE}"),
        (["a.yaml"], "a.yaml: cannot be read"),
    ],
)
def test_mistakes_are_one_line(main, arguments, complaint):
    with pytest.raises(UserError) as caught:
        main(arguments)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_slurm_is_missed_where_it_is_not(main, write, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no sbatch on PATH; --local runs it"):
        main([write(f"fixed: {{{TINY}}}"), "--slurm"])


def test_what_runs_nothing_needs_no_experiment_launcher(main, write, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "experiment_launcher", None)
    monkeypatch.delitem(sys.modules, "qi_ext.sweeps.launching", raising=False)
    monkeypatch.delattr("qi_ext.sweeps.launching", raising=False)
    path = write(f"fixed: {{{TINY}}}\nseeds: 1")
    with pytest.raises(UserError, match="experiment-launcher is not installed"):
        main([path, "--local"])
    assert not (tmp_path / "runs").exists()
    folder = tmp_path / "runs" / "sweeps" / "tried"
    folder.mkdir(parents=True)
    (tmp_path / path).rename(folder / SWEEP_FILE)
    assert main(["--status", str(folder)]) == 1
    assert "1 trials: 1 not begun" in capsys.readouterr().out
