"""The evaluation launcher, on agents that were never trained."""

import json
import runpy
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from qi_ext import load_agent
from qi_ext.evaluation import evaluate, gait_measures
from qi_ext.learning import make_learner
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.sampling.controllers import PolicyController, RandomController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.config import make_config
from qi_ext.utils.errors import UserError

LAUNCHER = Path(__file__).parents[2] / "launchers" / "evaluate.py"
POLICIES = ["deterministic", "stochastic", "expert", "random"]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(LAUNCHER))["main"]


@pytest.fixture
def agent(tmp_path):
    def save(**metadata):
        path = tmp_path / "agent.safetensors"
        policy = GaussianPolicy(37, 12, [16], 0.7, np.random.SeedSequence(0))
        policy.save_agent(path, {"task": "hard", "n_directions": "2", "algorithm": "gail", "demonstrations": "trot"} | metadata)
        return str(path)

    return save


def test_prints_and_writes_every_policy_in_every_direction(main, agent, tmp_path, capsys):
    main(["--agent", agent(), "--episodes", "1", "--json", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert list(results) == POLICIES
    for name in POLICIES:
        assert [row["direction_deg"] for row in results[name]["directions"]] == [0.0, 180.0]
        for row in results[name]["directions"]:
            assert set(row) >= {"direction_deg", "return_mean", "return_std", "length_mean", "falls", "blow_ups", "episodes"}
            assert row["episodes"] == 1
    assert results["expert"]["return_mean"] > 900.0
    assert results["expert"]["directions"][0]["falls"] == 0
    assert results["random"]["return_mean"] < 100.0
    printed = capsys.readouterr().out
    for words in ("deterministic", "stochastic", "trot controller", "random torques", "synthetic", "how it walks"):
        assert words in printed
    rows = [line for line in printed.splitlines() if "│" in line]
    assert max(map(len, rows)) <= 120
    (mean,) = (line for line in rows if "mean" in line and "trot controller" in line and "2.5" in line)
    assert f"{results['expert']['mean']['duty_factor']:.3f}" in mean


def test_robustness_and_another_agent_beside(main, agent, tmp_path, capsys, monkeypatch):
    for name, fewer in (("PUSHES", (60.0,)), ("NOISES", ()), ("SPEEDS", (0.7,))):
        monkeypatch.setattr(f"qi_ext.evaluation.robustness.{name}", fewer)
    path = agent(task="simple")
    main(["--agent", path, "--beside", path, "--robustness", "--episodes", "1", "--json", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert list(results) == ["deterministic", "stochastic", "beside", "expert", "random", "robustness"]
    assert results["beside"] == results["deterministic"]
    for row in results["robustness"]:
        assert list(row) == ["condition", "deterministic", "beside", "expert"]
    for name in ("deterministic", "expert"):
        undisturbed = results["robustness"][0][name]["directions"][0]
        assert undisturbed == {key: results[name]["directions"][0][key] for key in undisturbed}
    printed = capsys.readouterr().out
    for words in ("pushes of 60 N", "speed 0.7 m/s", "agent beside", path):
        assert words in printed
    assert "turned" not in printed


def test_repeats_the_evaluation_of_the_run(main, agent, tmp_path):
    """Seed, step and lanes per block of the run are in the agent's file; episodes are keyed by the first two."""
    path = agent(task="simple", seed="3", step="128", lanes_per_block="2")
    main(["--agent", path, "--episodes", "2", "--pool", "serial", "--json", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    environment = QuadrupedDirection("simple")
    measures = gait_measures(environment, seed=3, step=128)
    with closing(BatchedSampler(environment, 2, "serial")) as sampler:
        stochastic = evaluate(sampler, PolicyController(load_agent(path)), 2, seed=3, step=128, measures=measures)
        assert results["stochastic"] == stochastic
        assert results["random"] == evaluate(sampler, RandomController(), 2, seed=3, step=128)


def test_the_pool_and_its_size_are_not_in_the_results(main, agent, tmp_path):
    results = []
    for options in (["--pool", "serial"], ["--n_workers", "3"]):
        main(["--agent", agent(task="simple"), "--episodes", "1", *options, "--json", str(tmp_path / "out.json")])
        results.append(json.loads((tmp_path / "out.json").read_text()))
    assert results[0] == results[1]


def test_in_the_stock_environment_the_agent_is_evaluated_both_ways_beside_the_expert(main, agent, tmp_path, capsys):
    main(["--agent", agent(task="simple"), "--episodes", "1", "--env", "stock", "--json", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert list(results) == ["deterministic", "stochastic", "expert"]
    assert results["expert"]["return_mean"] > 900.0
    printed = " ".join(capsys.readouterr().out.split())
    assert results["expert"]["environment"] in printed
    for words in ("stock UnitreeA1 of loco-mujoco", "no patches", "trot controller", "synthetic"):
        assert words in printed


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--env", "theirs"], "--env: must be ours or stock, not 'theirs'"),
        (["--env", "stock", "--robustness"], "--robustness: not with --env stock"),
        (["--env", "stock", "--pool", "serial"], "--pool: not with --env stock"),
        (["--env", "stock", "--demonstrations", "missing.npz"], "missing.npz"),
    ],
)
def test_a_mistake_about_the_environment_is_one_line(main, agent, options, named):
    with pytest.raises(UserError) as caught:
        main(["--agent", agent(), *options])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_agent_saved_by_mushroom_rl_can_be_evaluated(main, tmp_path, capsys):
    environment = QuadrupedDirection("simple")
    config = make_config(policy_hidden=[16], critic_hidden=[16], discriminator_hidden=[16])
    path = tmp_path / "agent.safetensors"
    make_learner(config, environment.info, environment.demonstrations, np.random.SeedSequence(0)).save(path)
    main(["--agent", str(path), "--episodes", "1", "--pool", "serial"])
    assert "trot controller" in capsys.readouterr().out


@pytest.mark.parametrize("where", [["--pool", "serial"], ["--env", "stock"]])
def test_says_that_the_demonstrations_have_changed(main, agent, capsys, where):
    main(["--agent", agent(task="simple", demonstrations_hash="0" * 16), "--episodes", "1", *where])
    assert "trot has changed since the agent was trained on it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("metadata", "options", "named"),
    [
        ({}, ["--episodes", "0"], "--episodes"),
        ({}, ["--episodes", "ten"], "--episodes: must be a whole number, not ten"),
        ({}, ["--seed", "-1"], "--seed"),
        ({}, ["--json", "/missing/directory/out.json"], "--json"),
        ({}, ["--json", "/proc/out.json"], "--json"),
        ({}, ["--demonstrations", "missing.npz"], "missing.npz"),
        ({"demonstrations": "gone.npz"}, [], "--demonstrations"),
        ({"n_directions": "many"}, [], "metadata"),
        ({"lanes_per_block": "some"}, [], "metadata"),
        ({}, ["--n_workers", "0"], "--n_workers"),
        ({}, ["--n_workers", "-1"], "--n_workers"),
        ({}, ["--n_workers", "abc"], "--n_workers: must be auto or a whole number, not 'abc'"),
        ({}, ["--pool", "foo"], "--pool"),
        ({}, ["--scheduler", "tcp://here:1"], "--scheduler"),
        ({}, ["--pool", "dask"], "--scheduler"),
        ({}, ["--colour", "red"], "--colour"),
        ({}, ["--beside", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_a_mistake_is_one_line(main, agent, metadata, options, named):
    with pytest.raises(UserError) as caught:
        main(["--agent", agent(**metadata), *options])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_agent_is_one_line(main, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        main(["--agent", str(tmp_path / "none.safetensors")])


def test_an_agent_of_another_robot_is_one_line(main, agent, tmp_path):
    path = tmp_path / "other.safetensors"
    GaussianPolicy(30, 12, [16], 0.7, np.random.SeedSequence(0)).save_agent(path, {"task": "hard"})
    for options in (["--agent", str(path)], ["--agent", agent(), "--beside", str(path)]):
        with pytest.raises(UserError, match=r"other\.safetensors: it takes 30 numbers"):
            main(options)
