import random

import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.demonstrations import load_demonstrations
from qi_ext.evaluation import evaluate
from qi_ext.robot import a1
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import task_commands

HORIZON = 60


@pytest.fixture(scope="module")
def make_sampler():
    """make_sampler(n_directions, lanes_per_block=4, reverse=False): the hard task, its episodes at most 60 steps long.

    reverse: of the commands, as the environment lists them.
    """
    demonstrations = load_demonstrations("trot", task_commands("hard"))
    made = []

    def make(n_directions, lanes_per_block=4, reverse=False):
        environment = QuadrupedDirection("hard", n_directions, horizon=HORIZON, demonstrations=demonstrations)
        if reverse:
            environment.commands = environment.commands[::-1]
        made.append(BatchedSampler(environment, lanes_per_block, pool="serial"))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()


@pytest.fixture(scope="module")
def two_directions(make_sampler):
    """0 and 180 degrees."""
    return make_sampler(2)


@pytest.fixture(scope="module")
def actor():
    """A random policy of the default size, with actions of some 0.2."""
    generator = np.random.default_rng(0)
    layers = [
        ((generator.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32), np.zeros(shape[0], dtype=np.float32))
        for shape in ((512, 37), (256, 512), (12, 256))
    ]
    zeros = np.zeros(37, dtype=np.float32)
    return Actor(layers, zeros, zeros + 0.2, np.full(12, -1.0, dtype=np.float32))


class Watched:
    """Another controller, with what it was asked: goal and observations of each episode, and each call."""

    def __init__(self, controller):
        self.controller = controller
        self.directions_deg, self.observations = [], []
        self.calls = []  # (observations, actions, lanes)
        self._of_lane = {}

    def begin(self, block, lane):
        self._of_lane[lane] = []
        self.observations.append(self._of_lane[lane])
        self.directions_deg.append(round(np.degrees(np.arctan2(block.goal[lane, 1], block.goal[lane, 0]))) % 360)
        self.controller.begin(block, lane)

    def actions(self, block, observations, lanes):
        for lane in lanes:
            self._of_lane[lane].append(observations[lane].copy())
        actions = self.controller.actions(block, observations, lanes)
        self.calls.append((observations.copy(), actions.copy(), list(lanes)))
        return actions


