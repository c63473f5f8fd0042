"""The evaluation launcher, on agents that were never trained."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from qi_ext.errors import UserError
from qi_ext.evaluation.episodes import evaluate, random_controller
from qi_ext.imitation.policy import GaussianPolicy
from qi_ext.tasks import QuadrupedDirection

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
            assert set(row) >= {"direction_deg", "return_mean", "return_std", "length_mean", "falls", "episodes"}
            assert row["episodes"] == 1
    assert results["expert"]["return_mean"] > 900.0
    assert results["expert"]["directions"][0]["falls"] == 0
    assert results["random"]["return_mean"] < 100.0
    printed = capsys.readouterr().out
    for words in ("deterministic", "stochastic", "trot controller", "random torques", "synthetic"):
        assert words in printed


def test_repeats_the_evaluation_of_the_run(main, agent, tmp_path):
    """Seed and step of the run are in the agent's file; episodes are keyed by them."""
    path = agent(task="simple", seed="3", step="128")
    main(["--agent", path, "--episodes", "2", "--json", str(tmp_path / "out.json")])
    environment = QuadrupedDirection("simple")
    again = evaluate(environment, random_controller, 2, seed=3, step=128)
    assert json.loads((tmp_path / "out.json").read_text())["random"] == again


def test_says_that_the_demonstrations_have_changed(main, agent, capsys):
    main(["--agent", agent(task="simple", demonstrations_hash="0" * 16), "--episodes", "1"])
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
        ({}, ["--colour", "red"], "--colour"),
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
