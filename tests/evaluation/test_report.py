import json

import numpy as np
import pytest
from rich.console import Console

from qi_ext.acting import Actor
from qi_ext.evaluation import compare, table
from qi_ext.tasks import QuadrupedDirection

NAMES = ["deterministic", "stochastic", "expert", "random"]


@pytest.fixture(scope="module")
def compared():
    """A policy that never moves, beside the others, in two directions; and how often progress was told."""
    zeros = np.zeros(37, dtype=np.float32)
    still = Actor([(np.zeros((12, 37), dtype=np.float32), np.zeros(12, dtype=np.float32))], zeros, zeros, zeros[:12] - 1.0)
    said = []
    environment = QuadrupedDirection("hard", n_directions=2, horizon=20)
    return compare(environment, still, episodes=1, seed=0, progress=lambda: said.append(1)), len(said)


def written(results, source=""):
    console = Console(width=120, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(table(results, source))
    return captured.get()


def test_a_source_with_brackets_is_shown_as_it_is(compared):
    assert "demonstrations: walk[/b][new].npz" in written(compared[0], "walk[/b][new].npz")


def test_an_agent_is_compared_with_the_expert_and_chance(compared):
    results, _ = compared
    assert list(results) == NAMES
    assert results["expert"]["return_mean"] > results["deterministic"]["return_mean"]
    assert results["deterministic"] != results["stochastic"]


def test_progress_is_told_for_each_policy_direction_and_episode(compared):
    assert compared[1] == 4 * 2 * 1


def test_results_are_plain_data(compared):
    assert json.loads(json.dumps(compared[0], allow_nan=False)) == compared[0]


def test_the_table_has_each_policy_in_each_direction_and_its_mean(compared):
    results, _ = compared
    lines = written(results).splitlines()
    for name in ("deterministic", "stochastic", "trot controller", "random torques"):
        rows = [line.split() for line in lines if name in line]
        assert len(rows) == 3, name
    best = results["expert"]["directions"][1]
    assert any("180" in line and f"{best['return_mean']:.1f}" in line and "trot controller" in line for line in lines)


def test_a_single_direction_has_no_mean_row(compared):
    one = {"deterministic": compared[0]["deterministic"] | {"directions": compared[0]["deterministic"]["directions"][:1]}}
    assert "mean " not in written(one).split("falls")[1]