class OneWay(ExpertController):
    """Walks where it is to walk forward, and else acts `action` in all joints."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def actions(self, block, observations, lanes):
        actions = super().actions(block, observations, lanes)
        actions[: block.n][block.goal[:, 0] < 0.0] = self.action
        return actions


def test_result_holds_what_is_documented(two_directions):
    result = evaluate(two_directions, RandomController(), episodes=2, seed=0)
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
            "blow_ups",
            "velocity_error_mean",
        ]


def test_each_direction_gets_its_quota_however_short_its_episodes(two_directions):
    watched = Watched(OneWay(1.0))
    result = evaluate(two_directions, watched, episodes=3, seed=0)
    assert watched.directions_deg == [0] * 3 + [180] * 3
    forward, backward = result["directions"]
    assert (forward["episodes"], forward["falls"], forward["length_mean"]) == (3, 0, HORIZON)
    assert (backward["episodes"], backward["falls"]) == (3, 3)
    assert backward["length_mean"] < HORIZON / 3
    # The mean is over directions, not over episodes weighed by their steps.
    assert result["return_mean"] == pytest.approx((forward["return_mean"] + backward["return_mean"]) / 2)


def test_progress_is_told_of_each_episode(two_directions):
    said = []
    evaluate(two_directions, RandomController(), episodes=3, seed=0, progress=said.append)
    assert sum(said) == 6


def test_evaluating_twice_gives_the_same(two_directions, actor):
    controller = PolicyController(actor)
    first = evaluate(two_directions, controller, episodes=2, seed=0)
    evaluate(two_directions, RandomController(), episodes=1, seed=5)
    two_directions.fragment(two_directions.lanes([np.random.SeedSequence(0)]), actor, 5)
    assert evaluate(two_directions, controller, episodes=2, seed=0) == first


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}])
def test_another_seed_or_step_gives_other_episodes(two_directions, other):
    key = {"seed": 0, "step": 0}
    first, second = (evaluate(two_directions, RandomController(), episodes=1, **settings) for settings in (key, key | other))
    assert first != second


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_direction_does_not_depend_on_the_others(two_directions, make_sampler, actor, deterministic):
    controller = PolicyController(actor, deterministic)
    two, four = (
        evaluate(sampler, controller, episodes=1, seed=0)["directions"] for sampler in (two_directions, make_sampler(4))
    )
    assert two == [four[0], four[2]]


def test_a_direction_does_not_depend_on_the_order_of_all(make_sampler, actor):
    forth, back = (
        evaluate(make_sampler(4, reverse=reverse), PolicyController(actor), episodes=2, seed=0)["directions"]
        for reverse in (False, True)
    )
    assert [row["direction_deg"] for row in back] == [270.0, 180.0, 90.0, 0.0]
    assert forth == back[::-1]


def test_starts_and_torques_do_not_depend_on_who_shares_a_block(two_directions, make_sampler):
    # Of the policy this is not promised: its matrix products depend on their number of rows, in the last digits.
    alone, together = (
        evaluate(sampler, RandomController(), episodes=3, seed=0) for sampler in (make_sampler(2, 1), two_directions)
    )
    assert alone == together


def test_an_episode_does_not_depend_on_those_before_it(two_directions):
    few, many = (Watched(RandomController()) for _ in range(2))
    evaluate(two_directions, few, episodes=1, seed=0)
    evaluate(two_directions, many, episodes=3, seed=0)
    for alone, among in ((0, 0), (1, 3)):
        np.testing.assert_array_equal(few.observations[alone], many.observations[among])


def test_the_episodes_of_a_direction_differ(two_directions):
    watched = Watched(RandomController())
    evaluate(two_directions, watched, episodes=2, seed=0)
    assert not np.array_equal(watched.observations[0][0], watched.observations[1][0])


@pytest.mark.parametrize("controller", [RandomController(), OneWay(1.0)], ids=["random", "one way"])
def test_figures_are_those_of_the_observations_that_were_seen(two_directions, controller):
    watched = Watched(controller)
    result = evaluate(two_directions, watched, episodes=3, seed=0)
    for row, seen in zip(result["directions"], (watched.observations[:3], watched.observations[3:]), strict=True):
        returns = [a1.environment_reward(np.array(episode)).sum() for episode in seen]
        assert row["return_mean"] == pytest.approx(np.mean(returns))
        assert row["return_std"] == pytest.approx(np.std(returns))
        assert row["length_mean"] == pytest.approx(np.mean([len(episode) for episode in seen]))
        assert row["velocity_error_mean"] == pytest.approx(a1.velocity_error(np.concatenate(seen)).mean())
        assert row["blow_ups"] == 0
    assert result["return_mean"] == pytest.approx(np.mean([row["return_mean"] for row in result["directions"]]))


def test_a_simulation_that_blows_up_is_a_fall_and_counted_apart(two_directions):
    class Hurled(ExpertController):
        """Walks, but where it is to walk backward it begins with velocities that MuJoCo gives up at."""

        def begin(self, block, lane):
            super().begin(block, lane)
            if block.goal[lane, 0] < 0.0:
                block.datas[lane].qvel[:] = 1e11

    forward, backward = evaluate(two_directions, Hurled(), episodes=2, seed=0)["directions"]
    assert (forward["falls"], forward["blow_ups"], forward["length_mean"]) == (0, 0, HORIZON)
    assert (backward["falls"], backward["blow_ups"], backward["length_mean"]) == (2, 2, 1.0)


def test_the_trot_controller_walks_and_random_torques_fall(two_directions):
    expert, chance = (
        evaluate(two_directions, controller, 1, seed=0) for controller in (ExpertController(), RandomController())
    )
    for row in expert["directions"]:
        assert row["falls"] == 0
        assert row["length_mean"] == HORIZON
        assert row["return_mean"] > 0.8 * HORIZON
    for row in chance["directions"]:
        assert row["falls"] == 1
        assert row["length_mean"] < 0.7 * HORIZON


def test_stochastic_actions_are_the_deterministic_ones_and_noise(two_directions, actor):
    deterministic, stochastic = (Watched(PolicyController(actor, deterministic)) for deterministic in (True, False))
    for watched in (deterministic, stochastic):
        evaluate(two_directions, watched, episodes=2, seed=0)
    for observations, actions, _ in deterministic.calls:
        np.testing.assert_allclose(actions, actor.mean(observations), atol=1e-5)
    noise = [(actions - actor.mean(observations))[lanes] / actor.std for observations, actions, lanes in stochastic.calls]
    noise = np.concatenate(noise)
    assert noise.size > 300
    assert noise.mean() == pytest.approx(0.0, abs=0.2)
    assert noise.std() == pytest.approx(1.0, abs=0.1)


def test_nothing_draws_from_a_global_generator(two_directions, actor):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
        return kind, keys.tobytes(), *rest, random.getstate()

    before = state()
    for controller in (RandomController(), PolicyController(actor), ExpertController()):
        evaluate(two_directions, controller, episodes=1, seed=0)
    assert state() == before
