"""Conditions of robustness: each is one named disturbance, the same for all policies."""

from qi_ext.evaluation import compare_robustness, conditions, evaluate
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import COURSES
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.tasks.directions import task_commands


def test_conditions_of_the_hard_task():
    found = conditions(task_commands("hard"))
    assert [(condition.name, condition.push, condition.noise) for condition in found] == [
        ("undisturbed", 0.0, 0.0),
        ("pushes of 30 N", 30.0, 0.0),
        ("pushes of 60 N", 60.0, 0.0),
        ("action noise 0.05", 0.0, 0.05),
        ("action noise 0.10", 0.0, 0.1),
        ("directions turned by 22.5 degrees", 0.0, 0.0),
        ("speed 0.3 m/s", 0.0, 0.0),
        ("speed 0.7 m/s", 0.0, 0.0),
    ]
    assert found[5].commands[:2] == (Command(22.5), Command(67.5))
    assert found[7].commands[2] == Command(90.0, 0.7)


def test_a_task_of_one_direction_has_none_between():
    assert not any("turned" in condition.name for condition in conditions(task_commands("simple")))


def test_other_speeds_than_several_are_those_halfway():
    found = conditions(task_commands("hard", n_directions=2, speeds=[0.3, 0.5, 0.7]))
    assert [condition.name for condition in found[5:]] == ["directions turned by 90 degrees", "speed 0.4 m/s", "speed 0.6 m/s"]
    assert [len(condition.commands) for condition in found[5:]] == [6, 2, 2]


def test_courses_are_disturbed_and_straight_walks_are_beside_them():
    found = conditions(task_commands("follow"))
    assert {condition.commands for condition in found[:5]} == {(COURSES["drawn"],)}
    assert [{command.speed for command in condition.commands} for condition in found[5:]] == [{0.3}, {0.5}, {0.7}]
    assert all([command.direction_deg for command in condition.commands] == list(range(0, 360, 45)) for condition in found[5:])
    assert {condition.episodes(96) * len(condition.commands) for condition in found} == {96}
    assert all(condition.episodes(1) == 1 for condition in found)


def test_each_condition_is_met_by_all_policies_alike(source, limp):
    progress, commands = [], source.environment.commands
    found = compare_robustness(source, limp, 1, seed=0, progress=progress.append, beside=limp)
    expected = {
        "deterministic": evaluate(source, PolicyController(limp, deterministic=True), 1, seed=0),
        "expert": evaluate(source, ExpertController(), 1, seed=0),
    }
    assert sum(progress) == 8 * 3 * len(commands)
    assert [row["condition"] for row in found] == [condition.name for condition in conditions(commands)]
    assert found[0] == {"condition": "undisturbed", **expected, "beside": expected["deterministic"]}
    for row in found:
        assert row["beside"] == row["deterministic"], "a controller that draws nothing meets the same disturbances"
    for row in found[1:6]:
        assert row["expert"] != expected["expert"], row["condition"]
    for row in found[-2:]:
        # From starts at 0.5 m/s. The reward is for the commanded speed: keeping to 0.5 would give 0.37 a step.
        assert all(direction["return_mean"] > 0.6 * 60 for direction in row["expert"]["directions"])
