"""A task as one value: a new one is stepped by the pool as by the environment; and registration on import."""

import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import qi_ext
from qi_ext.demonstrations import load_demonstrations
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling import PoolSource
from qi_ext.sampling.controllers import RandomController
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import DirectionTask, task_commands

ROOT = Path(qi_ext.__file__).parents[1]
HORIZON = 8
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


class Hurrying(DirectionTask):
    """Commands a speed that changes by chance after every second step."""

    def advance(self, command, step, generator):
        command = command.copy()
        if step % 2 == 0:
            command[2] = generator.uniform(0.2, 0.8)
        return command

    def reward(self, observations, actions, next_observations):
        return a1.environment_reward(next_observations) - 0.01 * np.square(actions).sum(axis=1)

    def has_fallen(self, observations):
        return super().has_fallen(observations) | (observations[:, a1.GOAL][:, 2] > 0.75)


@pytest.fixture(scope="module")
def hurrying():
    commands = task_commands("hard")
    return QuadrupedDirection(Hurrying("hurrying", commands, load_demonstrations("trot", commands)), horizon=HORIZON)


def test_the_pool_steps_a_new_task_as_its_environment_does(hurrying):
    source = PoolSource(hurrying, lanes_per_block=4, pool="loky", n_workers=2)
    seeds = [np.random.SeedSequence([1, env]) for env in range(10)]
    episodes = dict(source.run_episodes(source.envs(seeds), RandomController()))
    source.close()
    speeds, lengths = set(), set()
    for env, seed in enumerate(seeds):
        rollouts, generator = episodes[env], np.random.default_rng(seed)
        hurrying._generator = generator  # the env's own numbers: start and actions come from it, too
        np.testing.assert_array_equal(hurrying.reset(), rollouts.observations[0, 0])
        for t in range(rollouts.n_steps):
            generator.uniform(-1.0, 1.0, a1.N_ACTIONS)  # as RandomController draws them
            observation, reward, absorbing, _ = hurrying.step(rollouts.actions[0, t])
            np.testing.assert_allclose(rollouts.next_observations[0, t], observation, rtol=0.0, atol=1e-9)
            assert rollouts.rewards[0, t] == pytest.approx(reward, abs=1e-9)
            assert rollouts.absorbing[0, t] == absorbing
            speeds.add(observation[a1.GOAL][2])
        lengths.add(rollouts.n_steps)
    assert len(speeds) > 10
    assert len(lengths) > 2


def test_a_task_describes_what_it_tells(hurrying):
    task = hurrying.task
    for command in (*task.commands, Command(30.0, 0.4)):
        array, group = task.tell(command)
        described = task.describe(array)
        assert (described.direction_deg, described.speed) == pytest.approx((command.direction_deg, command.speed))
        begin, end = task.starts.groups[group]
        assert 0 <= begin < end <= len(task.starts.states)
    assert task.describe(task.commands[3].features) is task.commands[3]


def test_importing_tasks_imports_neither_loco_mujoco_nor_gymnasium_and_afterwards_both_know_the_task(run_python):
    program = (
        "import sys\n"
        "import qi_ext.tasks\n"
        "print([name in sys.modules for name in ('loco_mujoco', 'gymnasium', 'mushroom_rl', 'torch')])\n"
        "import gymnasium, loco_mujoco\n"
        "print('QuadrupedDirection-v0' in gymnasium.registry)\n"
        "print('QuadrupedDirection.hard' in loco_mujoco.LocoEnv.get_all_task_names())\n"
    )
    result = run_python(program)
    assert result.stdout == "[False, False, False, False]\nTrue\nTrue\n", result.stderr
