"""The evaluation launcher, on agents of random weights."""

import json
from contextlib import closing

import pytest

from qi_ext import load_agent
from qi_ext.evaluation import evaluate, gait_measures
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.errors import UserError


@pytest.fixture(scope="module")
def main(main_of):
    return main_of("evaluate.py")


def test_every_policy_is_printed_and_written_keyed_as_in_the_run(main, make_agent, tmp_path, capsys):
    """Seed, step and lanes per block of the run are in the agent's file."""
    agent, output = make_agent(seed="3", step="128", lanes_per_block="2", demonstrations_hash="0" * 16), tmp_path / "out.json"
    main(["--agent", agent, "--episodes", "1", "--pool", "serial", "--json", str(output)])
    results = json.loads(output.read_text())
    assert list(results) == ["deterministic", "stochastic", "expert", "random"]
    assert results["expert"]["return_mean"] > 900.0
    assert results["random"]["return_mean"] < 100.0
    environment = QuadrupedDirection("simple")
    with closing(PoolSource(environment, lanes_per_block=2, pool="serial")) as source:
        measures = gait_measures(environment, seed=3, step=128)
        stochastic = evaluate(source, PolicyController(load_agent(agent)), 1, seed=3, step=128, measures=measures)
    assert results["stochastic"] == stochastic
    printed = capsys.readouterr().out
    for words in ("deterministic", "stochastic", "trot controller", "random torques", "synthetic", "how it walks"):
        assert words in printed
    assert "note: trot has changed since the agent was trained on it" in printed


@pytest.mark.extensive
def test_robustness_and_another_agent_beside(main, make_agent, tmp_path, capsys, monkeypatch):
    for name, fewer in (("PUSHES", (60.0,)), ("NOISES", ()), ("SPEEDS", (0.7,))):
        monkeypatch.setattr(f"qi_ext.evaluation.robustness.{name}", fewer)
    agent, output = make_agent(), tmp_path / "out.json"
    main(["--agent", agent, "--beside", agent, "--robustness", "--episodes", "1", "--json", str(output)])
    results = json.loads(output.read_text())
    assert list(results) == ["deterministic", "stochastic", "beside", "expert", "random", "robustness"]
    assert results["beside"] == results["deterministic"]
    for row in results["robustness"]:
        assert list(row) == ["condition", "deterministic", "beside", "expert"]
    for name in ("deterministic", "expert"):
        undisturbed = results["robustness"][0][name]["directions"][0]
        assert undisturbed == {key: results[name]["directions"][0][key] for key in undisturbed}
    printed = capsys.readouterr().out
    for words in ("pushes of 60 N", "speed 0.7 m/s", "agent beside", agent):
        assert words in printed
    assert "turned" not in printed


@pytest.mark.extensive
def test_in_the_stock_environment_the_agent_is_evaluated_both_ways_beside_the_expert(main, make_agent, tmp_path, capsys):
    output = tmp_path / "out.json"
    main(["--agent", make_agent(), "--episodes", "1", "--env", "stock", "--json", str(output)])
    results = json.loads(output.read_text())
    assert list(results) == ["deterministic", "stochastic", "expert"]
    assert results["expert"]["return_mean"] > 900.0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (results["expert"]["environment"], "no patches", "trot controller", "synthetic"):
        assert words in printed


@pytest.mark.parametrize(
    ("metadata", "options", "words"),
    [
        ({}, ["--episodes", "0"], "--episodes: must be at least 1"),
        ({}, ["--episodes", "ten"], "--episodes: must be a whole number, not"),
        ({}, ["--seed", "-1"], "--seed: must be at least 0"),
        ({}, ["--json", "/missing/directory/out.json"], "--json"),
        ({}, ["--demonstrations", "missing.npz"], "missing.npz"),
        ({"demonstrations": "gone.npz"}, [], "choose others with --demonstrations"),
        ({"n_directions": "many"}, [], "in its metadata, n_directions: must be a whole number, not 'many'"),
        ({"task": "../../x"}, [], "in its metadata, task: must be simple, hard or follow, not '../../x'"),
        ({"n_directions": "-5"}, [], "in its metadata, n_directions: must be at least 1, not -5"),
        ({"n_directions": "1000000000"}, [], "in its metadata, n_directions: must be at most 360"),
        ({"speeds": "0.3 0.7"}, [], "in its metadata, speeds: only hard"),
        ({"speed": "nan"}, [], "in its metadata, speed: must be a finite number"),
        ({"lanes_per_block": "0"}, [], "in its metadata, lanes_per_block: must be at least 1"),
        ({"step": "1e400"}, [], "in its metadata, step: must be a finite number, not"),
        ({"demonstrations": "/dev/zero"}, [], "/dev/zero: is a device, FIFO or socket, not a file"),
        ({}, ["--episodes", "1" * 30], "--episodes: must be at most 1000000"),
        ({"n_observations": 30}, [], "it takes 30 numbers"),
        ({}, ["--n_workers", "0"], "--n_workers"),
        ({}, ["--pool", "dask"], "--scheduler"),
        ({}, ["--colour", "red"], "--colour"),
        ({}, ["--agent", "missing.safetensors"], "no such file"),
        ({}, ["--beside", "missing.safetensors"], "no such file"),
        ({}, ["--env", "theirs"], "--env: must be ours or stock, not 'theirs'"),
        ({}, ["--env", "stock", "--robustness"], "--robustness: not with --env stock"),
        ({}, ["--env", "stock", "--pool", "serial"], "--pool: not with --env stock"),
        ({}, ["--courses", "circle"], "where commands stay"),
        ({"task": "follow"}, ["--env", "stock"], "stock is told no heading"),
        ({"task": "follow"}, ["--courses", "circel"], "no course 'circel'"),
    ],
)
def test_a_mistake_is_one_line(main, make_agent, metadata, options, words):
    with pytest.raises(UserError) as caught:
        main(["--agent", make_agent(**metadata), *options])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
