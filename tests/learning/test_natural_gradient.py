import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from qi_ext.learning.natural_gradient import (
    CPU_ROWS,
    Linearized,
    conjugate_gradient,
    gauss_newton_product,
    unflatten,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive_definite(n, seed=0):
    root = draw(n, n, seed=seed)
    return root @ root.T / n + 0.5 * torch.eye(n, dtype=torch.float64)


@pytest.fixture
def policy64(make_policy):
    """policy64(hidden): a small policy in float64, each action with a std of its own, its inputs normalized."""

    def make(hidden=(7, 5)):
        policy = make_policy(hidden, n_observations=4, n_actions=3)
        policy.network.double()
        policy.normalizer.update(2.0 + 3.0 * draw(100, 4, seed=9))
        policy.log_std.data = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
        return policy

    return make


# Flat vectors


def test_unflattened_pieces_are_views_in_order():
    like = [torch.zeros(2, 3), torch.zeros(3), torch.zeros(())]
    vector = torch.arange(10.0)
    pieces = unflatten(vector, like)
    assert [piece.shape for piece in pieces] == [tensor.shape for tensor in like]
    assert torch.equal(parameters_to_vector(pieces), vector)
    pieces[1].zero_()
    assert vector[6:9].tolist() == [0.0] * 3


# A policy's mean and products with its Jacobian


def number_of_weights(policy):
    return sum(parameter.numel() for parameter in policy.parameters())


def hessian_product_of_the_kl(policy, observations, vector):
    with torch.no_grad():
        old = policy.distribution_t(observations)
    kl = torch.distributions.kl_divergence(old, policy.distribution_t(observations)).mean()
    gradient = parameters_to_vector(torch.autograd.grad(kl, policy.parameters(), create_graph=True))
    return parameters_to_vector(torch.autograd.grad(gradient @ vector, policy.parameters()))


# The last two of more rows than are computed together.
@pytest.mark.parametrize(("hidden", "n"), [((), 20), ((7, 5), 20), ((6,), CPU_ROWS), ((6,), 2 * CPU_ROWS + 1)])
def test_mean_gradient_and_fisher_product_are_those_of_autograd(policy64, hidden, n):
    policy, observations, weights = policy64(hidden), draw(n, 4, seed=1), draw(n, 3, seed=2)
    linearized, vector = Linearized(policy, observations), draw(number_of_weights(policy), seed=3)
    torch.testing.assert_close(linearized.mean, policy.mean_t(observations).detach(), rtol=1e-12, atol=1e-14)
    loss = (policy.mean_t(observations) * weights).sum()
    expected = parameters_to_vector(torch.autograd.grad(loss, list(policy.network.parameters())))
    torch.testing.assert_close(linearized.pulled_back(weights), expected, rtol=1e-9, atol=1e-11)
    product = gauss_newton_product(policy, linearized)(vector)
    torch.testing.assert_close(product, hessian_product_of_the_kl(policy, observations, vector), rtol=1e-9, atol=1e-12)


def test_products_change_neither_what_they_are_given_nor_one_another(policy64):
    policy, observations = policy64(), draw(20, 4, seed=1)
    linearized, vector, weights = Linearized(policy, observations), draw(number_of_weights(policy), seed=2), draw(20, 3, seed=3)
    before = [tensor.clone() for tensor in (vector, weights, linearized.mean, parameters_to_vector(policy.parameters()))]
    product = gauss_newton_product(policy, linearized)
    first, pulled = product(vector), linearized.pulled_back(weights)
    assert torch.equal(product(vector), first)
    assert torch.equal(linearized.pulled_back(weights), pulled)
    after = (vector, weights, linearized.mean, parameters_to_vector(policy.parameters()))
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_product_in_float32_is_that_of_the_hessian_too(make_policy):
    policy, observations = make_policy((32, 16)), draw(50, 37, seed=1).float()
    vector = draw(number_of_weights(policy), seed=2).float()
    expected = hessian_product_of_the_kl(policy, observations, vector)
    difference = gauss_newton_product(policy, Linearized(policy, observations))(vector) - expected
    assert difference.norm() < 1e-4 * expected.norm()


# Conjugate gradient


def test_conjugate_gradient_solves_a_positive_definite_system():
    matrix, b = positive_definite(30), draw(30, seed=1)
    x, _ = conjugate_gradient(matrix.mv, b, iterations=100, tolerance=1e-24)
    np.testing.assert_allclose(x, np.linalg.solve(matrix.numpy(), b.numpy()), rtol=1e-8, atol=1e-10)


def test_one_iteration_is_steepest_descent():
    matrix, b = positive_definite(8), draw(8, seed=1)
    expected = (b @ b) / (b @ matrix @ b) * b
    torch.testing.assert_close(conjugate_gradient(matrix.mv, b, iterations=1)[0], expected, rtol=1e-12, atol=0)


def test_conjugate_gradient_stops_once_it_has_the_solution():
    calls = []
    conjugate_gradient(lambda vector: calls.append(1) or 3.0 * vector, draw(8), iterations=50)
    assert len(calls) == 1


@pytest.mark.parametrize("iterations", [0, 1, 4, 30])
def test_the_residual_is_what_the_solution_leaves_of_a_right_hand_side_that_is_left_alone(iterations):
    matrix, b = positive_definite(12), draw(12, seed=1)
    x, residual = conjugate_gradient(matrix.mv, b, iterations)
    assert torch.equal(b, draw(12, seed=1))
    torch.testing.assert_close(residual, b - matrix @ x, rtol=1e-9, atol=1e-12)
