"""Learning of a policy that is its own mirror image."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from qi_ext.demonstrations import load_demonstrations
from qi_ext.learning import GaussianPolicy
from qi_ext.learning.cloning import clone
from qi_ext.learning.natural_gradient import Linearized
from qi_ext.robot import a1, mirror
from qi_ext.robot.commands import Command
from qi_ext.sampling.rollouts import Rollouts
from qi_ext.tasks.directions import task_commands

WARM_START = {"std": 0.1, "learning_rate": 1e-2, "nominal_weight": 1.0, "batch_size": 256}


@pytest.fixture
def policy():
    return GaussianPolicy(37, 12, [16, 16], 0.1, np.random.SeedSequence(0), symmetry="mirror")


def some_observations(n):
    return np.random.default_rng(1).normal(size=(n, 37)).astype(np.float32)


def test_the_policys_torch_side_acts_as_its_numpy_side(policy):
    observations = some_observations(50)
    expected = policy.actor.mean(observations)
    np.testing.assert_allclose(policy.mean_t(torch.from_numpy(observations)).detach(), expected, atol=1e-6)
    np.testing.assert_allclose(Linearized(policy, torch.from_numpy(observations)).mean, expected, atol=1e-6)


@pytest.mark.parametrize("n", [1, 700])  # the second of more rows than are computed together
def test_products_with_the_jacobian_are_those_of_autograd(policy, n):
    observations, parameters = torch.from_numpy(some_observations(n)), list(policy.network.parameters())
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(sum(parameter.numel() for parameter in parameters), generator=generator)
    precision, gradients = torch.rand(12, generator=generator), torch.randn(n, 12, generator=generator)

    def pulled_back(u, **options):
        return parameters_to_vector(torch.autograd.grad(policy.mean_t(observations), parameters, u, **options))

    dummy = torch.zeros(n, 12, requires_grad=True)
    (along,) = torch.autograd.grad(pulled_back(dummy, create_graph=True), dummy, vector)
    linearized = Linearized(policy, observations)
    for found, expected in (
        (linearized.pulled_back(gradients), pulled_back(gradients)),
        (linearized.gauss_newton(vector, precision), pulled_back(along * precision)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def to_the_sides(rollouts):
    """The same under commands to the left in half of the envs, to the right in the others."""
    for observations in (rollouts.observations, rollouts.next_observations):
        observations[::2, :, a1.GOAL], observations[1::2, :, a1.GOAL] = Command(60.0).features, Command(-60.0).features
    return rollouts


def mirror_image(rollouts):
    """The same with all envs mirrored."""
    arrays = dict(vars(rollouts)) | {"actions": mirror.mirror_actions(rollouts.actions)}
    for name in ("observations", "next_observations"):
        arrays[name] = mirror.mirror_observations(arrays[name])
    return Rollouts(**arrays)


@pytest.mark.parametrize("symmetry", ["mirror", "none"])
def test_envs_and_their_mirror_images_teach_the_same_only_with_the_symmetry(make_learner, make_rollouts, symmetry):
    one, other = (make_learner(symmetry=symmetry) for _ in range(2))
    for seed in range(2):
        rollouts = to_the_sides(make_rollouts(one.policy, seed))
        one.fit(rollouts)
        other.fit(mirror_image(rollouts))
    assert np.array_equal(one.policy.get_weights(), other.policy.get_weights()) == (symmetry == "mirror")
    assert (one.diagnostics() == other.diagnostics()) == (symmetry == "mirror")


def test_standard_deviations_stay_equal_on_both_sides(make_learner, make_rollouts):
    learner = make_learner(symmetry="mirror")
    learner.fit(to_the_sides(make_rollouts(learner.policy)))
    stds = learner.policy.actor.std
    assert np.ptp(stds) > 1e-5
    np.testing.assert_allclose(stds[mirror.ACTION_ORDER], stds, rtol=1e-6)


def test_cloning_learns_both_sides_from_one(policy):
    demonstrations = load_demonstrations("trot", task_commands("hard"))
    policy.normalizer.update(torch.from_numpy(demonstrations.states).float())
    clone(policy, demonstrations.of(Command(45.0)), 10, np.random.SeedSequence(0), **WARM_START)
    errors = {
        angle: np.mean((policy.actor.mean(part.states) - part.actions) ** 2)
        for angle in (45.0, 315.0, 135.0)
        for part in [demonstrations.of(Command(angle), "nominal")]
    }
    assert errors[315.0] < 0.2 * errors[135.0]
