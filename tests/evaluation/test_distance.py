"""The distance between distributions of states, on samples whose distance is known."""

from contextlib import closing

import numpy as np
import pytest

from qi_ext.evaluation.distance import StateDistance, wasserstein
from qi_ext.evaluation.episodes import evaluate
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, RandomController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection


@pytest.fixture
def sample():
    return np.random.default_rng(0).standard_normal((60, 5))


def test_a_sample_in_another_order_is_at_no_distance(sample):
    assert wasserstein(sample, np.random.default_rng(1).permutation(sample)) == pytest.approx(0.0, abs=1e-9)


def test_a_translation_is_as_far_as_it_goes(sample):
    assert wasserstein(sample, sample[::-1] + [3.0, 0.0, 4.0, 0.0, 0.0]) == pytest.approx(5.0)


def test_on_a_line_the_sorted_are_paired(sample):
    here, there = sample[:, :1], 2.0 * sample[:, 1:2] + 1.0
    expected = np.sqrt(np.mean((np.sort(here, axis=0) - np.sort(there, axis=0)) ** 2))
    assert wasserstein(here, there) == pytest.approx(expected)


def test_samples_of_other_sizes_are_refused(sample):
    with pytest.raises(ValueError, match="60 and 59"):
        wasserstein(sample, sample[1:])


def add(measure, make_episode, episodes):
    for index, states in episodes:
        measure.add(index, make_episode(np.concatenate([states, states[-1:]])))
    return measure.figures()


def test_what_was_demonstrated_is_at_no_distance_and_a_turned_trunk_far_away(gliding, make_episode):
    demonstrations = gliding((0.0, 90.0), rows=50)
    measure = StateDistance(demonstrations, seed=0)
    for command, rows in ((Command(0.0), slice(0, 50)), (Command(90.0), slice(50, 100))):
        states = demonstrations.states[rows]
        figures = add(measure(command, 1), make_episode, [(0, states)])
        assert figures["state_samples"] == 50
        assert figures["state_distance"] == pytest.approx(0.0, abs=1e-6)
        turned = states.copy()
        turned[:, a1.YAW] += 0.1  # constant in these demonstrations: in rad, not in standard deviations
        assert add(measure(command, 1), make_episode, [(0, turned)])["state_distance"] == pytest.approx(0.1)


def test_the_goal_features_are_left_out_and_nothing_else(gliding, make_episode):
    demonstrations = gliding((0.0,), rows=50)
    for index in range(a1.N_OBSERVATIONS):
        states = demonstrations.states.copy()
        states[:, index] += 1.0
        figures = add(StateDistance(demonstrations, seed=0)(Command(0.0), 1), make_episode, [(0, states)])
        assert (figures["state_distance"] > 0.5) == (index < a1.GOAL.start), index


def test_the_order_in_which_episodes_come_does_not_matter(gliding, make_episode):
    demonstrations = gliding((0.0,), rows=200)
    generator = np.random.default_rng(0)
    episodes = [(i, generator.standard_normal((n, a1.N_OBSERVATIONS))) for i, n in enumerate((90, 40, 160))]
    measure = StateDistance(demonstrations, seed=0, samples=30)
    forth, back = (add(measure(Command(0.0), 3), make_episode, order) for order in (episodes, episodes[::-1]))
    assert forth == back
    assert forth["state_samples"] == 30


def test_states_of_long_episodes_are_drawn_more_often(gliding, make_episode):
    """Each state visited is as likely to be drawn: of 900 and 100 states, some 270 and 30 of 300."""
    demonstrations = gliding((0.0,), rows=300)
    measure = StateDistance(demonstrations, seed=0, samples=300)(Command(0.0), 2)
    add(measure, make_episode, [(0, np.zeros((900, a1.N_OBSERVATIONS))), (1, np.ones((100, a1.N_OBSERVATIONS)))])
    assert measure._states[:, 0].sum() == pytest.approx(30, abs=15)


def test_a_direction_that_was_not_demonstrated_has_no_distance(gliding, make_episode):
    measure = StateDistance(gliding((0.0,)), seed=0)(Command(90.0), 1)
    assert add(measure, make_episode, [(0, np.zeros((5, a1.N_OBSERVATIONS)))])["state_distance"] is None


def test_only_nominal_segments_count_where_there_are_any(gliding):
    demonstrations = gliding((0.0, 90.0))
    object.__setattr__(demonstrations, "kind", ("nominal", "push"))
    assert StateDistance(demonstrations, seed=0).demonstrations.commands == (Command(0.0),)
    object.__setattr__(demonstrations, "kind", ("recorded", "recorded"))
    assert len(StateDistance(demonstrations, seed=0).demonstrations.commands) == 2


def test_the_trot_is_near_its_demonstrations_and_chance_is_not():
    environment = QuadrupedDirection("simple", horizon=150)
    with closing(BatchedSampler(environment, pool="serial")) as sampler:
        trot, chance = (
            evaluate(sampler, controller, 2, seed=0, measures=[StateDistance(environment.demonstrations, seed=0)])["mean"]
            for controller in (ExpertController(), RandomController())
        )
    assert trot["state_distance"] < 0.2 * chance["state_distance"]
