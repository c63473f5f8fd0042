import warnings
from dataclasses import asdict

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.gymnasium_env import QuadrupedDirectionEnv
from qi_ext.utils.drawing import rendering_backend
from qi_ext.utils.errors import UserError

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


def test_gymnasium_makes_the_task_by_name_with_its_spaces_and_horizon(environment):
    assert environment.unwrapped.quadruped.task.name == "hard"
    assert environment.spec.id == "QuadrupedDirection-v0"
    assert environment.observation_space.contains(environment.reset(seed=0)[0])
    assert environment.action_space == gymnasium.spaces.Box(-1.0, 1.0, (12,), np.float64)
    assert (
        gymnasium.spec("QuadrupedDirection-v0").max_episode_steps == gymnasium.make(NAME).spec.max_episode_steps == a1.HORIZON
    )


def test_gymnasiums_own_check_finds_nothing_but_infinite_bounds_and_that_there_is_no_screen(monkeypatch):
    monkeypatch.setattr("glfw.init", lambda: False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # It draws in each mode, "human" first.
        with pytest.raises(UserError, match='"human" needs a screen.*"rgb_array"'):
            check_env(gymnasium.make(NAME, task="hard").unwrapped)
        check_env(gymnasium.make(NAME, task="hard").unwrapped, skip_render_check=True)
    said = [str(warning.message) for warning in caught]
    said = [text for text in said if "WARN:" in text]  # its own mark; another test's leftovers may warn meanwhile
    assert said and [text for text in said if "infinit" not in text] == []


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
@pytest.mark.parametrize(
    "misspelt, found",
    [("n_direction", "did you mean n_directions"), ("sped", "did you mean speed"), ("zzz", "known are task,")],
)
def test_an_unknown_keyword_is_refused_with_the_nearest_known_one(make, misspelt, found):
    with pytest.raises(TypeError, match=f"unknown keyword '{misspelt}'; {found}"):
        make(NAME, task="hard", **{misspelt: 4})


def test_keywords_of_loco_mujoco_and_its_viewer_are_taken():
    assert gymnasium.make(NAME, use_foot_forces=True, gamma=0.9, width=320).observation_space.shape > (a1.N_OBSERVATIONS,)


@pytest.mark.parametrize(
    "settings, length", [({"horizon": 5}, 5), ({"max_episode_steps": 4}, 4), ({"horizon": 5, "max_episode_steps": 4}, 4)]
)
def test_an_episode_ends_at_the_lesser_of_horizon_and_time_limit(settings, length):
    environment = gymnasium.make(NAME, use_absorbing_states=False, **settings)
    environment.reset(seed=0)
    assert [environment.step(np.zeros(12))[3] for _ in range(length)] == [False] * (length - 1) + [True]


def test_the_time_limit_alone_makes_longer_episodes_and_a_longer_horizon_is_refused():
    environment = gymnasium.make(NAME, use_absorbing_states=False, max_episode_steps=a1.HORIZON + 2)
    environment.reset(seed=0)
    truncated = [environment.step(np.zeros(12))[3] for _ in range(a1.HORIZON + 2)]
    assert np.flatnonzero(truncated) == [a1.HORIZON + 1]
    with pytest.raises(ValueError, match="horizon: .*max_episode_steps=2000"):
        gymnasium.make(NAME, horizon=a1.HORIZON + 1)


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


@pytest.mark.parametrize("horizon", [HORIZON, 1])
def test_a_fall_terminates_and_does_not_truncate_even_at_the_horizon(horizon):
    environment = gymnasium.make(NAME, horizon=horizon)
    observation, _ = environment.reset(seed=0)
    observation[a1.ROLL] = a1.MAX_ROLL + 0.05
    environment.unwrapped.quadruped.reset(obs=observation)
    assert environment.step(np.zeros(12))[2:4] == (True, False)


@pytest.mark.parametrize("command", [{"direction_deg": 135.0, "speed": 0.5}, {"direction_deg": 0.0, "speed": 0.3}])
def test_reset_commands_what_is_asked_for_and_step_tells_it(environment, command):
    observation, info = environment.reset(options=command)
    np.testing.assert_array_equal(observation[a1.GOAL], Command(*command.values()).features)
    assert info == environment.step(np.zeros(12))[4] == command | {"heading_deg": 0.0}
    assert environment.reset(options={"direction_deg": 45.0})[1] == asdict(Command(45.0, 0.5))


@pytest.mark.parametrize("options", [{"direction": 90.0}, {"speed": 0.3}, {"direction_deg": 90.0, "obs": None}])
def test_unknown_options_are_refused(environment, options):
    with pytest.raises(ValueError, match="unknown options.*known are direction_deg"):
        environment.reset(options=options)


def test_a_seed_reproduces_an_episode_exactly_and_without_one_the_generator_goes_on(environment):
    for one, other in zip(episode(environment, 3), episode(environment, 3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(episode(environment, 3)[0], episode(environment, 4)[0])
    first, _ = environment.reset(seed=3)
    assert not np.array_equal(first, environment.reset()[0])


@pytest.mark.extensive
def test_pictures_are_drawn_without_a_screen_by_what_works_here(drawing, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    environment = gymnasium.make(NAME, render_mode="rgb_array", width=160, height=120)
    environment.reset(seed=0)
    picture = environment.render()
    assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8 and picture.std() > 1.0
    environment.close()


@pytest.mark.extensive
def test_pictures_are_the_right_way_up(drawing):
    level = {"static": {"elevation": 0.0, "distance": 2.0}}  # the horizon in the middle
    environment = gymnasium.make(NAME, render_mode="rgb_array", width=160, height=120, camera_params=level)
    environment.reset(seed=0)
    brightness = environment.render().mean(axis=2)
    environment.close()
    rows, columns = brightness.mean(axis=1), brightness.mean(axis=0)
    assert np.ptp(rows) > 5.0 * np.ptp(columns)
    assert rows[:20].mean() > rows[-20:].mean() + 10.0  # the sky is brighter than the floor


def test_pictures_are_refused_in_one_line_where_nothing_draws(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    rendering_backend.cache_clear()
    try:
        with pytest.raises(UserError, match="nothing here draws without a screen .off: .*setup-video"):
            gymnasium.make(NAME, render_mode="rgb_array")
    finally:
        rendering_backend.cache_clear()


def test_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="'ascii'.*rgb_array"):
        QuadrupedDirectionEnv(render_mode="ascii")
