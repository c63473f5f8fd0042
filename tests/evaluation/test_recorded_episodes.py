"""Recorded episodes: the same that `evaluate` measures, and where the robot is in them."""

import numpy as np

from qi_ext.evaluation import RecordedEpisode, evaluate, record_episodes
from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import PolicyController


def test_they_are_the_episodes_that_evaluate_measures(source, limp):
    commands, controller, progress = source.environment.commands, PolicyController(limp), []
    recorded = record_episodes(source, controller, commands, seed=3, step=7, progress=progress.append)
    rows = evaluate(source, controller, 1, seed=3, step=7)["directions"]
    assert [episode.command for episode in recorded] == list(commands)
    assert [episode.episode_return for episode in recorded] == [row["return_mean"] for row in rows]
    assert [len(episode.observations) for episode in recorded] == [row["length_mean"] for row in rows]
    assert [episode.fell for episode in recorded] == [bool(row["falls"]) for row in rows]
    assert sum(progress) == len(commands)
    other = record_episodes(source, controller, commands, seed=3, step=7, episode=1)
    assert other[0].episode_return != recorded[0].episode_return


def test_of_an_episode_that_is_cut_short_only_its_first_steps_are_run(source, limp):
    whole = record_episodes(source, PolicyController(limp), source.environment.commands, seed=3)
    short = record_episodes(source, PolicyController(limp), source.environment.commands, seed=3, n_steps=5)
    for all_of_it, first in zip(whole, short, strict=True):
        assert len(all_of_it.observations) > 5
        np.testing.assert_array_equal(first.observations, all_of_it.observations[:5])
        np.testing.assert_array_equal(first.actions, all_of_it.actions[:5])
        assert (first.fell, first.cut, all_of_it.cut) == (False, True, False)


def test_poses_are_where_the_simulation_was(hard):
    observation = hard.reset(command=45.0)
    generator = np.random.default_rng(0)
    observations, positions = [], []
    qpos = addresses(hard.model).qpos
    for _ in range(40):
        observations.append(observation)
        positions.append(hard.data.qpos[qpos].copy())
        observation, _, absorbing, _ = hard.step(0.4 * generator.uniform(-1.0, 1.0, 12))
        if absorbing:
            break
    episode = RecordedEpisode(hard.command, np.array(observations), np.zeros((len(observations), 12)), False, 0.0)
    moved = np.array(positions) - [*positions[0][:2], *np.zeros(16)]
    assert np.ptp(moved[:, :2]) > 0.03
    np.testing.assert_allclose(episode.poses[:, :2], moved[:, :2], atol=1e-3)
    np.testing.assert_array_equal(episode.poses[:, 2:], moved[:, 2:])


def test_a_constant_velocity_is_a_straight_line():
    observations = np.zeros((101, 37))
    observations[:, a1.TRUNK_VX], observations[:, a1.TRUNK_VY] = 0.3, -0.4
    poses = RecordedEpisode(Command(0.0), observations, np.zeros((101, 12)), False, 0.0).poses
    assert poses.shape == (101, 18)
    np.testing.assert_allclose(poses[-1, :2], [0.3, -0.4])
