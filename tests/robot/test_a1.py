"""The numbers of a1.py against the compiled model and the environment of loco-mujoco."""

import numpy as np
import pytest

from qi_ext.robot import a1

LIMITS = [(a1.ROLL, a1.MAX_ROLL), (a1.ROLL, -a1.MAX_ROLL), (a1.PITCH, a1.MAX_PITCH), (a1.PITCH, -a1.MAX_PITCH)]
LIMITS += [(a1.TRUNK_Z, a1.MIN_TRUNK_Z)]


@pytest.fixture
def model(stock):
    return stock._model


def test_joints_are_those_of_the_model_in_its_order(model):
    assert tuple(model.joint(i).name for i in range(model.njnt)) == a1.JOINTS


def test_actuators_are_those_of_the_model_in_the_order_of_the_legs(stock, model):
    assert tuple(model.actuator(i).name for i in stock._action_indices) == a1.ACTUATORS
    driven = [model.joint(model.actuator(i).trnid[0]).name for i in stock._action_indices]
    assert tuple(driven) == a1.LEG_JOINTS


def test_observation_is_upstreams_positions_then_velocities_without_x_and_y(stock):
    keys = [f"q_{joint}" for joint in a1.JOINTS[2:]] + [f"dq_{joint}" for joint in a1.JOINTS]
    assert stock.get_all_observation_keys()[2:36] == keys
    assert stock.info.observation_space.shape == (a1.N_OBSERVATIONS,)
    assert stock.info.action_space.shape == (a1.N_ACTIONS,)


def test_observation_table_has_a_row_for_each_entry_and_indices_name_the_right_ones():
    table = a1.observation_table()
    joints = [joint for _, _, joint, _ in table]
    assert [index for index, *_ in table] == list(range(a1.N_OBSERVATIONS))
    assert [joints[i] for i in (a1.TRUNK_Z, a1.ROLL, a1.PITCH, a1.YAW)] == list(a1.JOINTS[2:6])
    assert [joints[i] for i in (a1.TRUNK_VX, a1.TRUNK_VY)] == list(a1.JOINTS[:2])
    assert joints[a1.LEG_POSITION] == joints[a1.LEG_VELOCITY] == list(a1.LEG_JOINTS)


def test_observation_table_has_lengths_in_metres_and_angles_in_radians():
    units = {(quantity, joint): unit for _, quantity, joint, unit in a1.observation_table()}
    assert units["position", "trunk_tz"] == "m"
    assert {units["velocity", joint] for joint in a1.TRUNK_JOINTS[:3]} == {"m/s"}
    for joint in a1.TRUNK_JOINTS[3:] + a1.LEG_JOINTS:
        assert (units["position", joint], units["velocity", joint]) == ("rad", "rad/s")


def test_leg_ranges_torques_and_trunk_height_are_those_of_the_model(model):
    np.testing.assert_allclose(a1.LEG_RANGE, [model.joint(name).range for name in a1.LEG_JOINTS], atol=1e-12)
    assert (model.actuator_gear[:, 0] == a1.MAX_TORQUE).all()
    assert (model.actuator_ctrlrange == [-1.0, 1.0]).all()
    assert model.body("trunk").pos[2] == pytest.approx(0.43)


def test_time_steps_and_horizon_are_upstreams(stock):
    assert stock.dt == pytest.approx(a1.CONTROL_DT)
    assert stock._n_substeps == a1.N_SUBSTEPS
    assert stock.info.horizon == a1.HORIZON


@pytest.mark.parametrize(("index", "limit"), LIMITS)
@pytest.mark.parametrize("side", [-1e-9, 1e-9])
def test_a_fall_begins_where_upstreams_does(stock, index, limit, side):
    observation = np.zeros(a1.N_OBSERVATIONS)
    observation[index] = limit + side
    assert a1.has_fallen(observation) == stock._has_fallen(observation)
    assert a1.has_fallen(observation) == (side * limit > 0.0)


def test_falls_are_told_for_each_observation_of_a_batch():
    observations = np.zeros((2, 3, a1.N_OBSERVATIONS))
    observations[1, 2, a1.PITCH] = 0.2
    assert a1.has_fallen(observations).tolist() == [[False, False, False], [False, False, True]]


def test_environment_reward_is_upstreams(stock):
    observations = np.random.default_rng(0).normal(size=(20, a1.N_OBSERVATIONS))
    expected = [stock.reward(observation, None, None, False) for observation in observations]
    np.testing.assert_allclose(a1.environment_reward(observations), np.ravel(expected), rtol=1e-12)


def test_velocity_error_is_the_distance_from_the_commanded_velocity():
    observation = np.zeros(a1.N_OBSERVATIONS)
    observation[[a1.TRUNK_VX, a1.TRUNK_VY]], observation[a1.GOAL] = (0.8, 0.4), (1.0, 0.0, 0.5)
    assert a1.velocity_error(observation) == pytest.approx(0.5)
    observation[[a1.TRUNK_VX, a1.TRUNK_VY]] = 0.5, 0.0
    assert a1.environment_reward(observation) == 1.0
