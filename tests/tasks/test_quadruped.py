"""`QuadrupedDirection`: its name, commands, starts, random numbers, actions, blow-ups and datasets."""

import contextlib
import copy
import pickle
import warnings

import mujoco
import numpy as np
import pytest
from loco_mujoco import LocoEnv
from scipy.stats import chisquare

from qi_ext.robot import a1
from qi_ext.robot.commands import Command, angle_between
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

STANDING = np.zeros(a1.N_ACTIONS)


def full_state(environment):
    """MuJoCo's integration state and the observation acted on, as bytes."""
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(environment.model, kind))
    mujoco.mj_getState(environment.model, environment.data, state, kind)
    return state.tobytes(), environment._obs.tobytes()


def two_episodes(environment, seed):
    """Yield, step by step, what two short episodes after `seed(seed)` return."""
    environment.seed(seed)
    random = np.random.default_rng(seed)
    for _ in range(2):
        yield environment.reset()
        for _ in range(10):
            observation, reward, absorbing, _ = environment.step(random.uniform(-0.5, 0.5, a1.N_ACTIONS))
            yield np.array([*observation, float(reward), absorbing])


def assert_identical(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def starts_in(environment, observation, direction_deg):
    """Whether joints and trunk are exactly those of one of the states demonstrated in a direction."""
    demonstrations = environment.demonstrations
    states = np.concatenate(
        [
            demonstrations.states[demonstrations.segment(i)]
            for i, command in enumerate(demonstrations.commands)
            if command.direction_deg == direction_deg
        ]
    )
    return bool((states[:, : a1.GOAL.start] == observation[: a1.GOAL.start]).all(axis=1).any())


# Names and form


@pytest.mark.parametrize(("task", "n_commands"), [("simple", 1), ("hard", 8)])
def test_loco_mujoco_lists_the_task_and_makes_it_by_name(task, n_commands):
    assert f"QuadrupedDirection.{task}" in LocoEnv.get_all_task_names()
    environment = LocoEnv.make(f"QuadrupedDirection.{task}")
    assert isinstance(environment, QuadrupedDirection)
    assert (environment.task.name, len(environment.commands)) == (task, n_commands)
    assert environment.reset().shape == (a1.N_OBSERVATIONS,)


def test_unknown_names_and_unusable_demonstrations_are_refused(tmp_path):
    with pytest.raises(ValueError, match="medium"):
        QuadrupedDirection("medium")
    with pytest.raises(ValueError, match="demonstrations="):
        LocoEnv.make("QuadrupedDirection.hard.real")
    with pytest.raises(UserError, match="missing.npz"):
        QuadrupedDirection("simple", demonstrations=tmp_path / "missing.npz")


# Commands


def test_hard_draws_its_8_directions_uniformly_and_simple_commands_forward(hard, simple):
    for environment in (hard, simple):
        environment.seed(0)
    counts = dict.fromkeys(hard.commands, 0)
    for _ in range(2000):
        np.testing.assert_array_equal(hard.reset()[a1.GOAL], hard.command.features)
        counts[hard.command] += 1
    assert len(counts) == 8
    assert chisquare(list(counts.values())).pvalue > 1e-3
    assert {tuple(simple.reset()[a1.GOAL]) for _ in range(20)} == {(1.0, 0.0, 0.5)}


def test_number_of_directions_and_speed_are_parameters():
    environment = QuadrupedDirection("hard", n_directions=4, speed=0.3, seed=0)
    assert environment.commands == tuple(Command(90.0 * i, 0.3) for i in range(4))
    assert {environment.reset()[a1.GOAL][2] for _ in range(10)} == {0.3}


@pytest.fixture(scope="module")
def two_speeds(gliding):
    """Two directions at two speeds, demonstrated by trunks that glide as they are told."""
    commands = task_commands("hard", n_directions=2, speeds=[0.3, 0.7])
    demonstrations = gliding([command.direction_deg for command in commands]).with_commands(commands)
    for i, command in enumerate(commands):
        demonstrations.states[demonstrations.segment(i), a1.TRUNK_VX : a1.TRUNK_VY + 1] = command.velocity
    return QuadrupedDirection("hard", n_directions=2, speeds=[0.3, 0.7], demonstrations=demonstrations, seed=0)


def test_hard_draws_directions_and_speeds_uniformly_and_starts_at_both(two_speeds):
    counts = dict.fromkeys(two_speeds.commands, 0)
    for _ in range(1000):
        observation = two_speeds.reset()
        counts[two_speeds.command] += 1
        np.testing.assert_array_equal(observation[a1.TRUNK_VX : a1.TRUNK_VY + 1], two_speeds.command.velocity)
    assert len(counts) == 4
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_a_command_between_starts_at_the_nearest_speed_of_the_nearest_direction(two_speeds):
    observation = two_speeds.reset(command=Command(170.0, 0.6))
    np.testing.assert_array_equal(observation[a1.TRUNK_VX : a1.TRUNK_VY + 1], Command(180.0, 0.7).velocity)
    assert two_speeds.reset(command=180.0)[a1.GOAL][2] == 0.3  # the middle speed, the lower of two


def test_a_command_can_be_given_to_reset_and_stays_for_that_episode_only(hard):
    np.testing.assert_array_equal(hard.reset(command=30.0)[a1.GOAL], Command(30.0, 0.5).features)
    np.testing.assert_array_equal(hard.reset(command=Command(30.0, 0.2))[a1.GOAL], Command(30.0, 0.2).features)
    for _ in range(5):
        np.testing.assert_array_equal(hard.step(STANDING)[0][a1.GOAL], Command(30.0, 0.2).features)
    hard.reset()
    assert hard.command in hard.commands


@pytest.mark.parametrize("direction_deg", [np.nan, np.inf])
def test_a_command_that_is_no_finite_number_is_refused(hard, direction_deg):
    with pytest.raises(ValueError, match="direction"):
        hard.reset(command=direction_deg)


# Start states


@pytest.mark.parametrize("direction_deg", [0.0, 135.0])
def test_episodes_start_in_different_demonstrated_states_of_their_direction_at_the_worlds_origin(hard, direction_deg):
    hard.seed(0)
    starts = [hard.reset(command=direction_deg) for _ in range(10)]
    assert all(starts_in(hard, start, direction_deg) for start in starts)
    assert len({start.tobytes() for start in starts}) > 5
    np.testing.assert_array_equal(hard.data.qpos[:2], 0.0)


def test_a_direction_that_was_never_demonstrated_starts_in_the_nearest_one(hard):
    kept = [i for i, command in enumerate(hard.demonstrations.commands) if command.direction_deg in (0.0, 180.0)]
    environment = QuadrupedDirection("hard", demonstrations=hard.demonstrations.select(kept), seed=0)
    for direction_deg, nearest in ((45.0, 0.0), (315.0, 0.0), (135.0, 180.0), (225.0, 180.0)):
        observation = environment.reset(command=direction_deg)
        assert starts_in(hard, observation, nearest)
        np.testing.assert_array_equal(observation[a1.GOAL], Command(direction_deg).features)


@pytest.mark.parametrize("direction_deg", [225.0, *np.random.default_rng(0).uniform(0.0, 360.0, 5)])
def test_reset_starts_exactly_at_a_given_observation_with_its_command(hard, direction_deg):
    observation = hard.reset(command=Command(direction_deg, 0.2))
    for _ in range(5):
        observation = hard.step(STANDING)[0]
    hard.reset(command=0.0)
    np.testing.assert_array_equal(hard.reset(obs=observation), observation)
    assert angle_between(hard.command.direction_deg, direction_deg) < 1e-9
    assert hard.command.speed == 0.2


def test_given_goal_features_are_made_those_of_a_command(hard):
    observation = hard.reset(command=90.0)
    observation[a1.GOAL] = 0.0, 2.0, 0.5
    np.testing.assert_allclose(hard.reset(obs=observation)[a1.GOAL], [0.0, 1.0, 0.5], atol=1e-15)


@pytest.mark.parametrize("observation", [np.zeros(36), np.zeros((1, 37)), np.full(37, np.nan)])
def test_an_observation_to_start_from_that_is_not_37_finite_numbers_is_refused(hard, observation):
    with pytest.raises(ValueError, match="37 finite numbers"):
        hard.reset(obs=observation)


def test_an_observation_and_a_command_together_are_refused(hard):
    observation = hard.reset()
    with pytest.raises(ValueError, match="not both"):
        hard.reset(obs=observation, command=0.0)


def test_without_demonstrations_episodes_start_from_given_observations_only(hard):
    observation = hard.reset(command=0.0)
    environment = QuadrupedDirection("simple", demonstrations=None)
    with pytest.raises(ValueError, match="reset first"):
        environment.step(STANDING)
    np.testing.assert_array_equal(environment.reset(obs=observation), observation)
    with pytest.raises(ValueError, match="no demonstrations"):
        environment.reset()
    with pytest.raises(ValueError, match="without demonstrations"):
        environment.create_dataset()


# Random numbers


def test_a_seed_reproduces_episodes_exactly_and_another_gives_others(hard):
    assert_identical(list(two_episodes(hard, 3)), list(two_episodes(hard, 3)))
    built = QuadrupedDirection("hard", seed=3)
    hard.seed(3)
    starts = [hard.reset() for _ in range(3)]
    assert_identical(starts, [built.reset() for _ in range(3)])
    hard.seed(4)
    assert not np.array_equal(hard.reset(), starts[0])


def test_interleaved_environments_do_not_disturb_each_other_or_numpys_global_generator(simple, hard):
    before = np.random.get_state()  # noqa: NPY002
    expected = [list(two_episodes(simple, 1)), list(two_episodes(hard, 2))]
    interleaved = zip(two_episodes(simple, 1), two_episodes(hard, 2), strict=True)
    for alone, together in zip(expected, zip(*interleaved, strict=True), strict=True):
        assert_identical(alone, together)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[0], *before[2:]) == (after[0], *after[2:])


