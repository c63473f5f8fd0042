"""What a policy is evaluated under, and that nothing but the named disturbance is different."""

from contextlib import closing

import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.evaluation import compare_robustness, conditions, evaluate
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import task_commands


@pytest.fixture(scope="module")
def still():
    """A policy that lets go."""
    zeros = np.zeros(37, dtype=np.float32)
    return Actor([(np.zeros((12, 37), dtype=np.float32), np.zeros(12, dtype=np.float32))], zeros, zeros, zeros[:12] - 1.0)


def test_conditions_of_the_hard_task():
    commands = task_commands("hard")
    found = {condition.name: condition for condition in conditions(commands)}
    assert list(found) == [
        "undisturbed",
        "pushes of 30 N",
        "pushes of 60 N",
        "action noise 0.05",
        "action noise 0.10",
        "directions turned by 22.5 degrees",
        "speed 0.3 m/s",
        "speed 0.7 m/s",
    ]
    turned = found.pop("directions turned by 22.5 degrees")
    assert turned.commands[:2] == (Command(22.5), Command(67.5))
    assert found["speed 0.7 m/s"].commands[2] == Command(90.0, 0.7)
    assert [(condition.push, condition.noise) for condition in found.values()] == [
        (0.0, 0.0),
        (30.0, 0.0),
        (60.0, 0.0),
        (0.0, 0.05),
        (0.0, 0.1),
        (0.0, 0.0),
        (0.0, 0.0),
    ]


def test_a_task_of_one_direction_has_none_between():
    assert not any("turned" in condition.name for condition in conditions(task_commands("simple")))


def test_results_and_progress(still):
    said = []
    with closing(BatchedSampler(QuadrupedDirection("simple", horizon=60), pool="serial")) as sampler:
        found = compare_robustness(sampler, still, 2, seed=0, progress=said.append, beside=still)
        expected = {
            "deterministic": evaluate(sampler, PolicyController(still, deterministic=True), 2, seed=0),
            "expert": evaluate(sampler, ExpertController(), 2, seed=0),
        }
    assert sum(said) == 7 * 3 * 2
    assert [row["condition"] for row in found] == [condition.name for condition in conditions(task_commands("simple"))]
    assert found[0] == {"condition": "undisturbed", **expected, "beside": expected["deterministic"]}
    for row in found:
        assert row["beside"] == row["deterministic"], "a controller that draws nothing meets the same disturbances"
    for row in found[1:5]:
        assert row["expert"] != expected["expert"], row["condition"]
    slow, fast = (row["expert"]["directions"][0] for row in found[-2:])
    for row in (slow, fast):
        # From starts at 0.5 m/s; the reward is of the speed commanded, so that a walk at another one would get 0.37 a step.
        assert row["return_mean"] > 0.6 * 60
        assert row["falls"] == 0


def test_directions_between_are_commanded_and_start_where_the_nearest_was_demonstrated():
    environment = QuadrupedDirection("hard", n_directions=8, horizon=3)
    (turned,) = (condition for condition in conditions(environment.commands) if "turned" in condition.name)
    with closing(BatchedSampler(environment, pool="serial")) as sampler:
        lanes = sampler.lanes([np.random.SeedSequence(i) for i in range(8)])
        sampler.command(lanes, turned.commands)
        for lane, rollouts in sampler.episodes(lanes, ExpertController()):
            first = rollouts.observations[0, 0]
            np.testing.assert_allclose(first[a1.GOAL], turned.commands[lane].features)
            nearest = [environment.initial_states.states[45.0 * (lane + i) % 360] for i in (0, 1)]
            assert any(np.any(np.all(states[:, : a1.GOAL.start] == first[: a1.GOAL.start], axis=1)) for states in nearest)
