"""Episodes by direction: their number, their keys, and the numbers that are reported of them."""

import random
from contextlib import closing

import numpy as np
import pytest

from qi_ext.evaluation import evaluate
from qi_ext.robot import a1
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.tasks import QuadrupedDirection

HORIZON = 60


class Watched:
    """Another controller, with the direction and the observations of each episode, in the order in which they began."""

    def __init__(self, controller):
        self.controller = controller
        self.directions_deg, self.observations = [], []
        self._of_env = {}

    def begin(self, block, env):
        self._of_env[env] = []
        self.observations.append(self._of_env[env])
        self.directions_deg.append(round(np.degrees(np.arctan2(block.command[env, 1], block.command[env, 0]))) % 360)
        self.controller.begin(block, env)

    def actions(self, block, observations, envs):
        for env in envs:
            self._of_env[env].append(observations[env].copy())
        return self.controller.actions(block, observations, envs)


class OneWay(ExpertController):
    """Walks where the command is forward; falls, by full torques, where it is not."""

    def actions(self, block, observations, envs):
        actions = super().actions(block, observations, envs)
        actions[: block.n][block.command[:, 0] < 0.0] = 1.0
        return actions


def test_each_direction_gets_its_episodes_however_short_they_are(source):
    watched, progress = Watched(OneWay()), []
    result = evaluate(source, watched, episodes=3, seed=0, progress=progress.append)
    assert watched.directions_deg == [0] * 3 + [180] * 3
    assert sum(progress) == 6
    forward, backward = result["directions"]
    assert (forward["episodes"], forward["falls"], forward["length_mean"]) == (3, 0, HORIZON)
    assert forward["return_mean"] > 0.8 * HORIZON
    assert (backward["episodes"], backward["falls"]) == (3, 3)
    assert backward["length_mean"] < HORIZON / 3
    # The mean is over directions, not over episodes weighed by their steps.
    assert result["return_mean"] == pytest.approx((forward["return_mean"] + backward["return_mean"]) / 2)


def test_results_are_those_of_the_observations_that_were_seen(source):
    watched = Watched(OneWay())
    result = evaluate(source, watched, episodes=3, seed=0)
    assert list(result) == ["return_mean", "directions"]
    for row, seen in zip(result["directions"], (watched.observations[:3], watched.observations[3:]), strict=True):
        returns = [a1.environment_reward(np.array(episode)).sum() for episode in seen]
        assert list(row.items()) == [
            ("direction_deg", 0.0 if row is result["directions"][0] else 180.0),
            ("episodes", 3),
            ("return_mean", pytest.approx(np.mean(returns))),
            ("return_std", pytest.approx(np.std(returns))),
            ("length_mean", pytest.approx(np.mean([len(episode) for episode in seen]))),
            ("falls", sum(len(episode) < HORIZON for episode in seen)),
            ("blow_ups", 0),
            ("velocity_error_mean", pytest.approx(a1.velocity_error(np.concatenate(seen)).mean())),
        ]


def test_a_simulation_that_blows_up_is_a_fall_and_counted_apart(source):
    class Hurled(ExpertController):
        """Walks, but where the command is backward it begins with velocities that MuJoCo gives up at."""

        def begin(self, block, env):
            super().begin(block, env)
            if block.command[env, 0] < 0.0:
                block.datas[env].qvel[:] = 1e11

    forward, backward = evaluate(source, Hurled(), episodes=2, seed=0)["directions"]
    assert (forward["falls"], forward["blow_ups"], forward["length_mean"]) == (0, 0, HORIZON)
    assert (backward["falls"], backward["blow_ups"], backward["length_mean"]) == (2, 2, 1.0)


def test_evaluating_twice_gives_the_same(source, limp):
    first = evaluate(source, PolicyController(limp), episodes=2, seed=0)
    evaluate(source, RandomController(), episodes=1, seed=5)
    assert evaluate(source, PolicyController(limp), episodes=2, seed=0) == first


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}])
def test_another_seed_or_step_gives_other_episodes(source, other):
    key = {"seed": 0, "step": 0}
    first, second = (evaluate(source, RandomController(), episodes=1, **settings) for settings in (key, key | other))
    assert first != second


def test_a_direction_does_not_depend_on_the_others(source, limp):
    environment = QuadrupedDirection("hard", 4, horizon=HORIZON, demonstrations=source.environment.demonstrations)
    with closing(PoolSource(environment, pool="serial")) as of_four:
        two, four = (evaluate(each, PolicyController(limp), episodes=1, seed=0)["directions"] for each in (source, of_four))
    assert two == [four[0], four[2]]


def test_an_episode_does_not_depend_on_those_before_it_and_differs_from_them(source):
    few, many = (Watched(RandomController()) for _ in range(2))
    evaluate(source, few, episodes=1, seed=0)
    evaluate(source, many, episodes=3, seed=0)
    for alone, among in ((0, 0), (1, 3)):
        np.testing.assert_array_equal(few.observations[alone], many.observations[among])
    assert not np.array_equal(many.observations[0][0], many.observations[1][0])


def test_nothing_draws_from_a_global_generator(source, limp):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
        return kind, keys.tobytes(), *rest, random.getstate()

    before = state()
    for controller in (RandomController(), PolicyController(limp), ExpertController()):
        evaluate(source, controller, episodes=1, seed=0)
    assert state() == before
