from contextlib import closing

import numpy as np
import pytest

from qi_ext.evaluation import evaluate
from qi_ext.evaluation.recorded_episodes import Walk, walks
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, RandomController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection


@pytest.fixture(scope="module")
def sampler():
    environment = QuadrupedDirection("hard", n_directions=4, horizon=60)
    with closing(BatchedSampler(environment, pool="serial")) as sampler:
        yield sampler


@pytest.mark.parametrize("controller", [ExpertController, RandomController])
def test_are_the_episodes_that_evaluate_measures(sampler, controller):
    commands = sampler.environment.commands
    done = []
    found = walks(sampler, controller(), commands, seed=3, step=7, progress=done.append)
    measured = evaluate(sampler, controller(), 1, seed=3, step=7)["directions"]
    assert [walk.command for walk in found] == list(commands)
    assert [walk.episode_return for walk in found] == [row["return_mean"] for row in measured]
    assert [len(walk.observations) for walk in found] == [row["length_mean"] for row in measured]
    assert [walk.fell for walk in found] == [bool(row["falls"]) for row in measured]
    assert sum(done) == len(commands)
    other = walks(sampler, controller(), commands, seed=3, step=7, episode=1)
    assert other[0].episode_return != found[0].episode_return


def test_poses_are_where_the_simulation_was():
    environment = QuadrupedDirection("hard", seed=0)
    observation = environment.reset(command=45.0)
    generator = np.random.default_rng(0)
    observations, positions = [], []
    index = [environment.model.joint(name).qposadr[0] for name in a1.JOINTS]
    for _ in range(40):
        observations.append(observation)
        positions.append(environment.data.qpos[index].copy())
        observation, _, absorbing, _ = environment.step(0.4 * generator.uniform(-1.0, 1.0, 12))
        if absorbing:
            break
    walk = Walk(environment.command, np.array(observations), np.zeros((len(observations), 12)), False, 0.0)
    moved = np.array(positions) - [*positions[0][:2], *np.zeros(16)]
    assert np.ptp(moved[:, :2]) > 0.03
    np.testing.assert_allclose(walk.poses[:, :2], moved[:, :2], atol=1e-3)
    np.testing.assert_array_equal(walk.poses[:, 2:], moved[:, 2:])


def test_a_constant_velocity_is_a_straight_line():
    observations = np.zeros((101, 37))
    observations[:, a1.TRUNK_VX], observations[:, a1.TRUNK_VY] = 0.3, -0.4
    poses = Walk(Command(0.0), observations, np.zeros((101, 12)), False, 0.0).poses
    assert poses.shape == (101, 18)
    np.testing.assert_allclose(poses[-1, :2], [0.3, -0.4])
