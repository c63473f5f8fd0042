"""Pushes and noise, as the simulation and another controller see them."""

import numpy as np
import pytest

from qi_ext.demonstrations import recording
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling import physics as worker
from qi_ext.sampling.controllers import ExpertController, RandomController
from qi_ext.sampling.disturbances import (
    HEAD_ON,
    PUSH_EVERY_STEPS,
    PUSH_STEPS,
    DisturbedController,
    TrainedController,
    TrainingDisturbances,
)
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection

HORIZON = 300


class Watch:
    """The forces on all bodies, and on all degrees of freedom, that each step is taken with."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.forces, self.torques = [], []

    def actions(self, block, observations, lanes):
        actions = super().actions(block, observations, lanes)
        self.forces.append(np.array([data.xfrc_applied for data in block.datas]))
        self.torques.append(np.array([data.qfrc_applied for data in block.datas]))
        return actions


class Watching(Watch, DisturbedController):
    pass


class WatchingTraining(Watch, TrainedController):
    pass


class Still:
    """No torques at all."""

    def begin(self, block, lane):
        pass

    def actions(self, block, observations, lanes):
        return np.zeros((len(observations), a1.N_ACTIONS), dtype=np.float32)


@pytest.fixture(scope="module")
def make_sampler():
    """make_sampler(lanes_per_block=2): one direction, episodes of at most 3 s."""
    environment = QuadrupedDirection("simple", horizon=HORIZON)
    made = []

    def make(lanes_per_block=2):
        made.append(BatchedSampler(environment, lanes_per_block, pool="serial"))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()


def run(sampler, controller, seeds=(0, 1)):
    lanes = sampler.lanes([np.random.SeedSequence(seed) for seed in seeds])
    sampler.command(lanes, [Command(0.0)] * len(seeds))
    return [rollouts for _, rollouts in sampler.episodes(lanes, controller)]


def same(first, second):
    return all(
        np.array_equal(one.observations, other.observations) and np.array_equal(one.actions, other.actions)
        for one, other in zip(first, second, strict=True)
    )


def test_pushes_are_those_of_the_demonstrations_but_of_one_size():
    assert PUSH_STEPS * a1.CONTROL_DT == recording.PUSH_SECONDS
    assert PUSH_EVERY_STEPS * a1.CONTROL_DT == recording.PUSH_EVERY_SECONDS


@pytest.mark.parametrize("controller", [ExpertController, RandomController])
def test_without_a_disturbance_nothing_changes(make_sampler, controller):
    sampler = make_sampler()
    assert same(run(sampler, DisturbedController(controller())), run(sampler, controller()))


def test_the_trunk_is_pushed_once_in_each_window_and_let_go(make_sampler):
    watching = Watching(ExpertController(), push=30.0)
    run(make_sampler(), watching)
    forces = np.array(watching.forces)
    trunk = make_sampler().specification.model.body("trunk").id
    assert not np.delete(forces, trunk, axis=2).any()
    forces = forces[:, :, trunk]
    assert len(forces) == HORIZON, "the trot controller does not fall"
    assert not forces[..., 2:].any()
    sizes = np.linalg.norm(forces[..., :2], axis=-1)
    np.testing.assert_allclose(sizes[sizes > 0.0], 30.0)
    for begin in range(0, HORIZON - PUSH_EVERY_STEPS, PUSH_EVERY_STEPS):
        for lane in range(2):
            (pushed,) = np.nonzero(sizes[begin : begin + PUSH_EVERY_STEPS, lane])
            np.testing.assert_array_equal(pushed, pushed[0] + np.arange(PUSH_STEPS))
    assert not np.array_equal(forces[:, 0], forces[:, 1]), "each lane has its own"


def test_a_push_moves_the_trunk_as_newton_says(make_sampler):
    """Impulse is change of momentum, to what legs and floor take up in the 0.1 s."""
    sampler = make_sampler()
    watching = Watching(ExpertController(), push=60.0)
    pushed, calm = run(sampler, watching, seeds=[0])[0], run(sampler, ExpertController(), seeds=[0])[0]
    forces = np.array(watching.forces)[:, 0, sampler.specification.model.body("trunk").id, :2]
    first = int(np.flatnonzero(forces.any(axis=1))[0])
    np.testing.assert_array_equal(pushed.observations[0, : first + 1], calm.observations[0, : first + 1])
    xy = slice(a1.TRUNK_VX, a1.TRUNK_VY + 1)
    change = (pushed.next_observations - calm.next_observations)[0, first, xy]
    direction = forces[first] / 60.0
    free = 60.0 * a1.CONTROL_DT / sampler.specification.model.body_subtreemass[0]
    assert 0.2 * free < change @ direction < 3.0 * free


def test_pushes_and_starts_are_the_same_for_all_that_draw_nothing(make_sampler):
    sampler, forces, episodes = make_sampler(), [], []
    for controller in (ExpertController(), Still()):
        watching = Watching(controller, push=60.0)
        episodes.append(run(sampler, watching))
        forces.append(np.array(watching.forces))
    for lane, pair in enumerate(zip(*episodes, strict=True)):
        np.testing.assert_array_equal(*(rollouts.observations[0, 0] for rollouts in pair))
        both = min(rollouts.n_steps for rollouts in pair)
        np.testing.assert_array_equal(*(force[:both, lane] for force in forces))


def test_disturbances_do_not_depend_on_who_shares_a_block_or_came_before(make_sampler):
    for settings in ({"push": 60.0}, {"noise": 0.1}):
        controller = DisturbedController(ExpertController(), **settings)
        together, alone = run(make_sampler(2), controller), run(make_sampler(1), controller)
        assert same(together, alone)


def test_noise_has_the_standard_deviation_that_was_asked_for(make_sampler):
    for rollouts in run(make_sampler(), DisturbedController(Still(), noise=0.1)):
        noise = rollouts.actions[0]
        assert noise.std() == pytest.approx(0.1, rel=0.15)
        assert noise.mean() == pytest.approx(0.0, abs=0.03)


def pushed_forces(sampler, push, n_lanes, n_steps, restart_every=250):
    """Forces on the trunks of robots that act with no torques, (steps, lanes, 2), of even lanes, while a fragment is run."""
    key, watching = sampler._key, WatchingTraining(Still(), TrainingDisturbances(push, restart_every=restart_every))
    lanes = sampler.lanes(np.random.SeedSequence(4).spawn(n_lanes))
    _, rollouts = worker.fragment(key, lanes, n_lanes, watching, n_steps)
    forces = np.array(watching.forces)
    trunk = sampler.specification.model.body("trunk").id
    assert not np.delete(forces, trunk, axis=2).any()
    assert not forces[:, :, trunk, 2:].any()
    assert not forces[:, 1::2].any(), "every other robot is left alone"
    return forces[:, ::2, trunk, :2], rollouts


def test_pushes_of_training_are_as_frequent_as_those_of_an_evaluation_and_half_of_them_head_on(make_sampler):
    forces, rollouts = pushed_forces(make_sampler(), 80.0, 32, 1000)
    sizes, last = np.linalg.norm(forces, axis=-1), rollouts.last[::2]
    starts = np.concatenate([np.ones((16, 1), dtype=bool), last[:, :-1]], axis=1).T
    assert starts.sum() > 50, "robots without torques fall"
    pushed, before = sizes > 0.0, np.roll(sizes > 0.0, 1, axis=0) & ~starts
    begun = pushed & ~before
    assert begun.sum() / (~before).sum() == pytest.approx(1.0 / (PUSH_EVERY_STEPS - PUSH_STEPS), rel=0.2)
    assert (before & ~pushed).sum() / before.sum() == pytest.approx(1.0 / PUSH_STEPS, rel=0.2)
    assert (forces[1:] == forces[:-1])[pushed[1:] & before[1:]].all(), "a push is one force"
    assert 70.0 < sizes[begun].max() <= 80.0
    assert sizes[begun].mean() == pytest.approx(40.0, rel=0.1)
    moving = np.swapaxes(rollouts.observations[::2, :, a1.TRUNK_VX : a1.TRUNK_VY + 1], 0, 1)[begun]
    against = np.sum(forces[begun] * -moving, axis=1) / sizes[begun] / np.linalg.norm(moving, axis=1)
    head_on = np.mean(against > np.cos(HEAD_ON))
    assert head_on == pytest.approx(0.5 + 0.5 * HEAD_ON / np.pi, abs=0.12)
    assert abs(np.exp(1j * np.arctan2(forces[..., 1], forces[..., 0])[begun][against < np.cos(HEAD_ON)]).mean()) < 0.5


@pytest.mark.parametrize("push", [0.0, 80.0])
def test_every_other_robot_starts_anew_now_and_then(make_sampler, push):
    n_steps, n_disturbed = 800, 8
    _, rollouts = pushed_forces(make_sampler(), push, 2 * n_disturbed, n_steps, restart_every=20)
    assert not rollouts.truncated[1::2].any(), "the others go on to the time limit"
    cut = rollouts.truncated[::2]
    assert cut.sum() == pytest.approx(n_disturbed * n_steps / 20, rel=0.1)
    assert not (cut & rollouts.absorbing[::2]).any()
    later, ended = rollouts.observations[::2, 1:], rollouts.next_observations[::2, :-1]
    anew = (later != ended).any(axis=-1)
    np.testing.assert_array_equal(anew, rollouts.last[::2, :-1])
    assert len(rollouts.episodes) == (rollouts.absorbing | rollouts.truncated).sum()


def test_nobody_starts_anew_unasked(make_sampler):
    _, rollouts = pushed_forces(make_sampler(), 80.0, 4, 1500, restart_every=0)
    assert rollouts.absorbing.any()
    assert not rollouts.truncated.any()


def test_every_joint_has_its_noise_in_training_and_nothing_else_has_any(make_sampler):
    sampler, watching = make_sampler(), WatchingTraining(Still(), TrainingDisturbances(torque_noise=0.05))
    lanes = sampler.lanes(np.random.SeedSequence(5).spawn(4))
    _, rollouts = worker.fragment(sampler._key, lanes, 4, watching, 300)
    torques, model = np.array(watching.torques), sampler.specification.model
    assert not np.array(watching.forces).any()
    driven = np.isin(np.arange(model.nv), model.jnt_dofadr[model.actuator_trnid[:, 0]])
    assert not torques[:, :, ~driven].any()
    assert not torques[:, 1::2].any(), "every other robot is left alone"
    torques = torques[:, ::2]
    np.testing.assert_allclose(torques[:, :, driven].std(axis=(0, 1)), 0.05 * 34.0, rtol=0.1)
    correlations = np.corrcoef(torques[:, :, driven].reshape(-1, 12).T) - np.eye(12)
    assert np.abs(correlations).max() < 0.15
    assert not rollouts.actions.any(), "what was learned from are the policy's own actions"


@pytest.mark.parametrize(
    "disturbances",
    [TrainingDisturbances(push=90.0), TrainingDisturbances(torque_noise=0.1), TrainingDisturbances(restart_every=20)],
)
def test_training_under_disturbances_depends_on_no_batch_and_no_block(make_sampler, make_actor, disturbances):
    def run(lanes_per_block, *parts):
        sampler = make_sampler(lanes_per_block)
        lanes, rollouts = sampler.lanes(np.random.SeedSequence(0).spawn(4)), []
        for n_steps in parts:
            lanes, part = sampler.fragment(lanes, make_actor(), n_steps, disturbances=disturbances)
            rollouts.append(part)
        return lanes, np.concatenate([part.next_observations for part in rollouts], axis=1)

    whole, expected = run(2, 200)
    parts, found = run(2, 90, 3, 107)
    np.testing.assert_array_equal(found, expected)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(parts.arrays()[name], array, err_msg=name)
    calm = make_sampler(2)
    _, undisturbed = calm.fragment(calm.lanes(np.random.SeedSequence(0).spawn(4)), make_actor(), 200)
    assert not np.array_equal(undisturbed.next_observations, expected)
