import mujoco
import numpy as np
import pytest

from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses


@pytest.fixture
def model(stock):
    return stock._model


def test_each_joint_is_where_mujocos_own_names_find_it(model):
    found, data = addresses(model), mujoco.MjData(model)
    data.qpos[found.qpos] = np.arange(1.0, 19.0)
    data.qvel[found.qvel] = np.arange(101.0, 119.0)
    assert [data.joint(name).qpos[0] for name in a1.JOINTS] == list(range(1, 19))
    assert [data.joint(name).qvel[0] for name in a1.JOINTS] == list(range(101, 119))


def test_each_actuator_and_the_trunk_are_where_mujocos_own_names_find_them(model):
    found, data = addresses(model), mujoco.MjData(model)
    data.ctrl[found.actuators] = np.arange(1.0, 13.0)
    assert [data.actuator(name).ctrl[0] for name in a1.ACTUATORS] == list(range(1, 13))
    assert model.body(found.trunk).name == "trunk"
    assert model.joint("trunk_tz").bodyid[0] == found.trunk


def test_a_model_of_another_robot_is_refused_by_the_joint_that_it_lacks():
    with pytest.raises(KeyError, match="trunk_tx"):
        addresses(mujoco.MjModel.from_xml_string("<mujoco><worldbody><body name='trunk'/></worldbody></mujoco>"))
