"""run_gail.py --backend imitation_lib: the published agents in our pool, with our logging, checkpoints and evaluation."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qi_ext import load_agent

ROOT = Path(__file__).parents[3]
both = pytest.mark.parametrize("algorithm", ["gail", "vail"])
TINY = {
    "n_steps": 128,
    "batch_size": 64,
    "n_envs": 4,
    "lanes_per_block": 2,
    "pool": "serial",
    "policy_hidden": [16],
    "critic_hidden": [16],
    "discriminator_hidden": [16, 8],
    "discriminator_batch_size": 32,
    "discriminator_every": 1,
    "evaluation_episodes": 0,
    "checkpoint_every": 0.0,
    "backend": "imitation_lib",
}


@pytest.fixture(autouse=True)
def unpatched_again():
    yield
    import patches

    patches.revert()


def run(settings, resume=""):
    from qi_ext.training.resume import find_start
    from qi_ext.training.training_run import TrainingRun

    with TrainingRun(find_start(settings, str(resume))) as training:
        training.train()
    return training


def rows(directory):
    clock = ("steps_per_second", "collect_seconds", "learn_seconds")
    with open(directory / "progress.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in clock} for row in csv.DictReader(file)]


@both
def test_one_command_trains_the_published_agent_and_evaluates_it(algorithm, tmp_path):
    settings = TINY | {"algorithm": algorithm, "results_dir": tmp_path, "evaluation_episodes": 1, "pool": "loky"}
    options = [(f"--{name}", *(value if type(value) is list else [value])) for name, value in settings.items()]
    command = [sys.executable, ROOT / "launchers" / "run_gail.py", *(str(word) for option in options for word in option)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    directory = tmp_path / "0"
    result = json.loads((directory / "result.json").read_text())
    assert (result["steps"], result["algorithm"]) == (128, algorithm)
    assert set(result["evaluation"]) >= {"deterministic", "stochastic"}
    assert all(float(row["kl"]) > 0.0 for row in rows(directory))
    assert np.isfinite(load_agent(directory / "agent.safetensors").act(np.zeros(37))).all()


@both
def test_the_numbers_do_not_depend_on_the_workers_nor_on_global_generators(algorithm, tmp_path):
    found = []
    for i, pool in enumerate(({"pool": "serial"}, {"pool": "loky", "n_workers": "2"})):
        np.random.seed(i)  # noqa: NPY002
        directory = run(TINY | pool | {"algorithm": algorithm, "results_dir": str(tmp_path / str(i))}).directory.path
        found.append((rows(directory), load_agent(directory / "agent.safetensors").act(np.zeros(37)).tobytes()))
    assert found[0] == found[1]


@both
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_to_the_last_bit(algorithm, tmp_path):
    settings = TINY | {"algorithm": algorithm, "discriminator_every": 2}
    whole = run(settings | {"results_dir": str(tmp_path / "whole"), "n_steps": 256}).directory.path
    half = run(settings | {"results_dir": str(tmp_path / "half"), "n_steps": 64}).directory.path
    run({"n_steps": 256}, resume=half)
    assert rows(whole) == rows(half)
    first, second = (load_agent(directory / "agent.safetensors").act(np.ones(37)) for directory in (whole, half))
    assert first.tobytes() == second.tobytes()


def test_its_policy_acts_as_the_published_network_does(tmp_path):
    import torch

    agent = run(TINY | {"algorithm": "vail", "results_dir": str(tmp_path)}).learner
    network = agent.published.policy._mu.model.network.eval()
    observations = np.random.default_rng(0).normal(size=(50, 37)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(agent.policy.actor.mean(observations), expected, atol=1e-5)


def test_a_discriminator_of_actions_refuses_demonstrations_without_them():
    from dataclasses import replace

    from qi_ext.demonstrations import load_demonstrations
    from qi_ext.tasks.directions import task_commands
    from qi_ext.training.config import make_config
    from qi_ext.training.learner import make_learner
    from qi_ext.utils.errors import UserError

    config = make_config(**TINY | {"discriminator_input": "action"})
    demonstrations = replace(load_demonstrations("trot", task_commands("simple")), actions=None)
    with pytest.raises(UserError, match="--discriminator_input"):
        make_learner(config, None, demonstrations, np.random.SeedSequence(0))


@both
def test_a_run_may_change_between_cpu_and_gpu(algorithm, tmp_path, fake_cuda, monkeypatch):
    import contextlib

    import torch

    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())  # there is but the one that is pretended
    settings = TINY | {"algorithm": algorithm, "results_dir": str(tmp_path), "n_steps": 64, "device": "cuda"}
    agent = run(settings).learner
    assert agent.published.policy._log_sigma.device.type == "cuda"
    for n_steps, device in ((128, "cpu"), (192, "cuda")):
        agent = run({"n_steps": n_steps, "device": device}, resume=tmp_path / "0").learner
        assert agent.published.policy._log_sigma.device.type == device
    assert len(rows(tmp_path / "0")) == 3
