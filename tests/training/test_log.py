import csv

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qi_ext.sampling.rollouts import EPISODE
from qi_ext.training.config import make_config
from qi_ext.training.log import TAGS, EpisodeCounter, ProgressLog


def ended(*rows):
    """Episodes as the lanes count them: (time, lane, return, length), and True where the simulation blew up."""
    return np.array([(*row[:4], True, len(row) > 4) for row in rows], dtype=EPISODE)


@pytest.fixture
def counter():
    """One lane of seven steps: episodes of 2, 1 and 3 steps and a fourth that has not ended."""
    counter = EpisodeCounter()
    counter.add(7, 1, ended((1, 0, 3.0, 2), (2, 0, 5.0, 1), (5, 0, 4.0, 3)))
    return counter


def test_episodes_are_counted_whole(counter):
    assert counter.steps == 7
    assert counter.episodes == [(2, 3.0, 2), (3, 5.0, 1), (6, 4.0, 3)]


def test_a_time_step_is_a_step_of_every_lane():
    counter = EpisodeCounter()
    counter.add(20, 4, ended((0, 2, 1.0, 1), (2, 0, 3.0, 3), (2, 1, 3.0, 3)))
    counter.add(20, 4, ended((1, 3, 7.0, 7)))
    assert counter.steps == 40
    assert [step for step, _, _ in counter.episodes] == [4, 12, 12, 28]
    assert counter.since(12) == (1, 7.0, 7.0)
    assert counter.since(4) == (3, 13.0 / 3.0, 13.0 / 3.0)


def test_blow_ups_are_counted_among_the_episodes(counter):
    counter.add(7, 1, ended((1, 0, 3.0, 2), (3, 0, 5.0, 2, "blew up"), (5, 0, 1.0, 2, "blew up")))
    counter.add(7, 1, ended((1, 0, 3.0, 3, "blew up")))
    assert counter.blow_ups == 3
    assert len(counter.episodes) == 7


def test_means_are_over_the_episodes_that_ended_after_a_step(counter):
    assert counter.since(0) == (3, 4.0, 2.0)
    assert counter.since(2) == (2, 4.5, 2.0)
    assert counter.since(3) == (1, 4.0, 3.0)


def test_without_an_episode_there_are_no_means(counter):
    assert counter.since(6) == (0, None, None)


def test_an_episode_that_began_before_counts_where_it_ends(counter):
    counter.add(4, 1, ended((0, 0, 10.0, 2)))
    assert counter.since(7) == (1, 10.0, 2.0)


def test_window_lengths_are_those_of_the_first_and_the_last_steps(counter):
    assert counter.window_lengths(3) == (1.5, 3.0)
    assert counter.window_lengths(1) == (None, None)
    assert counter.window_lengths(1000) == (2.0, 2.0)


@pytest.fixture
def log(tmp_path):
    log = ProgressLog(tmp_path, make_config(seed=7))
    yield log
    log.close()


def events(directory):
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return accumulator


def rows(directory):
    with open(directory / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_disk_at_once(log, tmp_path):
    log.write(64, {"return_mean": 1.5, "kl": 0.25})
    assert rows(tmp_path) == [{"step": "64", "return_mean": "1.5", "kl": "0.25"}]


def test_a_figure_that_is_not_there_is_empty(log, tmp_path):
    log.write(64, {"return_mean": None, "kl": 0.25})
    log.write(128, {"return_mean": 2.0, "kl": 0.5})
    assert [row["return_mean"] for row in rows(tmp_path)] == ["", "2.0"]
    log.close()
    assert [event.step for event in events(tmp_path).Scalars("rollout/ep_rew_mean")] == [128]


def test_each_figure_has_its_tag_and_the_rest_is_the_discriminators(log, tmp_path):
    log.write(64, dict.fromkeys(TAGS, 1.0) | {"logit_expert": 2.0})
    log.close()
    written = events(tmp_path)
    assert set(written.Tags()["scalars"]) == {*TAGS.values(), "discriminator/logit_expert"}
    (event,) = written.Scalars("discriminator/logit_expert")
    assert (event.step, event.value) == (64, 2.0)


def test_settings_are_among_the_events(log, tmp_path):
    log.close()
    written = events(tmp_path)
    (text,) = written.Tensors("config/text_summary")
    assert "| seed | 7 |" in text.tensor_proto.string_val[0].decode()


def test_final_figures_are_among_the_events(log, tmp_path):
    log.write_hyperparameters({"deterministic": 12.5})
    log.close()
    (event,) = events(tmp_path).Scalars("final/deterministic")
    assert event.value == 12.5
