import contextlib
import copy
import pickle
import re
import warnings

import mujoco
import numpy as np
import pytest
from loco_mujoco import LocoEnv
from scipy.stats import chisquare

from qi_ext.robot import a1
from qi_ext.robot.commands import Command, angle_between
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.errors import UserError

STANDING = np.zeros(a1.N_ACTIONS)


def full_state(environment):
    """MuJoCo's integration state and the observation acted on, bit for bit."""
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
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def states_of(environment, direction_deg):
    demonstrations = environment.demonstrations
    rows = [
        demonstrations.states[demonstrations.segment(i)]
        for i, command in enumerate(demonstrations.commands)
        if command.direction_deg == direction_deg
    ]
    return np.concatenate(rows)


def begins_in(observation, states):
    """Whether joints and trunk of the observation are exactly those of one of the states."""
    return bool(np.any(np.all(states[:, : a1.GOAL.start] == observation[: a1.GOAL.start], axis=1)))


# Names and form


@pytest.mark.parametrize(("task", "n_commands"), [("simple", 1), ("hard", 8)])
def test_loco_mujoco_makes_the_task_by_name(task, n_commands):
    from loco_mujoco import LocoEnv

    environment = LocoEnv.make(f"QuadrupedDirection.{task}")
    assert isinstance(environment, QuadrupedDirection)
    assert (environment.task.name, len(environment.commands)) == (task, n_commands)
    assert environment.reset().shape == (a1.N_OBSERVATIONS,)


@pytest.mark.parametrize("name", ["QuadrupedDirection.simple", "QuadrupedDirection.hard"])
def test_loco_mujoco_lists_the_task(name):
    from loco_mujoco import LocoEnv

    assert name in LocoEnv.get_all_task_names()


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="medium"):
        QuadrupedDirection("medium")


def test_unusable_demonstrations_are_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="missing.npz"):
        QuadrupedDirection("simple", demonstrations=tmp_path / "missing.npz")


def test_observation_table_of_the_documentation_is_that_of_the_code():
    lines = [line.strip() for line in QuadrupedDirection.__doc__.splitlines()]
    first, head, last = (i for i, line in enumerate(lines) if line.startswith("====="))
    assert re.split(r"\s{2,}|\s(?=what)", lines[first + 1]) == ["index", "what", "joint", "unit"]
    widths = [(match.start(), match.end()) for match in re.finditer("=+", lines[head])]
    documented = []
    for line in lines[head + 1 : last]:
        index, what, joint, unit = (line[begin:end].strip() for begin, end in widths)
        documented.append((int(index), re.sub(r" \(.*\)$", "", what), joint, unit))
    assert documented == a1.observation_table()


# Commands


def test_hard_draws_its_8_directions_uniformly(hard):
    hard.seed(0)
    counts = dict.fromkeys(hard.commands, 0)
    for _ in range(4000):
        hard.reset()
        counts[hard.command] += 1
    assert len(counts) == 8
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_simple_always_commands_forward(simple):
    simple.seed(0)
    assert {simple.reset()[a1.GOAL].tobytes() for _ in range(20)} == {np.array([1.0, 0.0, 0.5]).tobytes()}


def test_goal_features_are_those_of_the_drawn_command(hard):
    hard.seed(0)
    for _ in range(20):
        np.testing.assert_array_equal(hard.reset()[a1.GOAL], hard.command.features)


def test_number_of_directions_and_speed_are_parameters():
    environment = QuadrupedDirection("hard", n_directions=4, speed=0.3, seed=0)
    assert environment.commands == tuple(Command(90.0 * i, 0.3) for i in range(4))
    assert {environment.reset()[a1.GOAL][2] for _ in range(10)} == {0.3}


def test_reset_takes_a_command_in_degrees(hard):
    np.testing.assert_array_equal(hard.reset(command=30.0)[a1.GOAL], Command(30.0, 0.5).features)


def test_reset_takes_a_command_with_its_speed(hard):
    np.testing.assert_array_equal(hard.reset(command=Command(30.0, 0.2))[a1.GOAL], Command(30.0, 0.2).features)


def test_command_stays_for_the_whole_episode(hard):
    hard.reset(command=225.0)
    goals = {hard.step(STANDING)[0][a1.GOAL].tobytes() for _ in range(5)}
    assert goals == {Command(225.0, 0.5).features.tobytes()}


def test_requested_command_is_for_one_episode_only(hard):
    hard.seed(0)
    hard.reset(command=30.0)
    hard.reset()
    assert hard.command in hard.commands


@pytest.mark.parametrize("direction_deg", [np.nan, np.inf])
def test_command_that_is_no_finite_number_is_refused(hard, direction_deg):
    with pytest.raises(ValueError, match="direction"):
        hard.reset(command=direction_deg)


