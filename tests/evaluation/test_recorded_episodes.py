"""Recorded episodes: the same that `evaluate` measures, and where the robot is in them."""

from contextlib import closing

import numpy as np
import pytest

from qi_ext.evaluation import RecordedEpisode, evaluate, record_episodes
from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import COURSES, advance, command_along
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.follow import FollowTask


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


@pytest.fixture(scope="module")
def follow():
    return QuadrupedDirection("follow", courses=["figure-eight", "circle"], seed=0)


@pytest.mark.parametrize(("task", "command"), [("hard", 45.0), ("follow", Command(90.0, 0.5, 135.0)), ("follow", "circle")])
def test_poses_are_where_the_simulation_was(request, task, command):
    environment = request.getfixturevalue(task)
    observation = environment.reset(command=COURSES.get(command, command))
    generator = np.random.default_rng(0)
    observations, positions, commands = [], [], []
    qpos = addresses(environment.model).qpos
    for _ in range(40):
        observations.append(observation)
        commands.append(environment.command)
        positions.append(environment.data.qpos[qpos].copy())
        observation, _, absorbing, _ = environment.step(0.4 * generator.uniform(-1.0, 1.0, 12))
        if absorbing:
            break
    n = len(observations)
    episode = RecordedEpisode(commands[0], np.array(observations), np.zeros((n, 12)), commands, False, 0.0)
    moved = np.array(positions) - [*positions[0][:2], *np.zeros(16)]
    assert np.ptp(moved[:, :2]) > 0.03
    np.testing.assert_allclose(episode.poses[:, :2], moved[:, :2], atol=1e-3)
    np.testing.assert_allclose(episode.poses[:, 2:], moved[:, 2:], rtol=0.0, atol=1e-12 if episode.headings.any() else 0.0)


def test_commands_are_those_that_each_step_was_observed_under(follow):
    with closing(PoolSource(follow, lanes_per_block=1, pool="serial")) as source:
        (eight, _) = record_episodes(source, ExpertController(), follow.commands, seed=3, n_steps=40)
    found = np.array([command.features for command in eight.commands])
    np.testing.assert_allclose(found, eight.observations[:, a1.GOAL], rtol=0.0, atol=1e-12)
    assert np.ptp(found[:, 1]) > 0.0 and eight.headings[-1] > 0.1


def test_a_constant_velocity_is_a_straight_line():
    observations = np.zeros((101, 37))
    observations[:, a1.TRUNK_VX], observations[:, a1.TRUNK_VY] = 0.3, -0.4
    poses = RecordedEpisode(Command(0.0), observations, np.zeros((101, 12)), [Command(0.0)] * 101, False, 0.0).poses
    assert poses.shape == (101, 18)
    np.testing.assert_allclose(poses[-1, :2], [0.3, -0.4])


def test_a_robot_that_walks_as_it_faces_is_turned_with_the_heading():
    """Its roll is then a pitch of the world's: forward is -y, and its left side, which is high, is at +x."""
    observations = np.zeros((101, 37))
    observations[:, a1.TRUNK_VX], observations[:, a1.ROLL] = 0.5, 0.1
    command = Command(0.0, 0.5, heading_deg=-90.0)
    episode = RecordedEpisode(command, observations, np.zeros((101, 12)), [command] * 101, False, 0.0)
    np.testing.assert_allclose(episode.poses[-1, :6], [0.0, -0.5, 0.0, 0.0, -0.1, -np.pi / 2], atol=1e-12)
    np.testing.assert_allclose(episode.commanded_path, episode.poses[:, :2], atol=1e-12)


def test_the_commands_of_a_circle_lead_along_a_circle():
    command, generator, commands = command_along(COURSES["circle"], 0), np.random.default_rng(0), []
    for _ in range(1000):
        commands.append(FollowTask().describe(command))
        command = advance(command, [COURSES["circle"]], generator)
    nothing = np.zeros((1000, 37))
    episode = RecordedEpisode(COURSES["circle"], nothing, nothing[:, :12], commands, False, 0.0)
    path = episode.commanded_path[20:]  # when it turns at 36 degrees/s
    radius, ahead = 0.5 / np.radians(36.0), np.array([each.ahead for each in commands[20:]])
    centres = path + radius * np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    np.testing.assert_allclose(centres, np.broadcast_to(centres[0], centres.shape), atol=1e-4)
