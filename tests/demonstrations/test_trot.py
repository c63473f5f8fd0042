import importlib.util
import os

import mujoco
import numpy as np
import pytest

from qi_ext.demonstrations.trot import LEGS, Gait, RobotModel, TrotController, standing_qpos

SPEED = 0.5


@pytest.fixture(scope="module")
def model():
    package = importlib.util.find_spec("loco_mujoco").submodule_search_locations[0]
    xml = os.path.join(package, "environments", "data", "quadrupeds", "unitree_a1_torque.xml")
    model = mujoco.MjModel.from_xml_path(xml)
    model.opt.timestep = 0.001
    return model


@pytest.fixture(scope="module")
def walking(model):
    """A controller and the state it has walked to from standing, in 2 s along +y."""
    return walk(model, np.pi / 2, steps=200)


def start(model, direction):
    controller, data = TrotController(model, direction, SPEED), mujoco.MjData(model)
    data.qpos[:] = standing_qpos(model)
    controller.reset(data, phase=0.0)
    return controller, data


def step(model, data, action):
    data.ctrl[:] = action
    mujoco.mj_step(model, data, 10)


def walk(model, direction, steps):
    controller, data = start(model, direction)
    for _ in range(steps):
        step(model, data, controller.action(data))
    return controller, data


def copy_state(model, data):
    """A fresh MjData with the same qpos and qvel and nothing derived from them."""
    copy = mujoco.MjData(model)
    copy.qpos[:], copy.qvel[:] = data.qpos, data.qvel
    return copy


def has_fallen(data):
    return abs(data.qpos[3]) > 0.2793 or abs(data.qpos[4]) > 0.192 or data.qpos[2] < -0.24


def full_state(model, data):
    """The data bit for bit: integration state, controls and what mujoco derived from them."""
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    derived = (data.geom_xpos, data.cvel, data.qfrc_bias, data.qacc, data.qLD, data.sensordata)
    return [state.tobytes(), *(array.tobytes() for array in derived)]


def test_mass_matrix_equals_inverse_dynamics_of_unit_accelerations(model):
    random = np.random.default_rng(0)
    qpos = standing_qpos(model) + random.uniform(-0.2, 0.2, model.nq)
    robot = RobotModel(model, foot_radius=0.01)
    robot.place(qpos)

    reference = mujoco.MjData(model)
    reference.qpos[:] = qpos
    mujoco.mj_forward(model, reference)

    def inverse_dynamics(acceleration):
        force = np.empty(model.nv)
        reference.qacc[:] = acceleration
        mujoco.mj_rne(model, reference, 1, force)
        return force

    at_rest = inverse_dynamics(np.zeros(model.nv))
    expected = np.array([inverse_dynamics(unit) - at_rest for unit in np.eye(model.nv)]) + np.diag(model.dof_armature)
    np.testing.assert_allclose(robot.mass_matrix(), expected[np.ix_(robot.dof, robot.dof)], atol=1e-10)


def test_standing_puts_the_feet_at_their_neutral_positions(model):
    data, gait = mujoco.MjData(model), Gait()
    data.qpos[:] = standing_qpos(model)
    mujoco.mj_kinematics(model, data)
    feet = np.array([data.geom(f"{leg}_foot").xpos for leg in LEGS])
    np.testing.assert_allclose(feet - [0.0, 0.0, gait.trunk_height], gait.neutral_feet, atol=1e-9)


def test_standing_keeps_the_legs_within_their_limits(model):
    qpos = standing_qpos(model)[model.jnt_qposadr]
    limited = model.jnt_limited.astype(bool)
    assert np.all(qpos[limited] > model.jnt_range[limited, 0])
    assert np.all(qpos[limited] < model.jnt_range[limited, 1])


@pytest.mark.parametrize("direction", [0.0, 3 * np.pi / 4, 3 * np.pi / 2])
def test_walks_at_the_commanded_velocity_without_turning(model, direction):
    # Long enough to make up for the way lost while setting off.
    controller, data = walk(model, direction, steps=600)
    heading = np.array([np.cos(direction), np.sin(direction)])
    rewards, speeds, yaws, actions = [], [], [], []
    for _ in range(400):
        rewards.append(np.exp(-5 * np.linalg.norm(data.qvel[:2] - SPEED * heading)))
        speeds.append(data.qvel[:2] @ heading)
        yaws.append(data.qpos[5])
        actions.append(controller.action(data))
        step(model, data, actions[-1])
    assert np.mean(rewards) >= 0.92
    assert np.mean(speeds) == pytest.approx(SPEED, rel=0.01)
    assert np.abs(yaws).max() < 0.02
    assert np.abs(actions).max() < 1.0


def test_phase_is_recovered_from_the_feet(model, walking):
    walker, data = walking
    data = copy_state(model, data)
    walker.reset(data)
    for _ in range(100):
        step(model, data, walker.action(data))
    errors = []
    for _ in range(40):
        other = TrotController(model, np.pi / 2, SPEED)
        other.reset(copy_state(model, data))
        errors.append((other.phase - walker.phase + 0.5) % 1.0 - 0.5)
        step(model, data, walker.action(data))
    assert np.abs(errors).max() < 0.06


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.3, 0.55, 0.8, 0.95])
def test_starts_from_standing_at_any_phase(model, phase):
    controller, data = start(model, np.pi / 4)
    controller.reset(data, phase)
    for _ in range(100):
        step(model, data, controller.action(data))
        assert not has_fallen(data)


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, 5 * np.pi / 4])
def test_survives_a_push(model, angle):
    controller, data = walk(model, 0.0, steps=200)
    for count in range(300):
        pushing = 60.0 if count < 10 else 0.0
        data.body("trunk").xfrc_applied[:2] = pushing * np.array([np.cos(angle), np.sin(angle)])
        step(model, data, controller.action(data))
        assert not has_fallen(data)


def test_torque_leaves_data_untouched(model, walking):
    _, data = walking
    controller = TrotController(model, np.pi / 2, SPEED)
    before = full_state(model, data)
    controller.reset(data)
    controller.torque(data)
    assert full_state(model, data) == before


def test_torques_follow_from_the_state_and_the_reset_alone(model, walking):
    _, data = walking
    fresh = TrotController(model, np.pi / 2, SPEED)
    used, _ = walk(model, np.pi / 2, steps=7)
    stale = copy_state(model, data)
    for phase in (None, 0.3):
        fresh.reset(data, phase)
        used.reset(stale, phase)
        for _ in range(3):
            np.testing.assert_array_equal(fresh.torque(data), used.torque(stale))


def test_action_is_the_torque_over_the_gear_within_the_control_range(model, walking):
    _, data = walking
    pushed = copy_state(model, data)
    # A violent spin asks for more torque than there is.
    pushed.qvel[3] += 20.0
    controller = TrotController(model, np.pi / 2, SPEED)
    controller.reset(pushed, phase=0.1)
    torque = controller.torque(pushed)
    controller.reset(pushed, phase=0.1)
    action = controller.action(pushed)
    assert np.abs(torque).max() > 34.0
    assert action.dtype == np.float64 and action.shape == (12,)
    np.testing.assert_allclose(action, np.clip(torque / 34.0, -1.0, 1.0))


def test_a_model_without_the_trunk_joints_is_refused_by_name():
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body/></worldbody></mujoco>")
    with pytest.raises(KeyError, match="trunk_tx"):
        TrotController(model, direction=0.0)
