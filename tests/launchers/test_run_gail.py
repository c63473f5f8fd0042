"""The training launcher, from its command line to what a run leaves behind."""

import contextlib
import csv
import inspect
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qi_ext import load_agent
from qi_ext.training.checkpoints import Checkpoints
from qi_ext.training.config import all_options, make_config
from qi_ext.training.log import TAGS
from qi_ext.utils.command_line import run_command

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "launchers" / "run_gail.py"
DEADLINE = 120.0  # seconds, for a machine that is busy with other things
TINY = [
    *("--batch_size", "32", "--policy_hidden", "16", "--critic_hidden", "16", "--discriminator_hidden", "16"),
    *("--discriminator_batch_size", "32", "--learner_threads", "1", "--n_envs", "8"),
]


def start(*arguments, **variables):
    """The launcher as a process group of its own, on all processors and without a screen, signals as a terminal leaves them.

    Its workers hold its output too, so that reading that to the end shows that they have gone. variables: of its environment.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MUJOCO_GL", "LOKY_MAX_CPU_COUNT")
    }
    return subprocess.Popen(
        [sys.executable, LAUNCHER, *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)],
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def launcher():
    """The names in run_gail.py, in this process."""
    return runpy.run_path(str(LAUNCHER))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of two updates, where EGL is asked for and is not there: its directory, and what the launcher printed."""
    results_dir = tmp_path_factory.mktemp("runs")
    no_device = {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
    options = ("--n_steps", 64, "--evaluation_episodes", 1, "--seed", 7, "--results_dir", results_dir)
    process = start(*TINY, *options, **no_device)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    return results_dir / "7", out, err


def rows(directory):
    with open(directory / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_files(finished):
    directory, out, err = finished
    assert err == ""
    assert str(directory) in out
    names = {path.name for path in directory.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert events
    assert names - events == {"config.yaml", "progress.csv", "agent.safetensors", "checkpoints", "result.json", "report.html"}


def test_a_machine_that_cannot_draw_as_asked_trains_and_evaluates(finished):
    directory, _, err = finished
    assert err == ""
    assert "There is no film here" in (directory / "report.html").read_text()


def test_the_config_is_the_whole_experiment(finished):
    directory, _, _ = finished
    config = make_config(**yaml.safe_load((directory / "config.yaml").read_text()))
    assert config == make_config(
        n_steps=64,
        seed=7,
        evaluation_episodes=1,
        batch_size=32,
        policy_hidden=[16],
        critic_hidden=[16],
        discriminator_hidden=[16],
        discriminator_batch_size=32,
        learner_threads=1,
        n_envs=8,
        results_dir=str(directory.parent),
    )


def test_progress_is_a_row_an_update(finished):
    directory, _, _ = finished
    written = rows(directory)
    assert [row["step"] for row in written] == ["32", "64"]
    assert set(TAGS) < set(written[0])
    for name, value in written[-1].items():
        assert name in ("return_mean", "length_mean") or np.isfinite(float(value)), name


def test_curves_have_the_tags_that_people_look_for(finished):
    directory, _, _ = finished
    events = EventAccumulator(str(directory))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    sometimes = {"rollout/ep_rew_mean", "rollout/ep_len_mean"}  # not where no episode has ended
    assert tags >= set(TAGS.values()) - sometimes
    assert tags >= {"discriminator/discriminator_accuracy_policy", "discriminator/discriminator_accuracy_expert"}
    assert tags >= {"final/deterministic", "final/stochastic"}
    assert [event.step for event in events.Scalars("train/approx_kl")] == [32, 64]


def test_the_result_compares_the_agent_with_the_expert_and_chance_and_is_printed(finished):
    directory, out, _ = finished
    result = json.loads((directory / "result.json").read_text())
    assert (result["task"], result["algorithm"], result["seed"], result["steps"]) == ("simple", "gail", 7, 64)
    assert list(result["evaluation"]) == ["deterministic", "stochastic", "expert", "random"]
    (row,) = result["evaluation"]["expert"]["directions"]
    assert row["length_mean"] == 1000
    assert row["return_mean"] > 800
    (line,) = (line for line in out.splitlines() if "trot controller" in line)
    assert f"{result['evaluation']['expert']['return_mean']:.1f}" in line


def test_the_agent_and_its_checkpoint_can_be_loaded(finished):
    directory, _, _ = finished
    agents = [load_agent(path) for path in (directory / "agent.safetensors", directory / "checkpoints/64/agent.safetensors")]
    observations = np.random.default_rng(0).standard_normal((5, 37))
    np.testing.assert_array_equal(agents[0].act(observations), agents[1].act(observations))
    assert agents[0].metadata["step"] == "64"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, id="kill of all processes, as Slurm does"),
        pytest.param(signal.SIGINT, 130, id="Ctrl-C, which a terminal sends to all processes"),
    ],
)
def test_a_signal_ends_the_run_after_its_agent_is_saved_and_it_goes_on(tmp_path, launcher, number, code):
    process = start(*TINY, "--n_workers", 2, "--n_steps", 10_000_000, "--results_dir", tmp_path)
    directory, deadline = tmp_path / "0", time.monotonic() + DEADLINE
    try:
        while not ((directory / "progress.csv").is_file() and rows(directory)):
            assert time.monotonic() < deadline, "no update came to its end"
            try:
                pytest.fail(f"it ended by itself, {process.wait(0.1)}: {process.stderr.read()}")
            except subprocess.TimeoutExpired:
                continue
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (process.returncode, err) == (code, "")
    agent = load_agent(directory / "agent.safetensors")
    assert agent.act(np.zeros(37)).shape == (12,)
    step = int(agent.metadata["step"])
    assert f"stopped at {step:,} steps; go on with {sys.executable} {LAUNCHER} --resume {directory}" in out
    assert Checkpoints(directory).load_newest().step == step
    assert not (directory / "result.json").exists()
    again = launcher["experiment"](resume=str(directory), n_steps=step + 32, evaluation_episodes=0, pool="serial")
    assert again["steps"] == step + 32
    assert [int(row["step"]) for row in rows(directory)] == list(range(32, step + 33, 32))