# Initial states


@pytest.mark.parametrize("direction_deg", [0.0, 135.0])
def test_episode_starts_in_a_demonstrated_state_of_its_direction(hard, direction_deg):
    hard.seed(0)
    states = states_of(hard, direction_deg)
    for _ in range(10):
        assert begins_in(hard.reset(command=direction_deg), states)


def test_episode_starts_at_the_worlds_origin(hard):
    hard.reset()
    np.testing.assert_array_equal(hard.data.qpos[:2], 0.0)


def test_episodes_of_a_direction_start_in_different_states(hard):
    hard.seed(0)
    assert len({hard.reset(command=90.0).tobytes() for _ in range(10)}) > 5


def test_direction_never_demonstrated_starts_in_the_nearest_one(hard):
    kept = [i for i, command in enumerate(hard.demonstrations.commands) if command.direction_deg in (0.0, 180.0)]
    environment = QuadrupedDirection("hard", demonstrations=hard.demonstrations.select(kept), seed=0)
    for direction_deg, nearest in ((45.0, 0.0), (315.0, 0.0), (135.0, 180.0), (225.0, 180.0)):
        observation = environment.reset(command=direction_deg)
        assert begins_in(observation, states_of(hard, nearest))
        np.testing.assert_array_equal(observation[a1.GOAL], Command(direction_deg).features)


@pytest.mark.parametrize("direction_deg", [225.0, *np.random.default_rng(0).uniform(0.0, 360.0, 20)])
def test_reset_starts_exactly_at_a_given_observation(hard, direction_deg):
    observation = hard.reset(command=direction_deg)
    for _ in range(5):
        observation = hard.step(STANDING)[0]
    np.testing.assert_array_equal(hard.reset(obs=observation), observation)


def test_given_goal_features_are_made_those_of_a_command(hard):
    observation = hard.reset(command=90.0)
    observation[a1.GOAL] = 0.0, 2.0, 0.5
    np.testing.assert_allclose(hard.reset(obs=observation)[a1.GOAL], [0.0, 1.0, 0.5], atol=1e-15)


def test_given_observation_brings_its_command(hard):
    observation = hard.reset(command=Command(30.0, 0.2))
    hard.reset(command=0.0)
    hard.reset(obs=observation)
    assert angle_between(hard.command.direction_deg, 30.0) < 1e-9
    assert hard.command.speed == 0.2


@pytest.mark.parametrize("observation", [np.zeros(36), np.zeros((1, 37)), np.full(37, np.nan)])
def test_observation_to_start_from_that_is_not_37_finite_numbers_is_refused(hard, observation):
    with pytest.raises(ValueError, match="37 finite numbers"):
        hard.reset(obs=observation)


def test_observation_and_command_together_are_refused(hard):
    observation = hard.reset()
    with pytest.raises(ValueError, match="not both"):
        hard.reset(obs=observation, command=0.0)


def test_environment_without_demonstrations_starts_from_given_observations_only(hard):
    observation = hard.reset(command=0.0)
    environment = QuadrupedDirection("simple", demonstrations=None)
    np.testing.assert_array_equal(environment.reset(obs=observation), observation)
    with pytest.raises(ValueError, match="no demonstrations"):
        environment.reset()


# Random numbers


def test_seed_reproduces_episodes_exactly(hard):
    assert_identical(list(two_episodes(hard, 3)), list(two_episodes(hard, 3)))


def test_seed_of_the_constructor_reproduces_episodes_exactly(hard):
    hard.seed(11)
    expected = [hard.reset() for _ in range(5)]
    environment = QuadrupedDirection("hard", seed=11)
    assert_identical([environment.reset() for _ in range(5)], expected)


def test_other_seeds_give_other_episodes(hard):
    hard.seed(3)
    one = hard.reset()
    hard.seed(4)
    assert not np.array_equal(hard.reset(), one)


def test_interleaved_environments_do_not_disturb_each_other(simple, hard):
    expected = [list(two_episodes(simple, 1)), list(two_episodes(hard, 2))]
    interleaved = zip(two_episodes(simple, 1), two_episodes(hard, 2), strict=True)
    for alone, together in zip(expected, zip(*interleaved, strict=True), strict=True):
        assert_identical(alone, together)


def test_numpys_global_generator_is_left_alone():
    before = np.random.get_state()  # noqa: NPY002
    environment = QuadrupedDirection("hard")
    for _ in range(3):
        environment.reset()
        environment.step(STANDING)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[0], *before[2:]) == (after[0], *after[2:])


# Actions


