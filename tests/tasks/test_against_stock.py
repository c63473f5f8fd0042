"""The task step by step beside loco-mujoco's own `UnitreeA1`: the same states, the same actions."""

import mujoco
import numpy as np
import pytest

from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.tasks import QuadrupedDirection

DIRECTIONS = (0.0, 45.0, 135.0, 180.0, 270.0)
STEPS = 120  # of each of the 10 cases


def start_stock(stock, observation):
    """Start upstream's environment from an observation, which its own `reset` cannot; returns what it then observes."""
    from loco_mujoco.utils.math import angle2mat_xy

    mujoco.mj_resetData(stock._model, stock._data)
    stock.mean_grf.reset()
    cosine, sine, speed = observation[a1.GOAL]
    arrow = np.arctan2(sine, cosine) + np.pi / 2
    stock._goal.set_goal(arrow, speed)
    stock.set_sim_state([0.0, 0.0, *observation[: a1.GOAL.start], angle2mat_xy(arrow).reshape(9), speed])
    stock._obs = stock._create_observation(stock.obs_helper._build_obs(stock._data))
    return stock._obs.copy()


def random_actions(environment, random):
    """Torques beyond what the motors can give, too."""
    while True:
        yield random.uniform(-1.3, 1.3, a1.N_ACTIONS)


def expert_actions(environment, random):
    controller = TrotController(environment.model, environment.command.direction, environment.command.speed)
    controller.reset(environment.data)
    while True:
        yield controller.action(environment.data) + 0.03 * random.standard_normal(a1.N_ACTIONS)


def walk_both(ours, stock, direction_deg, acting, steps):
    """Yield ((observation, reward, absorbing) of ours, the same of upstream's); both start anew after a fall."""
    ours.seed(int(direction_deg))
    random = np.random.default_rng(int(direction_deg))
    absorbing = True
    for _ in range(steps):
        if absorbing:
            observation = ours.reset(command=direction_deg)
            yield (observation, 0.0, False), (start_stock(stock, observation), 0.0, False)
            actions = acting(ours, random)
        action = next(actions)
        step = ours.step(action)[:3]
        yield step, stock.step(action)[:3]
        absorbing = step[2]


@pytest.mark.parametrize("direction_deg", DIRECTIONS)
@pytest.mark.parametrize("acting", [random_actions, expert_actions])
def test_steps_agree_with_upstream(hard, stock, direction_deg, acting):
    fell = False
    for (observation, reward, absorbing), (expected, expected_reward, expected_absorbing) in walk_both(
        hard, stock, direction_deg, acting, STEPS
    ):
        np.testing.assert_allclose(observation, expected, rtol=0.0, atol=1e-9)
        assert float(reward) == pytest.approx(float(np.squeeze(expected_reward)), rel=0.0, abs=1e-9)
        assert absorbing == expected_absorbing
        fell |= absorbing
    assert fell or acting is expert_actions, "falls must be among what is compared"


@pytest.fixture(scope="module")
def with_foot_forces():
    """Ours and upstream's, both observing foot forces."""
    from loco_mujoco.environments import UnitreeA1

    ours = QuadrupedDirection("hard", seed=0, use_foot_forces=True)
    return ours, UnitreeA1(reward_type="velocity_vector", reward_params={}, random_start=False, use_foot_forces=True)


def test_foot_forces_are_12_more_entries_that_agree_with_upstream(with_foot_forces):
    ours, stock = with_foot_forces
    assert ours.reset().shape == ours.info.observation_space.shape == stock.info.observation_space.shape == (49,)
    compared = list(walk_both(*with_foot_forces, 90.0, expert_actions, 20))
    observations, expected = (np.array([step[0] for step in steps]) for steps in zip(*compared, strict=True))
    assert np.any(observations[:, 37:] != 0.0)
    np.testing.assert_allclose(observations, expected, rtol=0.0, atol=1e-9)


def test_physics_horizon_discount_and_spaces_are_upstreams(hard, stock):
    for array in ("body_mass", "body_inertia", "geom_friction", "geom_solimp", "dof_damping", "dof_armature", "actuator_gear"):
        np.testing.assert_array_equal(getattr(hard.model, array), getattr(stock._model, array))
    assert hard.model.opt.timestep == stock._model.opt.timestep
    assert (hard.info.horizon, hard.info.gamma, hard.dt) == (stock.info.horizon, stock.info.gamma, stock.dt)
    for space in ("observation_space", "action_space"):
        for bound in ("low", "high"):
            np.testing.assert_array_equal(*(getattr(getattr(each.info, space), bound) for each in (hard, stock)))
