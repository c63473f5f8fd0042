import json
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from qi_ext.agents.acting import Actor
from qi_ext.evaluation import compare, compare_robustness, evaluate, gait_measures
from qi_ext.report.tables import gait_table, robustness_table, table
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.sampling.pool_source import BatchedSampler
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


@pytest.fixture(scope="module")
def measured(sampler, still):
    """The same with another beside it, measured."""
    measures = gait_measures(sampler.environment, seed=3, step=64)
    return compare(sampler, still, episodes=1, seed=3, step=64, beside=still, measures=measures)


def written(results, source=""):
    return shown(table(results, source))


def shown(rendered):
    console = Console(width=120, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(rendered)
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


def test_measures_are_of_all_but_chance_and_change_no_other_figure(compared, measured):
    assert list(measured) == ["deterministic", "stochastic", "beside", "expert", "random"]
    assert measured["random"] == compared[0]["random"]
    for name in NAMES[:-1]:
        for row, known in zip(measured[name]["directions"], compared[0][name]["directions"], strict=True):
            assert row | known == row
            assert set(row) > set(known)
    assert measured["beside"] == measured["deterministic"]


def test_measured_results_are_plain_data(measured):
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_the_mean_is_over_the_directions_that_have_a_figure(measured):
    for name in NAMES[:-1]:
        result = measured[name]
        for figure, mean in result["mean"].items():
            values = [row[figure] for row in result["directions"] if row[figure] is not None]
            if figure != "feet":
                assert mean == (pytest.approx(np.mean(values)) if values else None), (name, figure)


def test_the_gait_is_shown_beside_the_trot_controllers_in_each_direction(measured):
    text = shown(gait_table(measured))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    rows = [line.replace("│", " ").split() for line in lines if "deterministic " in line or "trot controller " in line]
    assert [row[:2] for row in rows] == [
        [direction, policy] for direction in ("0", "180", "mean") for policy in ("deterministic", "trot")
    ]
    energy = measured["expert"]["mean"]["energy_per_metre"]
    assert f"{energy:.0f}" in rows[-1]
    assert "random" not in text


def test_what_there_is_no_figure_of_is_a_dash(measured):
    one = {"expert": measured["expert"] | {"directions": measured["expert"]["directions"][:1]}}
    one["expert"]["directions"][0] = one["expert"]["directions"][0] | {"foot_clearance": None}
    (row,) = (line for line in shown(gait_table(one)).splitlines() if "trot controller" in line and "0.0" in line)
    assert " - " in row
    assert "mean " not in shown(gait_table(one))


def test_the_table_of_robustness_has_the_mean_the_lowest_direction_and_all_falls(sampler, still):
    results = compare_robustness(sampler, still, 1, seed=3)
    lines = shown(robustness_table(results)).splitlines()
    assert max(map(len, lines)) <= 120
    for row in results:
        (line,) = (line for line in lines if f" {row['condition']} " in line)
        for name in ("deterministic", "expert"):
            directions = row[name]["directions"]
            assert f"{row[name]['return_mean']:.1f} ({min(found['return_mean'] for found in directions):.1f})" in line
            assert f"{sum(found['falls'] for found in directions)}/2" in line