BAD_ACTIONS = {
    "nan": (np.where(np.arange(12) == 3, np.nan, 0.0), "entry 3"),
    "inf": (np.where(np.arange(12) == 5, -np.inf, 0.0), "entry 5"),
    "too short": (np.zeros(11), r"\(11,\)"),
    "too long": (np.zeros(13), r"\(13,\)"),
    "a batch": (np.zeros((1, 12)), r"\(1, 12\)"),
    "a number": (np.array(0.0), r"\(\)"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_bad_action_is_refused_by_name(hard, name):
    action, what = BAD_ACTIONS[name]
    hard.reset()
    with pytest.raises(ValueError, match=f"action.*{what}"):
        hard.step(action)


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_bad_action_leaves_the_state_as_it_was(hard, name):
    hard.reset()
    hard.step(np.full(a1.N_ACTIONS, 0.1))
    before = full_state(hard)
    with contextlib.suppress(ValueError):
        hard.step(BAD_ACTIONS[name][0])
    assert full_state(hard) == before


def test_action_may_be_a_list(hard):
    observation = hard.reset()
    expected = hard.step(STANDING)[0]
    hard.reset(obs=observation)
    np.testing.assert_array_equal(hard.step([0.0] * a1.N_ACTIONS)[0], expected)


def test_action_is_clipped_to_the_motors_limits(hard):
    observation = hard.reset()
    expected = hard.step(np.ones(a1.N_ACTIONS))[0]
    hard.reset(obs=observation)
    np.testing.assert_array_equal(hard.step(np.full(a1.N_ACTIONS, 1e3))[0], expected)


def test_step_does_not_change_the_action_given(hard):
    action = np.full(a1.N_ACTIONS, 2.0)
    hard.reset()
    hard.step(action)
    np.testing.assert_array_equal(action, 2.0)


def test_observation_handed_out_is_the_callers_to_change(hard):
    observation = hard.reset()
    expected = hard.step(STANDING)[1]
    handed = hard.reset(obs=observation)
    handed[:] = np.nan
    assert hard.step(STANDING)[1] == expected


# Blow-ups


@pytest.fixture(scope="module")
def blown_up(tmp_path_factory):
    """An environment after two episodes that blew up, with what they returned, the warnings and the files left."""
    environment = QuadrupedDirection("simple", seed=0)
    folder = tmp_path_factory.mktemp("blow_up")
    previous, steps = [], []
    with contextlib.chdir(folder), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            environment.reset()
            previous.append(environment.step(STANDING)[0])
            environment.data.qvel[:] = 1e9
            steps.append(environment.step(STANDING))
    return environment, previous, steps, caught, list(folder.iterdir())


def test_blow_up_is_absorbing(blown_up):
    _, _, steps, _, _ = blown_up
    assert [absorbing for _, _, absorbing, _ in steps] == [True, True]


def test_blow_up_ends_at_the_last_finite_observation(blown_up):
    _, previous, steps, _, _ = blown_up
    assert_identical([observation for observation, *_ in steps], previous)


def test_blow_up_has_a_finite_reward(blown_up):
    _, _, steps, _, _ = blown_up
    assert np.all(np.isfinite([float(reward) for _, reward, *_ in steps]))


def test_blow_ups_are_said_once(blown_up):
    _, _, _, caught, _ = blown_up
    assert [(warning.category, "blew up" in str(warning.message)) for warning in caught] == [(RuntimeWarning, True)]


def test_blow_up_leaves_no_log_file(blown_up):
    *_, files = blown_up
    assert files == []


def test_environment_is_as_new_after_a_blow_up_and_a_reset(blown_up, simple):
    environment, *_ = blown_up
    assert_identical(list(two_episodes(environment, 5)), list(two_episodes(simple, 5)))


# Copies and data sets


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_an_environment_is_refused(simple, duplicate):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(simple)


def test_dataset_has_the_form_of_upstreams(simple):
    dataset = simple.create_dataset()
    n = len(simple.demonstrations.states) - simple.demonstrations.n_segments
    shapes = {key: array.shape for key, array in dataset.items()}
    assert shapes == {"states": (n, 37), "next_states": (n, 37), "absorbing": (n,), "last": (n,), "actions": (n, 12)}


def test_dataset_takes_no_ignored_keys(simple):
    with pytest.raises(ValueError, match="ignore_keys"):
        simple.create_dataset(ignore_keys=["q_trunk_tz"])


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(ValueError, match="reset first"):
        QuadrupedDirection("simple", demonstrations=None).step(np.zeros(12))


def test_a_dataset_of_no_demonstrations_is_refused():
    with pytest.raises(ValueError, match="without demonstrations"):
        QuadrupedDirection("simple", demonstrations=None).create_dataset()


def test_upstreams_third_part_of_the_name_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="demonstrations="):
        LocoEnv.make("QuadrupedDirection.hard.real")
