import mujoco
import numpy as np
import pytest

from qi_ext.demonstrations.robot_model import RobotModel
from qi_ext.demonstrations.trot import Gait, TrotController, standing_qpos
from qi_ext.robot import a1

SPEED = 0.5


@pytest.fixture(scope="module")
def model(stock):
    return stock._model


@pytest.fixture(scope="module")
def walking(model):
    """MuJoCo's data after 2 s of walking along +y from standing."""
    return walk(model, np.pi / 2, steps=200)[1]


def start(model, direction, phase=0.0):
    controller, data = TrotController(model, direction, SPEED), mujoco.MjData(model)
    data.qpos[:] = standing_qpos(model)
    controller.reset(data, phase)
    return controller, data


def step(model, data, action):
    data.ctrl[:] = action
    mujoco.mj_step(model, data, a1.N_SUBSTEPS)


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
    return a1.has_fallen(data.qpos[2:])


def full_state(model, data):
    """The data bit for bit: integration state, controls and what MuJoCo derived from them."""
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    derived = (data.geom_xpos, data.cvel, data.qfrc_bias, data.qacc, data.qLD, data.sensordata)
    return [state.tobytes(), *(array.tobytes() for array in derived)]


def test_mass_matrix_equals_inverse_dynamics_of_unit_accelerations(model):
    qpos = standing_qpos(model) + np.random.default_rng(0).uniform(-0.2, 0.2, model.nq)
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


def test_standing_puts_the_feet_at_their_neutral_positions_within_the_joints_limits(model):
    data, gait = mujoco.MjData(model), Gait()
    data.qpos[:] = standing_qpos(model)
    mujoco.mj_kinematics(model, data)
    feet = np.array([data.geom(f"{leg}_foot").xpos for leg in a1.LEGS])
    np.testing.assert_allclose(feet - [0.0, 0.0, gait.trunk_height], gait.neutral_feet, atol=1e-9)
    legs = data.qpos[6:]
    assert np.all((a1.LEG_RANGE[:, 0] < legs) & (legs < a1.LEG_RANGE[:, 1]))


def test_walks_at_the_commanded_velocity_without_turning(model):
    direction = 3 * np.pi / 4
    heading = np.array([np.cos(direction), np.sin(direction)])
    # Long enough to make up for the distance lost while setting off.
    controller, data = walk(model, direction, steps=600)
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
    walker, data = TrotController(model, np.pi / 2, SPEED), copy_state(model, walking)
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


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.8])
def test_starts_from_standing_at_any_phase(model, phase):
    controller, data = start(model, np.pi / 4, phase)
    for _ in range(100):
        step(model, data, controller.action(data))
        assert not has_fallen(data)


@pytest.mark.parametrize("angle", [0.0, np.pi / 2])
def test_survives_a_push_of_60_newtons(model, walking, angle):
    controller, data = TrotController(model, np.pi / 2, SPEED), copy_state(model, walking)
    controller.reset(data)
    for count in range(200):
        data.body("trunk").xfrc_applied[:2] = (60.0 if count < 10 else 0.0) * np.array([np.cos(angle), np.sin(angle)])
        step(model, data, controller.action(data))
        assert not has_fallen(data)


def test_torque_leaves_data_untouched(model, walking):
    controller = TrotController(model, np.pi / 2, SPEED)
    before = full_state(model, walking)
    controller.reset(walking)
    controller.torque(walking)
    assert full_state(model, walking) == before


def test_torques_follow_from_the_state_and_the_reset_alone(model, walking):
    fresh = TrotController(model, np.pi / 2, SPEED)
    used, _ = walk(model, np.pi / 2, steps=7)
    stale = copy_state(model, walking)
    for phase in (None, 0.3):
        fresh.reset(walking, phase)
        used.reset(stale, phase)
        for _ in range(3):
            np.testing.assert_array_equal(fresh.torque(walking), used.torque(stale))


def test_action_is_the_torque_over_the_gear_within_the_control_range(model, walking):
    spinning = copy_state(model, walking)
    spinning.qvel[3] += 20.0  # which asks for more torque than there is
    controller = TrotController(model, np.pi / 2, SPEED)
    controller.reset(spinning, phase=0.1)
    torque = controller.torque(spinning)
    controller.reset(spinning, phase=0.1)
    action = controller.action(spinning)
    assert np.abs(torque).max() > a1.MAX_TORQUE
    np.testing.assert_allclose(action, np.clip(torque / a1.MAX_TORQUE, -1.0, 1.0))


def test_a_model_without_the_trunk_joints_is_refused_by_name():
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body/></worldbody></mujoco>")
    with pytest.raises(KeyError, match="trunk_tx"):
        TrotController(model, direction=0.0)
