"""Scripts of one's own, checkouts that were copied, and printed commands: what runs, and from where."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 240.0  # seconds, for a machine that is busy with other things
TINY = {"n_steps": 64, "batch_size": 32, "n_envs": 8, "n_workers": 2, "policy_hidden": [16], "critic_hidden": [16]}
TINY |= {"discriminator_hidden": [16], "discriminator_batch_size": 32}
pytestmark = pytest.mark.extensive


def run(words, folder, path=""):
    """What a process printed that ended well. folder: it is started in. path: PYTHONPATH."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("drawing")
def test_a_script_without_a_main_guard_is_run_once_whatever_is_stepped_evaluated_and_drawn(tmp_path):
    (tmp_path / "mine.py").write_text(f"""
from launchers.run_gail import experiment
from qi_ext.report import page

page.FILM_SECONDS = 0.4
print("begins", flush=True)
result = experiment(evaluation_episodes=1, results_dir="runs", **{TINY})
print("ended at", result["steps"])
""")
    said = run([sys.executable, "mine.py"], tmp_path, ROOT)
    assert (said.count("begins"), said.count("ended at 64")) == (1, 1)
    assert "video/mp4" in (tmp_path / "runs" / "0" / "report.html").read_text()


@pytest.fixture
def copy(tmp_path):
    """A copy of this checkout, in a folder with a space in its name, which says of itself that it is imported."""
    folder = tmp_path / "a copy"
    for name in ("qi_ext", "patches", "launchers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "qi_ext" / "__init__.py", "a") as file:
        file.write('\nprint("the copy is imported", flush=True)\n')
    return folder


def test_the_checkout_that_a_launcher_lies_in_is_what_runs_in_its_processes_too(copy):
    (copy / "sweep.yaml").write_text("fixed: {n_steps: 64, batch_size: 32, n_envs: 8, evaluation_episodes: 0}\nseeds: 1\n")
    words = [sys.executable, copy / "launchers" / "sweep.py", copy / "sweep.yaml", "--local", "--results_dir", copy / "runs"]
    said = run(words, ROOT, ROOT)  # in the original's folder, and with the original on the path
    assert "the copy is imported" in said
    (log,) = copy.glob("runs/**/trial.log")
    assert "the copy is imported" in log.read_text()


@pytest.mark.parametrize("launcher", sorted(path.name for path in (ROOT / "launchers").glob("*.py")))
def test_each_launcher_runs_the_checkout_that_it_lies_in(copy, launcher):
    assert "the copy is imported" in run([sys.executable, copy / "launchers" / launcher, "--help"], ROOT, ROOT)


def test_a_printed_command_works_from_any_folder(copy):
    settings = ["--n_steps=64", "--batch_size=32", "--n_envs=8", "--evaluation_episodes=0", "--pool=serial"]
    said = run([sys.executable, "launchers/run_gail.py", *settings, "--results_dir=my runs"], copy)
    _, _, command = said.rpartition("evaluate it again: ")
    assert "deterministic" in run(["sh", "-c", f"{command.strip()} --episodes 1 --pool serial"], "/")
