"""The comparison of an agent with the trot controller and random torques."""

import json

import numpy as np
import pytest

from qi_ext.evaluation import compare, evaluate, evaluate_agent
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController


@pytest.fixture(scope="module")
def evaluated(source, limp):
    """An actor, the same beside it, and the others, one episode in each direction."""
    return evaluate_agent(source, limp, episodes=1, seed=3, step=64, beside=limp)


def test_each_result_is_that_of_its_controller_with_the_measures_beside(source, limp, evaluated):
    controllers = {
        "deterministic": PolicyController(limp, deterministic=True),
        "stochastic": PolicyController(limp),
        "beside": PolicyController(limp, deterministic=True),
        "expert": ExpertController(),
        "random": RandomController(),
    }
    assert list(evaluated) == list(controllers)
    for name, controller in controllers.items():
        plain = evaluate(source, controller, 1, seed=3, step=64)
        for row, known in zip(evaluated[name]["directions"], plain["directions"], strict=True):
            assert row | known == row, name
    assert evaluated["random"] == plain  # it is not measured
    assert evaluated["beside"] == evaluated["deterministic"]
    assert evaluated["expert"]["return_mean"] > evaluated["deterministic"]["return_mean"]


def test_progress_is_told_for_each_policy_direction_and_episode(source, limp):
    progress = []
    assert list(compare(source, limp, 1, seed=3, progress=progress.append)) == [
        "deterministic",
        "stochastic",
        "expert",
        "random",
    ]
    assert sum(progress) == 4 * 2 * 1


def test_results_are_plain_data(evaluated):
    assert json.loads(json.dumps(evaluated, allow_nan=False)) == evaluated


def test_the_mean_is_over_the_directions_that_have_a_number(evaluated):
    for name in ("deterministic", "expert"):
        result = evaluated[name]
        for key, mean in result["mean"].items():
            values = [row[key] for row in result["directions"] if row[key] is not None]
            if key != "feet":
                assert mean == (pytest.approx(np.mean(values)) if values else None), (name, key)
        touch_downs = [row["feet"]["FL"]["stride_frequency"] for row in result["directions"]]
        assert result["mean"]["feet"]["FL"]["stride_frequency"] == pytest.approx(np.mean(touch_downs))


def test_the_trot_controller_is_near_its_demonstrations(evaluated):
    assert evaluated["expert"]["mean"]["state_distance"] < 0.3 * evaluated["deterministic"]["mean"]["state_distance"]