def not_demonstrations(tmp_path):
    (tmp_path / "file.npz").write_bytes(b"not an npz")
    return ["--demonstrations", str(tmp_path / "file.npz")]


def a_full_directory(tmp_path):
    (tmp_path / "runs" / "0").mkdir(parents=True)
    (tmp_path / "runs" / "0" / "result.json").write_text("{}")
    return []


def a_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("mine")
    return []


@pytest.mark.parametrize(
    ("mistake", "part"),
    [
        (lambda tmp_path: ["--n_stepz", "5"], "--n_stepz"),
        (lambda tmp_path: ["--gamma", "2"], "--gamma"),
        (lambda tmp_path: ["--scheduler", "tcp://here:1"], "--pool dask"),
        (lambda tmp_path: ["--resume", str(tmp_path)], "no run has begun"),
        (lambda tmp_path: ["--device", "tpu"], "--device"),
        (lambda tmp_path: ["--demonstrations", str(tmp_path / "nowhere.npz")], "nowhere.npz"),
        (not_demonstrations, "file.npz"),
        (a_full_directory, "not empty"),
        (a_file_in_the_way, "not a directory"),
    ],
    ids=[
        "unknown option",
        "bad value",
        "scheduler without dask",
        "not a run",
        "unknown device",
        "no demonstrations",
        "bad demonstrations",
        "full directory",
        "file in the way",
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_and_creates_nothing(launcher, tmp_path, capsys, mistake, part):
    arguments = [*mistake(tmp_path), "--results_dir", str(tmp_path / "runs")]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        run_command("run_gail.py", lambda: launcher["main"](arguments))
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("run_gail.py: ")
    assert part in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_experiment_can_be_called_with_nothing_but_its_defaults(launcher, tmp_path):
    experiment = launcher["experiment"]
    settings = {name: parameter.default for name, parameter in inspect.signature(experiment).parameters.items()}
    small = {name.removeprefix("--"): [16] for name in TINY if name.endswith("_hidden")}
    result = experiment(
        **(
            settings
            | small
            | {"n_steps": 32, "batch_size": 32, "evaluation_episodes": 0, "results_dir": str(tmp_path), "pool": "serial"}
        )
    )
    assert (result["task"], result["algorithm"], result["steps"]) == ("simple", "gail", 32)


def test_every_setting_is_a_plain_keyword_of_experiment_with_a_default(launcher):
    """As experiment-launcher needs it to make a command line of a function."""
    parameters = inspect.signature(launcher["experiment"]).parameters
    assert set(parameters) == set(all_options()) | {"resume"}
    for name, parameter in parameters.items():
        assert parameter.annotation in (str, int, float, bool, list), name
        assert parameter.default is not inspect.Parameter.empty, name
        assert parameter.kind == inspect.Parameter.KEYWORD_ONLY, name


def test_print_config_prints_what_config_yaml_would_hold(launcher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    launcher["main"](["--task", "hard", "--gamma", "0.9", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == make_config("hard", gamma=0.9).settings()
    assert not list(tmp_path.iterdir())
