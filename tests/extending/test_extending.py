"""The seams, from outside: each file beside this one adds one thing by public names, and is used as a person would."""

import csv
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from qi_ext.demonstrations import load_demonstrations
from qi_ext.experiment import run_experiment
from qi_ext.learning import INPUTS
from qi_ext.sampling import PoolSource
from qi_ext.sampling.controllers import ExpertController
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import task_commands
from qi_ext.training.algorithms import ALGORITHMS
from qi_ext.training.resume import find_start

TINY = {"n_envs": 4, "batch_size": 64, "pool": "serial", "evaluation_episodes": 0, "checkpoint_every": 0.0}


@pytest.fixture(scope="module")
def beside(load_module):
    """beside(name): the module NAME.py of this folder."""
    return lambda name: load_module(Path(__file__).with_name(f"{name}.py"))


@pytest.fixture
def register(beside):
    """register(registry, name): imports a neighbour that adds itself to the registry, until the test ends."""
    before = []

    def register(registry, name):
        before.append((registry, dict(registry)))
        return beside(name)

    yield register
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.fixture(scope="module")
def run_gail(load_module):
    """The launcher run_gail.py, as a module."""
    return load_module(Path(__file__).parents[2] / "launchers" / "run_gail.py")


def test_a_commanded_speed_that_changes_within_an_episode_is_stepped_alike_by_pool_and_environment(beside):
    changing, commands = beside("changing_speed"), task_commands("hard")
    demonstrations = load_demonstrations("trot", commands)
    task = changing.ChangingSpeed("changing speed", commands, demonstrations)
    environment = QuadrupedDirection(task, demonstrations=demonstrations, seed=0)
    source = PoolSource(environment, n_envs=1, lanes_per_block=1, pool="serial")
    envs = source.envs([np.random.SeedSequence(0)])
    source.tell(envs, commands[2:3])
    ((_, rollouts),) = source.run_episodes(envs, ExpertController())
    speeds = rollouts.observations[0, :, -1]
    assert (speeds[50], speeds[150], speeds[250]) == changing.SPEEDS
    observation = environment.reset(rollouts.observations[0, 0])
    for t in range(260):
        np.testing.assert_allclose(observation, rollouts.observations[0, t], rtol=0.0, atol=1e-9)
        observation, reward, absorbing, _ = environment.step(rollouts.actions[0, t])
        assert abs(reward - rollouts.rewards[0, t]) < 1e-9 and absorbing == rollouts.absorbing[0, t]


def test_a_least_squares_discriminator_trains_by_run_gails_own_machinery(register, run_gail, tmp_path, capsys):
    register(ALGORITHMS, "least_squares_amp")
    with pytest.raises(SystemExit):
        run_gail.main(["--algorithm", "amp", "--help"])
    assert "--reward_scale" in capsys.readouterr().out
    options = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    run_gail.main(["--algorithm", "amp", "--reward_scale", "0.5", "--n_steps", "128", "--results_dir", str(tmp_path), *options])
    assert "reward_scale: 0.5" in (tmp_path / "0" / "config.yaml").read_text()
    with open(tmp_path / "0" / "progress.csv") as file:
        rewards = [float(row["reward"]) for row in csv.DictReader(file)]
    assert len(rewards) == 2 and all(0.0 < reward < 0.5 for reward in rewards)


def test_a_discriminator_sees_joints_only(register, run_gail, tmp_path):
    register(INPUTS, "joints_only")
    run_gail.experiment(**TINY, discriminator_input="joints", n_steps=64, results_dir=str(tmp_path))
    checkpoint = load_file(tmp_path / "0" / "checkpoints" / "64" / "checkpoint.safetensors")
    assert checkpoint["agent/discriminator/normalizer.mean"].shape == (48,)


def test_a_source_of_ones_own_drives_a_whole_training_and_resumes_exactly(beside, tmp_path):
    make_source = beside("toy_source").GlidingSource
    settings = TINY | {"n_steps": 192, "results_dir": str(tmp_path / "whole")}
    whole = Path(run_experiment(find_start(settings), make_source)["directory"])
    part = tmp_path / "part" / "0"
    run_experiment(find_start(settings | {"n_steps": 128, "results_dir": str(part.parent)}), make_source)
    run_experiment(find_start({"n_steps": 192}, resume=str(part)), make_source)
    one, two = (load_file(path / "agent.safetensors") for path in (whole, part))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
