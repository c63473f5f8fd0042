from dataclasses import replace

import numpy as np
import pytest

from qi_ext.robot import a1
from qi_ext.robot.commands import Command


@pytest.fixture
def numbered(gliding):
    """Three segments of 4 rows at 0, 90 and 180 degrees; trunk height is the row's number."""
    demonstrations = gliding((0.0, 90.0, 180.0), rows=4)
    demonstrations.states[:, a1.TRUNK_Z] = np.arange(12)
    return demonstrations


def heights(array):
    return array[:, a1.TRUNK_Z].tolist()


def test_transitions_go_from_each_row_to_the_next_of_its_segment(numbered):
    dataset = numbered.dataset()
    assert heights(dataset["states"]) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert heights(dataset["next_states"]) == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    np.testing.assert_array_equal(dataset["actions"], numbered.actions[[0, 1, 2, 4, 5, 6, 8, 9, 10]])


def test_the_final_transition_of_each_segment_is_last_and_none_is_absorbing(numbered):
    dataset = numbered.dataset()
    assert dataset["last"].tolist() == [0, 0, 1] * 3
    assert dataset["absorbing"].tolist() == [0] * 9


def test_dataset_without_actions_has_none(numbered):
    assert "actions" not in replace(numbered, actions=None).dataset()


def test_select_keeps_whole_segments_in_the_order_asked_for(numbered):
    selected, rows = numbered.select([2, 0]), [8, 9, 10, 11, 0, 1, 2, 3]
    assert heights(selected.states) == rows
    assert selected.bounds.tolist() == [0, 4, 8]
    assert selected.commands == (Command(180.0), Command(0.0))
    np.testing.assert_array_equal(selected.actions, numbered.actions[rows])
    np.testing.assert_array_equal(selected.initial_state, numbered.initial_state[[2, 0]])


def test_segments_are_chosen_by_command_and_kind(numbered):
    numbered = replace(numbered, kind=("nominal", "push", "nominal"), commands=(Command(90.0), Command(90.0), Command(0.0)))
    assert heights(numbered.of(Command(90.0)).states) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert heights(numbered.of(Command(90.0), "push").states) == [4, 5, 6, 7]


def test_with_commands_writes_goal_features_into_a_copy_and_nothing_else(numbered):
    before = numbered.states.copy()
    turned = numbered.with_commands([Command(270.0, 0.3)] * 3)
    np.testing.assert_array_equal(turned.states[:, a1.GOAL], np.tile(Command(270.0, 0.3).features, (12, 1)))
    np.testing.assert_array_equal(turned.states[:, : a1.GOAL.start], before[:, : a1.GOAL.start])
    np.testing.assert_array_equal(numbered.states, before)


@pytest.mark.parametrize("field", ["states", "actions", "bounds"])
def test_content_hash_changes_with_what_is_learned_from(numbered, field):
    changed = getattr(numbered, field).copy()
    changed.flat[1] += 1
    assert replace(numbered, **{field: changed}).content_hash() != numbered.content_hash()


def test_content_hash_is_16_digits_and_ignores_where_the_data_came_from(numbered):
    assert replace(numbered, source="elsewhere").content_hash() == numbered.content_hash()
    assert len(numbered.content_hash()) == 16 and int(numbered.content_hash(), 16) >= 0
