import random

import numpy as np
import pytest

from qi_ext import a1
from qi_ext.acting import Actor
from qi_ext.commands import task_commands
from qi_ext.demonstrations import load_demonstrations
from qi_ext.evaluation.episodes import actor_controller, evaluate, expert_controller, random_controller
from qi_ext.tasks import QuadrupedDirection

HORIZON = 60


@pytest.fixture(scope="module")
def demonstrations():
    return load_demonstrations("trot", task_commands("hard"))


@pytest.fixture(scope="module")
def two_directions(demonstrations):
    """The hard task in 0 and 180 degrees, its episodes at most 60 steps long."""
    return QuadrupedDirection("hard", n_directions=2, horizon=HORIZON, demonstrations=demonstrations)


@pytest.fixture(scope="module")
def four_directions(demonstrations):
    return QuadrupedDirection("hard", n_directions=4, horizon=HORIZON, demonstrations=demonstrations)


@pytest.fixture(scope="module")
def actor():
    """A small random policy."""
    generator = np.random.default_rng(0)
    layers = [
        (0.2 * generator.standard_normal(shape).astype(np.float32), np.zeros(shape[0], dtype=np.float32))
        for shape in ((8, 37), (12, 8))
    ]
    zeros = np.zeros(37, dtype=np.float32)
    return Actor(layers, zeros, zeros + 1.0, np.full(12, -1.0, dtype=np.float32))


class Watched:
    """Another controller, with what it was asked: the commands of its episodes, and their observations."""

    def __init__(self, controller):
        self.controller = controller
        self.commands, self.observations = [], []

    def __call__(self, environment, generator):
        act = self.controller(environment, generator)
        seen = []
        self.commands.append(environment.command)
        self.observations.append(seen)
        return lambda observation: seen.append(observation.copy()) or act(observation)


def test_result_holds_what_is_documented(two_directions):
    result = evaluate(two_directions, random_controller, episodes=2, seed=0)
    assert set(result) == {"return_mean", "directions"}
    assert [row["direction_deg"] for row in result["directions"]] == [0.0, 180.0]
    for row in result["directions"]:
        assert list(row) == [
            "direction_deg",
            "episodes",
            "return_mean",
            "return_std",
            "length_mean",
            "falls",
            "velocity_error_mean",
        ]


def test_each_direction_gets_its_quota_however_short_its_episodes(two_directions):
    watched = Watched(random_controller)
    evaluate(two_directions, watched, episodes=3, seed=0)
    assert [command.direction_deg for command in watched.commands] == [0.0] * 3 + [180.0] * 3


def test_progress_is_told_after_each_episode(two_directions):
    said = []
    evaluate(two_directions, random_controller, episodes=2, seed=0, progress=lambda: said.append(1))
    assert len(said) == 4


def test_evaluating_twice_gives_the_same(two_directions, actor):
    controller = actor_controller(actor, deterministic=False)
    first = evaluate(two_directions, controller, episodes=2, seed=0)
    two_directions.reset()
    two_directions.step(np.ones(12))
    assert evaluate(two_directions, controller, episodes=2, seed=0) == first


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}])
def test_another_seed_or_step_gives_other_episodes(two_directions, other):
    key = {"seed": 0, "step": 0}
    first, second = (evaluate(two_directions, random_controller, episodes=1, **settings) for settings in (key, key | other))
    assert first != second


def test_a_direction_does_not_depend_on_the_others(two_directions, four_directions, actor):
    controller = actor_controller(actor, deterministic=False)
    two, four = (evaluate(task, controller, episodes=1, seed=0)["directions"] for task in (two_directions, four_directions))
    assert two == [four[0], four[2]]


def test_an_episode_does_not_depend_on_those_before_it(two_directions):
    few, many = (Watched(random_controller) for _ in range(2))
    evaluate(two_directions, few, episodes=1, seed=0)
    evaluate(two_directions, many, episodes=3, seed=0)
    for alone, among in ((0, 0), (1, 3)):
        np.testing.assert_array_equal(few.observations[alone], many.observations[among])


def test_the_episodes_of_a_direction_differ(two_directions):
    watched = Watched(random_controller)
    evaluate(two_directions, watched, episodes=2, seed=0)
    assert not np.array_equal(watched.observations[0][0], watched.observations[1][0])


def test_figures_are_those_of_the_observations_that_were_seen(two_directions):
    watched = Watched(random_controller)
    result = evaluate(two_directions, watched, episodes=3, seed=0)
    for row, seen in zip(result["directions"], (watched.observations[:3], watched.observations[3:]), strict=True):
        returns = [a1.environment_reward(np.array(episode)).sum() for episode in seen]
        assert row["return_mean"] == pytest.approx(np.mean(returns))
        assert row["return_std"] == pytest.approx(np.std(returns))
        assert row["length_mean"] == pytest.approx(np.mean([len(episode) for episode in seen]))
        assert row["velocity_error_mean"] == pytest.approx(a1.velocity_error(np.concatenate(seen)).mean())
    assert result["return_mean"] == pytest.approx(np.mean([row["return_mean"] for row in result["directions"]]))


def test_the_trot_controller_walks_and_random_torques_fall(two_directions):
    expert, chance = (evaluate(two_directions, controller, 1, seed=0) for controller in (expert_controller, random_controller))
    for row in expert["directions"]:
        assert row["falls"] == 0
        assert row["length_mean"] == HORIZON
        assert row["return_mean"] > 0.8 * HORIZON
    for row in chance["directions"]:
        assert row["falls"] == 1
        assert row["length_mean"] < 0.7 * HORIZON


def test_stochastic_actions_are_the_deterministic_ones_and_noise(two_directions, actor):
    environment = two_directions
    observation = environment.reset()
    stochastic = actor_controller(actor, deterministic=False)(environment, np.random.default_rng(0))(observation)
    deterministic = actor_controller(actor, deterministic=True)(environment, np.random.default_rng(0))(observation)
    np.testing.assert_array_equal(deterministic, actor.mean(observation))
    assert not np.array_equal(stochastic, deterministic)


def test_nothing_draws_from_a_global_generator(two_directions):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
        return kind, keys.tobytes(), *rest, random.getstate()

    before = state()
    evaluate(two_directions, random_controller, episodes=1, seed=0)
    assert state() == before
