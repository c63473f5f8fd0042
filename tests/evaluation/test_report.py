import json
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from qi_ext.acting import Actor
from qi_ext.evaluation import compare, evaluate, table
from qi_ext.sampling.batched import BatchedSampler
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.tasks import QuadrupedDirection

NAMES = ["deterministic", "stochastic", "expert", "random"]


@pytest.fixture(scope="module")
def sampler():
    """Two directions, episodes of at most 20 steps."""
    environment = QuadrupedDirection("hard", n_directions=2, horizon=20)
    with closing(BatchedSampler(environment, pool="serial")) as sampler:
        yield sampler


@pytest.fixture(scope="module")
def still():
    """A policy whose mean never moves."""
    zeros = np.zeros(37, dtype=np.float32)
    return Actor([(np.zeros((12, 37), dtype=np.float32), np.zeros(12, dtype=np.float32))], zeros, zeros, zeros[:12] - 1.0)


@pytest.fixture(scope="module")
def compared(sampler, still):
    """That policy beside the others, and of how many episodes progress was told."""
    said = []
    return compare(sampler, still, episodes=1, seed=3, step=64, progress=said.append), sum(said)


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


def test_each_result_is_that_of_its_controller(compared, sampler, still):
    controllers = (PolicyController(still, deterministic=True), PolicyController(still), ExpertController(), RandomController())
    for name, controller in zip(NAMES, controllers, strict=True):
        assert compared[0][name] == evaluate(sampler, controller, 1, seed=3, step=64), name


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
