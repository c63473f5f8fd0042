"""Pushes and noise, as the simulation and another controller see them."""

import numpy as np
import pytest

from qi_ext.demonstrations import recording
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.sampling.disturbances import (
    HEAD_ON,
    PUSH_EVERY_STEPS,
    PUSH_STEPS,
    DisturbedController,
    TrainedController,
    TrainingDisturbances,
)
from qi_ext.sampling.envs import Envs
from qi_ext.sampling.physics import Block
from qi_ext.tasks import QuadrupedDirection

HORIZON = 300


class Watch:
    """The forces on all bodies and on all degrees of freedom, as each step is taken with them."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.forces, self.torques = [], []

    def actions(self, block, observations, envs):
        actions = super().actions(block, observations, envs)
        self.forces.append(np.array([data.xfrc_applied for data in block.datas]))
        self.torques.append(np.array([data.qfrc_applied for data in block.datas]))
        return actions


class WatchedDisturbed(Watch, DisturbedController):
    pass


class WatchedTrained(Watch, TrainedController):
    pass


class Still:
    """No torques at all."""

    def begin(self, block, env):
        pass

    def actions(self, block, observations, envs):
        return np.zeros((len(observations), a1.N_ACTIONS), dtype=np.float32)


@pytest.fixture(scope="module")
def straight(make_simulator):
    """A `Simulator` of one direction, with episodes of at most 3 s."""
    return make_simulator(QuadrupedDirection("simple", horizon=HORIZON))


@pytest.fixture(scope="module")
def trunk(straight):
    return straight.spec.addresses.trunk


@pytest.fixture(scope="module")
def run(straight):
    """run(controller, n=2): a whole episode in each of n envs, in one block; the first ones start alike for any n."""

    def episodes(controller, n=2):
        envs = straight.envs(n)
        for env in range(n):
            envs.command[env], envs.start_group[env] = straight.spec.task.tell(Command(0.0))
        return straight.run_episodes(envs, controller)

    return episodes


@pytest.fixture(scope="module")
def calm(run):
    """Two episodes of the expert without disturbances."""
    return run(ExpertController())


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.actions, other.actions)


# In an evaluation


def test_pushes_are_as_long_and_as_frequent_as_those_of_the_demonstrations():
    assert PUSH_STEPS * a1.CONTROL_DT == recording.PUSH_SECONDS
    assert PUSH_EVERY_STEPS * a1.CONTROL_DT == recording.PUSH_EVERY_SECONDS


def test_without_a_disturbance_nothing_changes(run, calm):
    assert_same(run(DisturbedController(ExpertController())), calm)
    assert_same(run(DisturbedController(RandomController())), run(RandomController()))


def test_the_trunk_is_pushed_once_in_each_window_let_go_and_moves_as_newton_says(straight, run, calm, trunk):
    watched = WatchedDisturbed(ExpertController(), push=60.0)
    pushed = run(watched)
    forces = np.array(watched.forces)
    assert not np.delete(forces, trunk, axis=2).any()
    forces = forces[:, :, trunk]
    assert len(forces) == HORIZON, "the trot controller does not fall"
    assert not forces[..., 2:].any()
    sizes = np.linalg.norm(forces[..., :2], axis=-1)
    np.testing.assert_allclose(sizes[sizes > 0.0], 60.0)
    for begin in range(0, HORIZON - PUSH_EVERY_STEPS, PUSH_EVERY_STEPS):
        for env in range(2):
            (steps,) = np.nonzero(sizes[begin : begin + PUSH_EVERY_STEPS, env])
            np.testing.assert_array_equal(steps, steps[0] + np.arange(PUSH_STEPS))
    assert not np.array_equal(forces[:, 0], forces[:, 1]), "each env has its own"

    # Impulse is change of momentum, up to what legs and floor take up.
    first = int(np.flatnonzero(sizes[:, 0])[0])
    np.testing.assert_array_equal(pushed[0].observations[0, : first + 1], calm[0].observations[0, : first + 1])
    change = (pushed[0].next_observations - calm[0].next_observations)[0, first, a1.TRUNK_VX : a1.TRUNK_VY + 1]
    free = 60.0 * a1.CONTROL_DT / straight.spec.model.body_subtreemass[0]
    assert 0.2 * free < change @ forces[first, 0, :2] / 60.0 < 3.0 * free


def test_pushes_and_starts_are_the_same_for_all_that_draw_nothing(run):
    forces, episodes = [], []
    for controller in (ExpertController(), Still()):
        watched = WatchedDisturbed(controller, push=60.0)
        episodes.append(run(watched))
        forces.append(np.array(watched.forces))
    for env, pair in enumerate(zip(*episodes, strict=True)):
        np.testing.assert_array_equal(*(rollouts.observations[0, 0] for rollouts in pair))
        both = min(rollouts.n_steps for rollouts in pair)
        np.testing.assert_array_equal(*(force[:both, env] for force in forces))


@pytest.mark.parametrize("settings", [{"push": 60.0}, {"noise": 0.1}])
def test_disturbances_do_not_depend_on_who_shares_a_block_or_came_before(run, settings):
    controller = DisturbedController(RandomController(), **settings)
    assert_same(run(controller, 2), run(controller, 5)[:2])


def test_noise_has_the_standard_deviation_that_was_asked_for(run):
    for rollouts in run(DisturbedController(Still(), noise=0.1)):
        noise = rollouts.actions[0]
        assert noise.std() == pytest.approx(0.1, rel=0.15)
        assert noise.mean() == pytest.approx(0.0, abs=0.03)


# In training


def disturbed(straight, n_envs, n_steps, **settings):
    """What envs without torques meet in a fragment: forces and torques, (steps, even envs, ...), and the `Rollouts`."""
    watched = WatchedTrained(Still(), TrainingDisturbances(**settings))
    _, rollouts = straight.step(straight.envs(n_envs), watched, n_steps)
    forces, torques = np.array(watched.forces), np.array(watched.torques)
    assert not forces[:, 1::2].any(), "every other env is left alone"
    assert not torques[:, 1::2].any()
    return forces[:, ::2], torques[:, ::2], rollouts


def test_pushes_are_as_frequent_as_those_of_an_evaluation_and_half_of_them_head_on(straight, trunk):
    """Of 16 trunks that move at random; they are not stepped, which would take long."""
    block, random = Block(straight.spec, straight.envs(32), 32), np.random.default_rng(0)
    controller, forces, moving = TrainedController(Still(), TrainingDisturbances(push=80.0)), [], []
    for _ in range(2000):
        moving.append(random.standard_normal((16, 2)))
        for data, velocity in zip(block.datas[::2], moving[-1], strict=True):
            data.qvel[straight.spec.addresses.qvel[:2]] = velocity
        controller.actions(block, np.zeros((32, a1.N_OBSERVATIONS)), range(32))
        forces.append([data.xfrc_applied.copy() for data in block.datas])
    forces, moving = np.array(forces), np.array(moving)
    assert not forces[:, 1::2].any(), "every other env is left alone"
    assert not np.delete(forces, trunk, axis=2).any()
    assert not forces[:, :, trunk, 2:].any()
    forces = forces[:, ::2, trunk, :2]
    sizes = np.linalg.norm(forces, axis=-1)
    pushed = sizes > 0.0
    before = np.concatenate([np.zeros((1, 16), dtype=bool), pushed[:-1]])
    begun = pushed & ~before
    assert begun.sum() / (~before).sum() == pytest.approx(1.0 / (PUSH_EVERY_STEPS - PUSH_STEPS), rel=0.2)
    assert (before & ~pushed).sum() / before.sum() == pytest.approx(1.0 / PUSH_STEPS, rel=0.2)
    assert (forces[1:] == forces[:-1])[pushed[1:] & before[1:]].all(), "a push is one force"
    assert 70.0 < sizes[begun].max() <= 80.0
    assert sizes[begun].mean() == pytest.approx(40.0, rel=0.1)
    against = np.sum(forces * -moving, axis=-1)[begun] / sizes[begun] / np.linalg.norm(moving, axis=-1)[begun]
    head_on = np.mean(against > np.cos(HEAD_ON))
    assert head_on == pytest.approx(0.5 + 0.5 * HEAD_ON / np.pi, abs=0.1)
    others = forces[begun][against < np.cos(HEAD_ON)]
    assert abs(np.exp(1j * np.arctan2(others[:, 1], others[:, 0])).mean()) < 0.25


def test_every_other_env_starts_anew_by_chance_where_that_is_asked_for(straight):
    _, _, rollouts = disturbed(straight, 8, 400, restart_every=20)
    assert not rollouts.truncated[1::2].any(), "the others go on to the time limit"
    cut = rollouts.truncated[::2]
    assert cut.sum() == pytest.approx(4 * 400 / 20, rel=0.3)
    assert not (cut & rollouts.absorbing[::2]).any()
    later, ended = rollouts.observations[::2, 1:], rollouts.next_observations[::2, :-1]
    np.testing.assert_array_equal((later != ended).any(axis=-1), rollouts.last[::2, :-1])
    assert len(rollouts.episodes) == (rollouts.absorbing | rollouts.truncated).sum()
    _, _, unasked = disturbed(straight, 2, 150, push=80.0)
    assert unasked.absorbing.any()
    assert not unasked.truncated.any()


def test_every_joint_has_its_own_noise_and_nothing_else_has_any(straight):
    forces, torques, rollouts = disturbed(straight, 4, 300, torque_noise=0.05)
    assert not forces.any()
    model = straight.spec.model
    driven = np.isin(np.arange(model.nv), model.jnt_dofadr[model.actuator_trnid[:, 0]])
    assert not torques[:, :, ~driven].any()
    np.testing.assert_allclose(torques[:, :, driven].std(axis=(0, 1)), 0.05 * 34.0, rtol=0.1)
    correlations = np.corrcoef(torques[:, :, driven].reshape(-1, 12).T) - np.eye(12)
    assert np.abs(correlations).max() < 0.15
    assert not rollouts.actions.any(), "the learner sees the policy's own actions"


@pytest.mark.parametrize("settings", [{"push": 90.0}, {"torque_noise": 0.1}, {"restart_every": 20}])
def test_training_under_disturbances_depends_on_no_batch_and_no_block(straight, make_actor, settings):
    policy, disturbances = PolicyController(make_actor()), TrainingDisturbances(**settings)

    def states(controller, *parts, blocks=(slice(0, 4),)):
        envs, steps = straight.envs(4), []
        for n_steps in parts:
            stepped = [straight.step(envs[block], controller, n_steps) for block in blocks]
            envs = Envs.concatenate([part for part, _ in stepped])
            steps.append(np.concatenate([rollouts.next_observations for _, rollouts in stepped]))
        return envs, np.concatenate(steps, axis=1)

    envs, expected = states(disturbances.around(policy), 120)
    parts, found = states(disturbances.around(policy), 50, 3, 67, blocks=(slice(0, 2), slice(2, 4)))
    np.testing.assert_array_equal(found, expected)
    assert parts.equals(envs)
    assert not np.array_equal(states(TrainingDisturbances().around(policy), 120)[1], expected)
