import copy
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.gymnasium_env import QuadrupedDirectionEnv

NAME = "qi_ext.tasks:QuadrupedDirection-v0"
HORIZON = 30


@pytest.fixture(scope="module")
def environment():
    """The hard task with a horizon of 30 steps."""
    return gymnasium.make(NAME, task="hard", horizon=HORIZON)


def episode(environment, seed):
    """What an episode of 20 random actions returns, as arrays."""
    observation, info = environment.reset(seed=seed)
    random = np.random.default_rng(0)
    steps = [np.array([*observation, info["direction_deg"], info["speed"]])]
    for _ in range(20):
        observation, reward, terminated, truncated, _ = environment.step(random.uniform(-0.3, 0.3, a1.N_ACTIONS))
        steps.append(np.array([*observation, reward, terminated, truncated]))
    return steps


def test_gymnasium_makes_the_task_by_name(environment):
    assert environment.unwrapped.quadruped.task.name == "hard"
    assert environment.spec.id == "QuadrupedDirection-v0"


def test_gymnasiums_own_check_finds_nothing_but_infinite_bounds():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gymnasium.make(NAME, task="hard").unwrapped, skip_render_check=True)
    said = [str(warning.message) for warning in caught]
    said = [text for text in said if "WARN:" in text]  # its own mark; another test's leftovers may warn meanwhile
    assert said and [text for text in said if "infinit" not in text] == []


def test_observations_are_in_the_observation_space(environment):
    observation, _ = environment.reset(seed=0)
    assert environment.observation_space.contains(observation)


def test_actions_are_12_numbers_between_minus_1_and_1(environment):
    assert environment.action_space == gymnasium.spaces.Box(-1.0, 1.0, (12,), np.float64)


def test_horizon_is_loco_mujocos_unless_given():
    assert gymnasium.make(NAME).unwrapped.quadruped.info.horizon == a1.HORIZON


def test_walking_robot_is_truncated_at_the_horizon_and_not_before(environment):
    environment.reset(seed=0, options={"direction_deg": 90.0})
    quadruped = environment.unwrapped.quadruped
    controller = TrotController(quadruped.model, np.pi / 2)
    controller.reset(quadruped.data)
    ends = [environment.step(controller.action(quadruped.data))[2:4] for _ in range(HORIZON)]
    assert ends == [(False, False)] * (HORIZON - 1) + [(False, True)]


def test_horizon_is_counted_from_the_reset(environment):
    environment.reset(seed=0)
    for _ in range(HORIZON // 2):
        environment.step(np.zeros(12))
    environment.reset()
    assert not environment.step(np.zeros(12))[3]


def test_fall_terminates_and_does_not_truncate(environment):
    observation, _ = environment.reset(seed=0)
    quadruped = environment.unwrapped.quadruped
    observation[a1.ROLL] = a1.MAX_ROLL + 0.05
    quadruped.reset(obs=observation)
    *_, terminated, truncated, _ = environment.step(np.zeros(12))
    assert (terminated, truncated) == (True, False)


def test_fall_at_the_horizon_terminates_and_does_not_truncate():
    environment = gymnasium.make(NAME, horizon=1)
    observation, _ = environment.reset(seed=0)
    observation[a1.ROLL] = a1.MAX_ROLL + 0.05
    environment.unwrapped.quadruped.reset(obs=observation)
    *_, terminated, truncated, _ = environment.step(np.zeros(12))
    assert (terminated, truncated) == (True, False)


def test_reset_commands_the_direction_asked_for(environment):
    observation, info = environment.reset(options={"direction_deg": 135.0})
    np.testing.assert_array_equal(observation[a1.GOAL], Command(135.0, 0.5).features)
    assert info == {"direction_deg": 135.0, "speed": 0.5}


def test_reset_commands_the_speed_asked_for(environment):
    observation, info = environment.reset(options={"direction_deg": 0.0, "speed": 0.3})
    np.testing.assert_array_equal(observation[a1.GOAL], Command(0.0, 0.3).features)
    assert info == {"direction_deg": 0.0, "speed": 0.3}


@pytest.mark.parametrize("options", [{"direction": 90.0}, {"speed": 0.3}, {"direction_deg": 90.0, "obs": None}])
def test_unknown_options_are_refused(environment, options):
    with pytest.raises(ValueError, match="unknown options.*known are direction_deg"):
        environment.reset(options=options)


def test_step_tells_the_command(environment):
    environment.reset(options={"direction_deg": 45.0})
    assert environment.step(np.zeros(12))[4] == {"direction_deg": 45.0, "speed": 0.5}


def test_seed_reproduces_an_episode_exactly(environment):
    for one, other in zip(episode(environment, 3), episode(environment, 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_seeds_give_other_episodes(environment):
    assert not np.array_equal(episode(environment, 3)[0], episode(environment, 4)[0])


def test_reset_without_seed_goes_on_with_the_generator(environment):
    first, _ = environment.reset(seed=3)
    second, _ = environment.reset()
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_action_that_is_not_finite_is_refused(environment, value):
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="action must be finite"):
        environment.unwrapped.step(np.full(12, value))


def test_copying_is_refused(environment):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.deepcopy(environment.unwrapped)


def test_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="'ascii'.*rgb_array"):
        QuadrupedDirectionEnv(render_mode="ascii")
