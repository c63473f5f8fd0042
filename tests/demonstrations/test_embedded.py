"""The sets that come with the package, as the issue asks for them."""

import numpy as np
import pytest

from qi_ext.demonstrations import load_demonstrations
from qi_ext.demonstrations.formats import read
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.robot import a1
from qi_ext.robot.commands import Command, task_commands

TASKS = ("simple", "hard")
ON_EVERY_DIRECTION = [("simple", 0.0)] + [("hard", 45.0 * i) for i in range(8)]


@pytest.fixture(scope="module")
def embedded():
    """The two sets by task."""
    return {task: read(embedded_path(task)) for task in TASKS}


@pytest.fixture
def nominal(embedded, task, direction_deg):
    """States of the nominal segments of a direction."""
    demonstrations = embedded[task]
    rows = [
        demonstrations.states[demonstrations.segment(i)]
        for i, (command, kind) in enumerate(zip(demonstrations.commands, demonstrations.kind, strict=True))
        if command == Command(direction_deg, 0.5) and kind == "nominal"
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("task", TASKS)
def test_all_kinds_of_segments_are_present_and_most_are_nominal(embedded, task):
    kinds = embedded[task].kind
    assert set(kinds) == {"nominal", "start", "push", "noise"}
    assert kinds.count("nominal") > len(kinds) / 2


@pytest.mark.parametrize("task", TASKS)
def test_segments_have_equal_lengths(embedded, task):
    assert len(set(np.diff(embedded[task].bounds))) == 1


@pytest.mark.parametrize("task", TASKS)
def test_each_command_of_the_task_has_as_many_segments(embedded, task):
    counts = {command: embedded[task].commands.count(command) for command in task_commands(task)}
    assert sum(counts.values()) == embedded[task].n_segments
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize(("task", "direction_deg"), ON_EVERY_DIRECTION)
def test_nominal_walk_earns_the_environments_reward(nominal):
    error = np.linalg.norm(nominal[:, [a1.TRUNK_VX, a1.TRUNK_VY]] - 0.5 * nominal[:, [34, 35]], axis=1)
    assert np.exp(-5.0 * error).mean() >= 0.90


@pytest.mark.parametrize(("task", "direction_deg"), ON_EVERY_DIRECTION)
def test_nominal_walk_keeps_the_commanded_speed(nominal, direction_deg):
    angle = np.radians(direction_deg)
    along = nominal[:, [a1.TRUNK_VX, a1.TRUNK_VY]] @ [np.cos(angle), np.sin(angle)]
    assert along.mean() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(("task", "direction_deg"), ON_EVERY_DIRECTION)
def test_nominal_walk_keeps_its_heading(nominal):
    assert np.abs(nominal[:, a1.YAW]).max() < 0.05


@pytest.mark.parametrize("task", TASKS)
def test_no_state_is_fallen(embedded, task):
    assert not a1.has_fallen(embedded[task].states).any()


@pytest.mark.parametrize("task", TASKS)
def test_only_noise_makes_executed_actions_differ_from_the_experts(embedded, task):
    demonstrations = embedded[task]
    differing = {
        kind
        for i, kind in enumerate(demonstrations.kind)
        if np.any(
            demonstrations.actions[demonstrations.segment(i)] != demonstrations.executed_actions[demonstrations.segment(i)]
        )
    }
    assert differing == {"noise"}


@pytest.mark.parametrize("task", TASKS)
def test_only_push_segments_are_pushed_by_up_to_60_newtons(embedded, task):
    demonstrations = embedded[task]
    size = np.linalg.norm(demonstrations.external_force, axis=1)
    pushed = {kind for i, kind in enumerate(demonstrations.kind) if size[demonstrations.segment(i)].any()}
    assert pushed == {"push"}
    assert 30.0 < size.max() <= 60.0 + 1e-3


@pytest.mark.parametrize("task", TASKS)
def test_sets_are_labelled_synthetic(embedded, task):
    assert embedded[task].synthetic
    assert "synthetic" in embedded[task].source


@pytest.mark.parametrize("task", TASKS)
def test_sets_load_for_their_task_with_nothing_to_mend(task):
    assert load_demonstrations("trot", task_commands(task)).notes == ()


def test_the_sets_take_at_most_8_megabytes():
    assert sum(path.stat().st_size for path in embedded_path("simple").parent.iterdir()) <= 8_000_000
