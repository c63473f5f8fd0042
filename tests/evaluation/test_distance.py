"""The distance between distributions of states, on samples whose distance is known."""

import numpy as np
import pytest

from qi_ext.evaluation.distance import StateDistance, wasserstein
from qi_ext.robot import a1
from qi_ext.robot.commands import Command


@pytest.fixture
def sample():
    return np.random.default_rng(0).standard_normal((60, 5))


def test_the_order_of_a_sample_does_not_matter(sample):
    assert wasserstein(sample, np.random.default_rng(1).permutation(sample)) == pytest.approx(0.0, abs=1e-9)


def test_on_a_line_sorted_points_are_paired(sample):
    one, other = sample[:, :1], 2.0 * sample[:, 1:2] + 1.0
    expected = np.sqrt(np.mean((np.sort(one, axis=0) - np.sort(other, axis=0)) ** 2))
    assert wasserstein(one, other) == pytest.approx(expected)


def test_samples_of_different_sizes_are_refused(sample):
    with pytest.raises(ValueError, match="60 and 59"):
        wasserstein(sample, sample[1:])


def result_of(measure, make_episode, episodes):
    for index, states in episodes:
        measure.add(index, make_episode(np.concatenate([states, states[-1:]])))
    return measure.result()


def test_demonstrated_states_are_at_no_distance_and_a_turned_trunk_is_far(gliding, make_episode):
    demonstrations = gliding((0.0, 90.0), rows=50)
    measure = StateDistance(demonstrations, seed=0)
    for command, rows in ((Command(0.0), slice(0, 50)), (Command(90.0), slice(50, 100))):
        states = demonstrations.states[rows]
        result = result_of(measure(command, 1), make_episode, [(0, states)])
        assert result == {"state_distance": pytest.approx(0.0, abs=1e-6), "state_samples": 50}
        turned = states.copy()
        turned[:, a1.YAW] += 0.1  # constant in these demonstrations: in rad, not in standard deviations
        assert result_of(measure(command, 1), make_episode, [(0, turned)])["state_distance"] == pytest.approx(0.1)


@pytest.mark.parametrize(("index", "counts"), [(0, True), (a1.GOAL.start - 1, True), (a1.GOAL.start, False), (36, False)])
def test_only_the_goal_features_are_left_out(gliding, make_episode, index, counts):
    demonstrations = gliding((0.0,), rows=50)
    states = demonstrations.states.copy()
    states[:, index] += 1.0
    result = result_of(StateDistance(demonstrations, seed=0)(Command(0.0), 1), make_episode, [(0, states)])
    assert (result["state_distance"] > 0.5) == counts


def test_the_order_of_episodes_does_not_matter(gliding, make_episode):
    demonstrations = gliding((0.0,), rows=200)
    generator = np.random.default_rng(0)
    episodes = [(i, generator.standard_normal((n, a1.N_OBSERVATIONS))) for i, n in enumerate((90, 40, 160))]
    measure = StateDistance(demonstrations, seed=0, samples=30)
    forth, back = (result_of(measure(Command(0.0), 3), make_episode, order) for order in (episodes, episodes[::-1]))
    assert forth == back
    assert forth["state_samples"] == 30


def test_each_visited_state_is_as_likely_to_be_drawn(gliding, make_episode):
    """Of 900 and 100 states, about 270 and 30 are among 300."""
    measure = StateDistance(gliding((0.0,), rows=300), seed=0, samples=300)(Command(0.0), 2)
    episodes = [(0, np.zeros((900, a1.N_OBSERVATIONS))), (1, np.ones((100, a1.N_OBSERVATIONS)))]
    result_of(measure, make_episode, episodes)
    assert measure._states[:, 0].sum() == pytest.approx(30, abs=15)


def test_a_direction_without_demonstrations_has_no_distance(gliding, make_episode):
    measure = StateDistance(gliding((0.0,)), seed=0)(Command(90.0), 1)
    assert result_of(measure, make_episode, [(0, np.zeros((5, a1.N_OBSERVATIONS)))])["state_distance"] is None


def test_only_nominal_segments_count_where_there_are_any(gliding):
    demonstrations = gliding((0.0, 90.0))
    object.__setattr__(demonstrations, "kind", ("nominal", "push"))
    assert StateDistance(demonstrations, seed=0).demonstrations.commands == (Command(0.0),)
    object.__setattr__(demonstrations, "kind", ("recorded", "recorded"))
    assert len(StateDistance(demonstrations, seed=0).demonstrations.commands) == 2
