"""The tasks in torch against the tasks themselves, one env at a time."""

import math

import numpy as np
import pytest
import torch

from qi_ext.robot import a1, courses
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import DirectionTask
from qi_ext.tasks.on_device import FollowOnDevice, turned
from qi_ext.utils.errors import UserError
from qi_ext.utils.philox import Streams, integers, uniform


@pytest.fixture(scope="module", params=["simple", "hard", "follow"])
def task(request):
    return QuadrupedDirection(request.param, seed=0).task


class Scripted:
    """A generator that gives what it was told to."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def random(self, n):
        return self.numbers

    def integers(self, n):
        return self.numbers.pop(0)


def states(n, seed=0):
    """Positions and velocities, (n, 18) each, some of them past a limit."""
    positions, velocities = np.random.default_rng(seed).normal(size=(2, n, 18))
    positions[:, 2:6] *= 0.2
    return positions, velocities


def test_episodes_start_from_the_same_states_under_the_same_commands(task):
    words = Streams((1, 2), 200, 2, "cpu").draw(0)
    commands, found = task.on_device("cpu").start(words)
    for env, (first, second) in enumerate(words.T):
        choice = int(integers(first, len(task.starts.group_of_command)))
        begin, end = task.starts.groups[task.starts.group_of_command[choice]]
        command, state = task.start(Scripted([choice, int(integers(second, int(end - begin)))]))
        np.testing.assert_array_equal(commands[env], command)
        np.testing.assert_allclose(found[env], state, rtol=0.0, atol=2e-5)


def test_observations_rewards_and_falls_are_the_same(task):
    positions, velocities = states(300)
    starts = task.starts.commands
    commands = starts[np.random.default_rng(1).integers(len(starts), size=300)].copy()
    if task.command_size > courses.HEADING_RATE:
        commands[100:, courses.HEADING] = np.linspace(-9.0, 9.0, 200)
        commands[200:, courses.HEADING_RATE] = 1.0
    expected = np.empty((300, a1.N_OBSERVATIONS))
    for env in range(300):
        task.observe(positions[env], velocities[env], commands[env], expected[env])
    form = task.on_device("cpu")
    positions, velocities = (torch.as_tensor(array, dtype=torch.float32) for array in (positions, velocities))
    found = form.observe(positions, velocities, torch.as_tensor(commands))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-5)
    np.testing.assert_allclose(form.reward(found), task.reward(found.double().numpy(), None, None), rtol=1e-5)
    fallen = task.has_fallen(found.numpy())
    assert 50 < fallen.sum() < 250
    np.testing.assert_array_equal(form.has_fallen(found), fallen)


def test_a_limit_of_the_pitch_is_the_tasks_own():
    task = QuadrupedDirection("simple", max_pitch=0.3, seed=0).task
    pitching = torch.zeros(2, a1.N_OBSERVATIONS)
    pitching[:, a1.PITCH] = torch.tensor([0.29, -0.31])
    assert task.on_device("cpu").has_fallen(pitching).tolist() == [False, True]


def test_drawn_courses_are_followed_alike_for_1000_steps():
    form = QuadrupedDirection("follow", stops=0.4, seed=0).task.on_device("cpu")
    streams = Streams((1, 2), 8, form.n_words_of_start + form.n_words_of_advance, "cpu")
    command, _ = form.start(streams.draw(0)[:2])
    expected = command.numpy().copy()
    targets = set()
    for time in range(1, 1001):
        words = streams.draw(time)[2:]
        command = form.advance(command, words)
        drawn = uniform(words).double().numpy()
        expected = np.stack(
            [courses.advance(row, (), Scripted(drawn[:, env].tolist()), 0.4) for env, row in enumerate(expected)]
        )
        targets |= {tuple(row) for row in expected[:, courses.TARGET]}
        difference = command.numpy() - expected
        difference[:, courses.DIRECTION] = np.remainder(difference[:, courses.DIRECTION] + 1.0, 2.0 * math.pi) - 1.0
        np.testing.assert_allclose(difference, 0.0, atol=1e-9)
    assert len(targets) > 20


def test_a_state_that_is_not_turned_stays_as_it_is_to_the_last_bit():
    positions, velocities = (torch.as_tensor(array, dtype=torch.float32) for array in states(5))
    still = torch.zeros(5, dtype=torch.float64)
    assert torch.equal(turned(positions, velocities, still, still), torch.cat([positions, velocities], dim=1))


def test_a_task_of_ones_own_must_name_its_implementation_and_does_not_take_its_parents():
    class Own(DirectionTask):
        def reward(self, observations, actions, next_observations):
            return np.ones(len(observations))

    with pytest.raises(UserError, match="the task own has no torch implementation"):
        Own("own", ()).on_device("cpu")
    with pytest.raises(ValueError, match="no demonstrations to start episodes from"):
        FollowOnDevice(QuadrupedDirection("follow", demonstrations=None, seed=0).task, "cpu")
