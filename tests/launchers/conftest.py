"""Fixtures of the tests of launchers: an agent of random weights, and a run that was really trained."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from qi_ext.agents.acting import Actor, save_agent

LAUNCHERS = Path(__file__).parents[2] / "launchers"
TINY = {"n_envs": 4, "n_steps": 128, "batch_size": 64, "policy_hidden": [16], "critic_hidden": [16]}
TINY |= {"discriminator_hidden": [16], "discriminator_batch_size": 32}


@pytest.fixture(scope="session")
def main_of():
    """main_of(launcher): the function `main` of launchers/LAUNCHER."""
    return lambda launcher: runpy.run_path(str(LAUNCHERS / launcher))["main"]


@pytest.fixture
def make_agent(tmp_path):
    """make_agent(name="agent", n_observations=37, **metadata): the path of an agent of small random weights, on simple."""

    def make(name="agent", n_observations=37, **metadata):
        random = np.random.default_rng(0)
        weight = random.normal(0.0, 0.001, (12, n_observations)).astype(np.float32)
        bias, mean = (random.normal(0.0, 0.01, n).astype(np.float32) for n in (12, n_observations))
        actor = Actor([(weight, bias)], mean, np.ones(n_observations, np.float32), np.full(12, -1.0, np.float32))
        path = tmp_path / f"{name}.safetensors"
        save_agent(path, actor, {"task": "simple", "algorithm": "gail", "demonstrations": "trot"} | metadata)
        return str(path)

    return make


@pytest.fixture(scope="session")
def experiment():
    """The function `experiment` of launchers/run_gail.py."""
    return runpy.run_path(str(LAUNCHERS / "run_gail.py"))["experiment"]


@pytest.fixture(scope="session")
def trained_run(experiment, tmp_path_factory):
    """The directory of a finished run of two updates on simple, without evaluation and report; not to be changed."""
    results_dir = tmp_path_factory.mktemp("runs") / "a <b>&"  # markup, where it is not escaped
    experiment(task="simple", pool="serial", evaluation_episodes=0, results_dir=str(results_dir), **TINY)
    return results_dir / "0"
