"""Recorded actions that do not explain the motion are refused with their likely cause, and right ones are not."""

import re
from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations import formats
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.demonstrations.recorded_actions import examine_actions
from qi_ext.robot import a1
from qi_ext.robot.commands import Command


def torques(order):
    return lambda actions: actions.reshape(-1, 4, 3)[:, order].reshape(-1, 12)


def shifted(rows):
    return lambda actions: np.roll(actions, rows, axis=0)


ACTIONS = [
    ("sign", lambda actions: -actions, "of the opposite sign"),
    ("FL-first", torques([1, 0, 3, 2]), "of legs in the order FL, FR, RL, RR"),
    ("rear-first", torques([2, 3, 0, 1]), "of legs in the order RR, RL, FR, FL"),
    ("joints first", lambda actions: actions.reshape(-1, 4, 3).swapaxes(1, 2).reshape(-1, 12), "all hips, then all thighs"),
    ("late", shifted(1), "a row late"),
    ("early", shifted(-1), "a row early"),
    ("half", lambda actions: 0.5 * actions, "2.0. times the recorded actions: are they in units of 34 Nm"),
    ("zero", lambda actions: 0.0 * actions, "are they this motion's torques"),
]


@pytest.mark.parametrize(("change", "said"), [pytest.param(*way[1:], id=way[0]) for way in ACTIONS])
def test_actions_that_do_not_explain_the_motion_are_refused(simple, walking, change, said):
    right = walking((0.0,) * 2, rows=60)
    _, fault = examine_actions(replace(right, actions=change(right.actions)), simple.model)
    assert re.search(f"{said}.*--warm_start_actions inferred", fault)
    assert "\n" not in fault


def test_position_targets_are_told_from_torques(simple, walking):
    right = walking((0.0,) * 2, rows=60)
    targets = np.roll(right.states[:, a1.LEG_POSITION], -1, axis=0) + right.actions * a1.MAX_TORQUE / 60.0
    targets = np.clip(targets - np.tile([0.0, 0.9, -1.8], 4), -1.0, 1.0)
    assert "position targets in place of torques" in examine_actions(replace(right, actions=targets), simple.model)[1]


def test_right_actions_are_accepted_of_all_kinds_of_segments(simple):
    embedded = formats.read(embedded_path("simple"))
    for kind in ("nominal", "start", "push", "noise"):
        part = embedded.of(Command(0.0), kind)
        measures, fault = examine_actions(part, simple.model)
        assert fault is None
        assert measures[0].value < (0.2 if kind == "noise" else 1e-3)
    assert examine_actions(replace(part, actions=None), simple.model) == ([], None)
