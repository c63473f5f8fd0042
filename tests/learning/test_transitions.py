from dataclasses import replace

import numpy as np
import pytest
import torch

from qi_ext.demonstrations import load_demonstrations
from qi_ext.learning import INPUTS
from qi_ext.learning.transitions import expert_transitions, leg_speed, policy_transitions, tracking_error
from qi_ext.robot import a1, mirror
from qi_ext.robot.commands import Command
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError
from qi_ext.utils.references import load

SEEN = {
    "state": {"observations"},
    "next_state": {"observations", "next_observations"},
    "tracking": {"observations", "next_observations"},
    "stepping": {"observations", "next_observations"},
    "action": {"observations", "actions"},
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_depend_on_the_columns_that_they_are_named_for_and_on_no_other(make_policy, make_batch, name):
    batch = make_batch(make_policy())
    inputs = load(INPUTS[name])(policy_transitions(batch))
    for column in ("observations", "next_observations", "actions", "rewards"):
        moved = replace(batch, **{column: 0.5 * getattr(batch, column)})
        assert torch.equal(load(INPUTS[name])(policy_transitions(moved)), inputs) == (column not in SEEN[name]), column


@pytest.mark.parametrize("direction_deg", [0.0, 90.0, 225.0])
def test_tracking_error_is_along_and_across_the_command(direction_deg):
    command = Command(direction_deg, speed=0.5)
    along, left = command.features[:2], np.array([-command.features[1], command.features[0]])
    observations = torch.zeros(3, 37)
    observations[:, a1.GOAL] = torch.from_numpy(command.features).float()
    moves = [0.5 * along, np.zeros(2), 0.7 * along + 0.1 * left]
    observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1] = torch.from_numpy(np.array(moves)).float()
    np.testing.assert_allclose(tracking_error(observations), [[0.0, 0.0], [-0.5, 0.0], [0.2, 0.1]], atol=1e-6)


def test_tracking_is_both_states_and_the_errors_of_both(demonstrations):
    expert, dataset = expert_transitions(demonstrations, "none", "cpu"), demonstrations.dataset()
    states, next_states = (torch.from_numpy(dataset[key]).float() for key in ("states", "next_states"))
    expected = torch.cat([states, next_states, tracking_error(states), tracking_error(next_states)], dim=1)
    assert torch.equal(load(INPUTS["tracking"])(expert), expected)


def test_stepping_adds_the_speed_of_the_legs_which_standing_lacks(demonstrations):
    expert = expert_transitions(demonstrations, "none", "cpu")
    seen = load(INPUTS["stepping"])(expert)
    assert torch.equal(seen[:, :78], load(INPUTS["tracking"])(expert))
    at_once = torch.zeros(2, 37)
    at_once[1, a1.LEG_VELOCITY] = torch.tensor([3.0, -4.0, 0.0] * 4)
    np.testing.assert_allclose(leg_speed(at_once).exp() ** 2, [[0.01], [25 / 3 + 0.01]], rtol=1e-5)
    np.testing.assert_array_equal(
        seen[:, 78:], torch.cat([*map(leg_speed, (expert.observations, expert.next_observations))], dim=1)
    )


def test_the_policys_actions_are_as_the_actuators_take_them(make_policy, make_batch):
    batch = make_batch(make_policy())
    beyond = policy_transitions(replace(batch, actions=torch.full_like(batch.actions, 7.0)))
    assert torch.equal(beyond.actions, torch.ones_like(batch.actions))


def test_a_symmetric_expert_is_seen_to_the_left_only():
    demonstrations = load_demonstrations("trot", task_commands("hard"))
    mirrored, plain = (expert_transitions(demonstrations, symmetry, "cpu") for symmetry in ("mirror", "none"))
    sines = [expert.observations[:, mirror.SINE].numpy() for expert in (mirrored, plain)]
    assert sines[0].min() > -1e-6
    assert sines[1].min() == -1.0
    np.testing.assert_allclose(sines[0], np.abs(sines[1]), atol=1e-6)
    right = torch.from_numpy(mirror.to_the_right(plain.observations.numpy())[:, 0])
    assert torch.equal(mirrored.actions[~right], plain.actions[~right])
    np.testing.assert_array_equal(mirrored.actions[right], mirror.mirror_actions(plain.actions[right].numpy()))


def test_actions_that_are_not_recorded_are_refused_in_one_line(demonstrations):
    expert = expert_transitions(replace(demonstrations, actions=None), "mirror", "cpu")
    assert load(INPUTS["next_state"])(expert).shape[1] == 74
    with pytest.raises(UserError, match="--discriminator_input: .*trot.* holds no actions; use next_state") as caught:
        load(INPUTS["action"])(expert)
    assert "\n" not in str(caught.value)
