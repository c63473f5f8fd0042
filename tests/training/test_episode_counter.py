import numpy as np
import pytest

from qi_ext.sampling.rollouts import EPISODE
from qi_ext.training.episode_counter import WINDOW_STEPS, EpisodeCounter


def ended(*rows):
    """Episodes as the envs count them: (time, env, return, length), and True where the simulation blew up."""
    return np.array([(*row[:4], True, len(row) > 4) for row in rows], dtype=EPISODE)


@pytest.fixture
def counter():
    """One env of seven steps: episodes of 2, 1 and 3 steps and a fourth that has not ended."""
    counter = EpisodeCounter()
    counter.add(7, 1, ended((1, 0, 3.0, 2), (2, 0, 5.0, 1), (5, 0, 4.0, 3)))
    return counter


def test_episodes_are_counted_whole(counter):
    assert (counter.steps, counter.episodes) == (7, 3)
    np.testing.assert_array_equal(counter.recent, [(2, 3.0, 2), (3, 5.0, 1), (6, 4.0, 3)])


def test_a_time_step_is_a_step_of_every_env():
    counter = EpisodeCounter()
    counter.add(20, 4, ended((0, 2, 1.0, 1), (2, 0, 3.0, 3), (2, 1, 3.0, 3)))
    counter.add(20, 4, ended((1, 3, 7.0, 7)))
    assert counter.steps == 40
    assert counter.recent[:, 0].tolist() == [4, 12, 12, 28]
    assert counter.since(12) == (1, 7.0, 7.0)
    assert counter.since(4) == (3, 13.0 / 3.0, 13.0 / 3.0)


def test_returns_are_of_the_episodes_that_are_measured_and_counts_of_all():
    counter = EpisodeCounter()
    episodes = ended((0, 0, 1.0, 1), (3, 0, 9.0, 3, "blew up"), (5, 0, 5.0, 2))
    counter.add(7, 1, episodes, np.array([True, False, True]))
    assert counter.since(0) == (2, 3.0, 1.5)
    assert (counter.episodes, counter.blow_ups) == (3, 1)


def test_means_are_over_the_episodes_that_ended_after_a_step(counter):
    assert counter.since(0) == (3, 4.0, 2.0)
    assert counter.since(3) == (1, 4.0, 3.0)
    assert counter.since(6) == (0, None, None)
    counter.add(4, 1, ended((0, 0, 10.0, 2)))  # it began before
    assert counter.since(7) == (1, 10.0, 2.0)


def test_window_lengths_are_those_of_the_first_and_the_last_steps():
    counter = EpisodeCounter()
    counter.add(WINDOW_STEPS, 1, ended((9, 0, 1.0, 10), (WINDOW_STEPS - 1, 0, 2.0, 20)))
    counter.add(WINDOW_STEPS, 1, ended((0, 0, 3.0, 60), (9, 0, 4.0, 40)))
    assert counter.window_lengths() == (15.0, 50.0)
    assert counter.recent_return() == 3.5
    counter.add(WINDOW_STEPS, 1, ended())
    assert counter.window_lengths() == (15.0, None)
    assert counter.recent_return() is None


def test_a_batch_longer_than_the_window_is_counted_whole():
    counter = EpisodeCounter()
    counter.add(3 * WINDOW_STEPS, 1, ended((0, 0, 1.0, 10), (WINDOW_STEPS, 0, 2.0, 20)))
    assert counter.since(0)[0] == 2
    counter.add(64, 1, ended())
    assert counter.since(counter.steps - 64) == (0, None, None)


def test_memory_does_not_grow_with_the_run():
    counter = EpisodeCounter()
    for _ in range(5 * WINDOW_STEPS // 1000):
        counter.add(1000, 1, ended(*((time, 0, 1.0, 10) for time in range(0, 1000, 10))))
    assert counter.episodes == 5 * WINDOW_STEPS // 10
    assert len(counter.first) == len(counter.recent) == WINDOW_STEPS // 10


def test_counting_goes_on_where_it_stopped(counter):
    other = EpisodeCounter()
    other.load_state(counter.state())
    for each in (counter, other):
        each.add(7, 1, ended((0, 0, 8.0, 2), (3, 0, 6.0, 3, "blew up")))
    assert {name: other.state()[name] for name in ("steps", "episodes", "blow_ups")} == {
        "steps": 14,
        "episodes": 5,
        "blow_ups": 1,
    }
    for name, value in other.state().items():
        np.testing.assert_array_equal(value, counter.state()[name])


@pytest.mark.parametrize("wrong", [{"first": np.zeros(7)}, {"steps": "many"}])
def test_a_state_of_something_else_is_refused(counter, wrong):
    with pytest.raises(ValueError):
        counter.load_state(counter.state() | wrong)
