"""Motion, on episodes whose numbers are known in closed form."""

import mujoco
import numpy as np
import pytest

from qi_ext.demonstrations.trot import TrotController
from qi_ext.evaluation.motion import Motion
from qi_ext.robot import a1
from qi_ext.robot.commands import Command


def measured(command, *episodes):
    measure = Motion(command, len(episodes))
    for index, episode in enumerate(episodes):
        measure.add(index, episode)
    return measure.result()


def gliding(n, direction_deg=0.0, velocity=(0.0, 0.0), yaw=0.0, joint_velocity=0.0):
    """n + 1 states at a constant velocity, m/s, the yaw growing from 0 to `yaw`, rad, joints at `joint_velocity`, rad/s."""
    states = np.zeros((n + 1, a1.N_OBSERVATIONS))
    states[:, a1.GOAL] = Command(direction_deg).features
    states[:, a1.TRUNK_VX : a1.TRUNK_VY + 1] = velocity
    states[:, a1.YAW] = np.linspace(0.0, yaw, n + 1)
    states[:, a1.LEG_VELOCITY] = joint_velocity
    return states


@pytest.mark.parametrize(
    ("direction", "velocity", "along", "across"),
    [
        (0.0, (0.6, 0.2), 0.1, 0.2),
        (90.0, (0.6, 0.2), -0.3, -0.6),
        (180.0, (-0.5, -0.1), 0.0, 0.1),
        (45.0, (0.0, 0.0), -0.5, 0.0),
    ],
)
def test_velocity_errors_are_signed_along_the_command_and_to_its_left(make_episode, direction, velocity, along, across):
    result = measured(Command(direction), make_episode(gliding(5, direction, velocity)))
    assert result["velocity_error_along"] == pytest.approx(along)
    assert result["velocity_error_across"] == pytest.approx(across)


def test_drift_to_either_side_counts_and_long_episodes_count_for_more(make_episode):
    episodes = (make_episode(gliding(100, yaw=np.radians(2.0))), make_episode(gliding(300, yaw=np.radians(-4.0))))
    assert measured(Command(0.0), *episodes)["yaw_drift"] == pytest.approx(6.0 / 4.0)


def test_energy_is_the_work_of_all_joints_whatever_its_sign_over_the_way_of_the_trunk(make_episode):
    actions = np.tile([0.5, -0.5], 6)
    states = gliding(100, velocity=(0.3, 0.4), joint_velocity=2.0)
    result = measured(Command(0.0), make_episode(states, actions))
    # 12 joints of 17 Nm at 2 rad/s for 1 s, on 0.5 m.
    assert result["energy_per_metre"] == pytest.approx(12 * 17.0 * 2.0 / 0.5)


def test_a_torque_beyond_the_limit_costs_what_the_actuator_gives(make_episode):
    states = gliding(10, velocity=(1.0, 0.0), joint_velocity=1.0)
    at_limit, beyond = (measured(Command(0.0), make_episode(states, action)) for action in (1.0, 7.0))
    assert at_limit == beyond


def test_a_robot_that_stays_where_it_is_has_no_energy_per_metre(make_episode):
    assert measured(Command(0.0), make_episode(gliding(10)))["energy_per_metre"] is None


def test_saturation_is_the_share_of_torques_at_the_limit(make_episode):
    actions = np.array([1.0, -1.0, 1.5, *[0.999] * 9])
    assert measured(Command(0.0), make_episode(gliding(10), actions))["torque_saturation"] == pytest.approx(3 / 12)


def test_the_energy_of_control_steps_is_nearly_that_of_the_physics(simple, make_episode):
    """Of the trot, whose joints' velocities change within a step of 10 ms; in 1 ms steps of the simulation itself."""
    controller = TrotController(simple.model, 0.0)
    states = [simple.reset(command=0.0)]
    controller.reset(simple.data)
    dofs = [simple.model.joint(name).dofadr[0] for name in a1.LEG_JOINTS]
    actions, work, way = [], 0.0, 0.0
    for _ in range(80):
        actions.append(controller.action(simple.data))
        simple.data.ctrl[simple._action_indices] = actions[-1]
        for _ in range(a1.N_SUBSTEPS):
            before, place = simple.data.qvel[dofs].copy(), simple.data.qpos[:2].copy()
            mujoco.mj_step(simple.model, simple.data)
            work += np.abs(a1.MAX_TORQUE * actions[-1] * (before + simple.data.qvel[dofs]) / 2).sum() * 0.001
            way += np.linalg.norm(simple.data.qpos[:2] - place)
        states.append(simple._create_observation(simple.obs_helper._build_obs(simple.data)))
    result = measured(Command(0.0), make_episode(np.array(states), np.array(actions)))
    assert result["energy_per_metre"] == pytest.approx(work / way, rel=0.04)