# Actions

BAD_ACTIONS = {
    "nan": (np.where(np.arange(12) == 3, np.nan, 0.0), "entry 3"),
    "inf": (np.where(np.arange(12) == 5, -np.inf, 0.0), "entry 5"),
    "too short": (np.zeros(11), r"\(11,\)"),
    "a batch": (np.zeros((1, 12)), r"\(1, 12\)"),
    "a number": (np.array(0.0), r"\(\)"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_a_bad_action_is_refused_by_name_and_leaves_the_state_as_it_was(hard, name):
    action, what = BAD_ACTIONS[name]
    hard.reset()
    hard.step(np.full(a1.N_ACTIONS, 0.1))
    before = full_state(hard)
    with pytest.raises(ValueError, match=f"action.*{what}"):
        hard.step(action)
    assert full_state(hard) == before


def test_actions_are_clipped_to_the_motors_limits_and_may_be_lists(hard):
    observation = hard.reset()
    for given, as_good_as in ((np.full(12, 1e3), np.ones(12)), ([0.0] * 12, STANDING)):
        hard.reset(obs=observation)
        expected = hard.step(as_good_as)[0]
        hard.reset(obs=observation)
        before = np.array(given)
        np.testing.assert_array_equal(hard.step(given)[0], expected)
        np.testing.assert_array_equal(given, before)


def test_an_observation_handed_out_is_the_callers_to_change(hard):
    observation = hard.reset()
    expected = hard.step(STANDING)[1]
    hard.reset(obs=observation)[:] = np.nan
    assert hard.step(STANDING)[1] == expected


# Blow-ups


def test_a_blow_up_is_absorbing_at_the_last_finite_observation_said_once_and_leaves_no_file(tmp_path, simple):
    environment = QuadrupedDirection("simple", seed=0)
    with contextlib.chdir(tmp_path), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            environment.reset()
            previous = environment.step(STANDING)[0]
            environment.data.qvel[:] = 1e9
            observation, reward, absorbing, _ = environment.step(STANDING)
            assert absorbing
            assert np.isfinite(float(reward))
            np.testing.assert_array_equal(observation, previous)
    assert [(warning.category, "blew up" in str(warning.message)) for warning in caught] == [(RuntimeWarning, True)]
    assert list(tmp_path.iterdir()) == []
    assert_identical(list(two_episodes(environment, 5)), list(two_episodes(simple, 5)))


# Copies and datasets


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_an_environment_is_refused(simple, duplicate):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(simple)


def test_a_dataset_has_the_form_of_upstreams(simple):
    shapes = {key: array.shape for key, array in simple.create_dataset().items()}
    n = len(simple.demonstrations.states) - simple.demonstrations.n_segments
    assert shapes == {"states": (n, 37), "next_states": (n, 37), "absorbing": (n,), "last": (n,), "actions": (n, 12)}
    with pytest.raises(ValueError, match="ignore_keys"):
        simple.create_dataset(ignore_keys=["q_trunk_tz"])


def test_a_window_without_a_screen_is_refused_in_one_line(simple, monkeypatch):
    monkeypatch.setattr("glfw.init", lambda: False)
    simple.reset()
    with pytest.raises(UserError, match="^render: a window needs a screen.*headless=True$"):
        simple.render()


@pytest.mark.extensive
def test_a_picture_needs_no_screen(simple, drawing, monkeypatch):
    monkeypatch.setattr("glfw.init", lambda: False)
    simple.reset()
    picture = simple.render(record=True)
    simple.stop()
    assert picture.shape[2] == 3 and picture.std() > 1.0
