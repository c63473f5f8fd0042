import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qi_ext.learning.batch import Batch
from qi_ext.learning.trpo import KL_TOLERANCE


def step(trpo, batch, advantages):
    """Figures of a step, its mean KL (old || new), and the surrogate's change, both from the distributions before and after."""
    policy = trpo.policy
    with torch.no_grad():
        old = policy.distribution_t(batch.observations)
    figures = trpo.step(batch, advantages)
    with torch.no_grad():
        new = policy.distribution_t(batch.observations)
        ratio = torch.exp(new.log_prob(batch.actions) - old.log_prob(batch.actions))
    return figures, kl_divergence(old, new).mean().item(), ((ratio - 1.0) * advantages).mean().item()


@pytest.mark.parametrize(("max_kl", "seed"), [(1e-4, 0), (0.01, 1), (0.5, 2)])
def test_a_step_stays_in_the_trust_region_and_does_not_worsen_the_surrogate(make_trpo, make_batch, max_kl, seed):
    trpo = make_trpo(seed=seed, max_kl=max_kl, cg_fraction=0.25)
    batch = make_batch(trpo.policy, seed=seed)
    figures, kl, improvement = step(trpo, batch, batch.rewards)
    assert 0.0 < kl <= KL_TOLERANCE * max_kl * 1.001
    assert improvement > 0.0
    assert figures["kl"] == pytest.approx(kl, rel=1e-3)
    assert figures["improvement"] == pytest.approx(improvement, rel=1e-3, abs=1e-6)


def test_a_small_step_uses_the_whole_trust_region(make_trpo, make_batch):
    trpo = make_trpo(max_kl=1e-4, cg_damping=0.0, cg_iterations=50)
    batch = make_batch(trpo.policy, (256,))
    assert step(trpo, batch, batch.rewards)[1] == pytest.approx(1e-4, rel=0.05)


def test_the_trust_region_falls_as_the_bound_on_the_standard_deviation_does_to_its_final_one(make_trpo):
    trpo = make_trpo(initial_std=0.4, max_kl=0.02, final_max_kl=0.004)
    found = [trpo.trust_region]
    for _ in range(3):
        trpo.policy.lower_max_std(1.0, final=0.01)
        found.append(trpo.trust_region)
    assert found == pytest.approx([0.02, 0.01, 0.005, 0.004])
    assert make_trpo(max_kl=0.01, final_max_kl=0.5).trust_region == 0.01


def test_a_step_that_is_good_at_no_length_leaves_exactly_the_old_policy(make_trpo, make_batch):
    # One trial of a step of 10 nats, out where the quadratic model of the KL is wrong by far.
    trpo = make_trpo(max_kl=10.0, line_search_steps=1, cg_damping=0.0)
    batch, before = make_batch(trpo.policy), trpo.policy.get_weights()
    figures, *_ = step(trpo, batch, batch.rewards)
    assert [figures[name] for name in ("kl", "improvement", "line_search_step")] == [0.0] * 3
    np.testing.assert_array_equal(trpo.policy.get_weights(), before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_advantages_that_are_not_finite_stop_the_step_and_leave_exactly_the_old_policy(make_trpo, make_batch, bad):
    trpo = make_trpo()
    batch, before = make_batch(trpo.policy), trpo.policy.get_weights()
    advantages = batch.rewards.clone()
    advantages[7] = bad
    with pytest.raises(FloatingPointError, match="rewards or values are not finite; the last checkpoint is good"):
        trpo.step(batch, advantages)
    np.testing.assert_array_equal(trpo.policy.get_weights(), before)


def test_a_step_over_a_cliff_is_halved_until_the_surrogate_is_no_worse(make_trpo, make_policy):
    # One action in one state, drawn at its quantiles: farther out is better, but beyond two stds it is worse again.
    policy = make_policy((), n_observations=2, n_actions=1, initial_std=0.1)
    trpo = make_trpo(policy=policy, initial_std=0.1, max_kl=2.0, final_max_kl=2.0)
    observations, quantiles = torch.ones(512, 2), torch.special.ndtri((torch.arange(512) + 0.5) / 512)
    actions = torch.from_numpy(policy.actor.mean(observations.numpy())) + 0.1 * quantiles[:, None]
    advantages = torch.where(quantiles.abs() < 2.0, quantiles, -2.0 * quantiles)
    columns = (observations, actions, advantages, observations)
    batch = Batch.upload(*(column.numpy() for column in columns), np.ones(512), np.ones(512), "cpu")
    figures, kl, improvement = step(trpo, batch, advantages)
    assert improvement > 0.0
    # Two stds are 2 nats, within the trust region; a half of them 0.5, and half of that 0.125.
    assert figures["line_search_step"] == 0.25
    assert kl == pytest.approx(2.0 * 0.25**2, rel=0.01)


def test_entropy_coefficient_widens_a_policy_that_has_nothing_else_to_gain(make_trpo, make_batch):
    trpo = make_trpo(entropy_coefficient=0.1)
    trpo.policy.max_log_std[...] = 0.0
    before = trpo.policy.entropy_t().item()
    figures, *_ = step(trpo, make_batch(trpo.policy), torch.zeros(64))
    assert figures["entropy"].item() == trpo.policy.entropy_t().item() > before


# Against a reference


def reference_step(trpo, batch, advantages):
    """Weights after a step as Schulman et al. 2015 write it, in float64, on all states; and the halvings it took.

    The Fisher matrix is the Hessian of the mean KL, by backward passes through a gradient.
    """
    policy = trpo.policy
    network = copy.deepcopy(policy.network).double()
    log_std = policy.log_std.detach().double().requires_grad_()
    parameters = [*network.parameters(), log_std]
    inputs, actions = policy.normalizer(batch.observations).double(), batch.actions.double()
    advantages = advantages.double()

    def distribution():
        return Independent(Normal(network(inputs), log_std.exp()), 1)

    with torch.no_grad():
        old = distribution()
        old_log_prob = old.log_prob(actions)

    def surrogate():
        new = distribution()
        gain = (torch.exp(new.log_prob(actions) - old_log_prob) * advantages).mean()
        return gain + trpo.entropy_coefficient * new.entropy().mean()

    before = surrogate()
    gradient = parameters_to_vector(torch.autograd.grad(before, parameters))
    slope = parameters_to_vector(torch.autograd.grad(kl_divergence(old, distribution()).mean(), parameters, create_graph=True))

    def product(vector):
        rows = torch.autograd.grad(slope @ vector, parameters, retain_graph=True)
        return parameters_to_vector(rows) + trpo.cg_damping * vector

    x, residual = torch.zeros_like(gradient), gradient.clone()
    direction = residual.clone()
    for _ in range(trpo.cg_iterations):
        squared = residual @ residual
        image = product(direction)
        length = squared / (direction @ image)
        x += length * direction
        residual -= length * image
        direction = residual + (residual @ residual) / squared * direction
    full_step = x * torch.sqrt(2.0 * trpo.max_kl / (x @ product(x)))
    start = parameters_to_vector(parameters).detach()
    with torch.no_grad():
        for halvings in range(trpo.line_search_steps):
            vector = start + 0.5**halvings * full_step
            vector[-len(log_std) :].clamp_(math.log(trpo.min_std), float(policy.max_log_std))
            vector_to_parameters(vector, parameters)
            kl = kl_divergence(old, distribution()).mean()
            if kl <= KL_TOLERANCE * trpo.max_kl and surrogate() >= before:
                return vector, halvings
    return start, None


CASES = {
    "default": {},
    "no damping": {"cg_damping": 0.0, "cg_iterations": 5},
    "entropy": {"entropy_coefficient": 0.05},
    "a long step": {"max_kl": 10.0, "cg_damping": 1e-3},
    "at a bound": {"max_kl": 0.3, "min_std": 0.49},
    "no hidden layer": {"hidden": (), "cg_iterations": 5},  # in more, float32 loses its orthogonal directions
    "more states than a CPU multiplies at once": {"hidden": (64, 32)},
}


def change_against_reference(trpo, make_batch, n, seed, precision="single"):
    """The step's change of the weights, the reference's, the step's figures, and the reference's halvings."""
    policy = trpo.policy
    policy.normalizer.update(make_batch(policy, (512,), seed=7).observations)
    policy.sync()
    batch = make_batch(policy, (n,), seed=seed)
    if precision == "double":
        policy.network.double()
        policy.log_std.data = policy.log_std.data.double()
        batch = replace(batch, **{name: getattr(batch, name).double() for name in ("observations", "actions", "rewards")})
    advantages = (batch.rewards - batch.rewards.mean()) / batch.rewards.std()
    before = parameters_to_vector(policy.parameters()).detach().double()
    expected, halvings = reference_step(trpo, batch, advantages)
    figures = trpo.step(batch, advantages)
    return parameters_to_vector(policy.parameters()).detach().double() - before, expected - before, figures, halvings


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("precision", "tolerance", "seed"), [("single", 1e-4, 0), ("double", 1e-10, 1)])
def test_a_step_on_all_states_is_that_of_the_reference(make_trpo, make_batch, case, precision, tolerance, seed):
    trpo = make_trpo(seed=seed, **({"hidden": (24, 16)} | CASES[case]))
    n = 1100 if case.startswith("more states") else 300
    change, expected, figures, halvings = change_against_reference(trpo, make_batch, n, seed, precision)
    assert (change - expected).norm() < tolerance * expected.norm()
    assert figures["line_search_step"] == 0.5**halvings


def test_some_of_the_reference_steps_are_halved_and_some_stop_at_a_bound(make_trpo, make_batch):
    # Else the test above would say nothing about either.
    long, bounded = (make_trpo(hidden=(24, 16), **CASES[case]) for case in ("a long step", "at a bound"))
    *_, halvings = change_against_reference(long, make_batch, 300, 0)
    assert halvings > 0
    change_against_reference(bounded, make_batch, 300, 0)
    assert torch.isclose(bounded.policy.log_std.exp(), torch.tensor([[0.49], [0.5]])).any()


def test_states_of_fisher_products_are_drawn_without_repeats_from_the_generator(make_trpo, make_batch, monkeypatch):
    seen = []
    one, other = (make_trpo(cg_fraction=0.25) for _ in range(2))
    monkeypatch.setattr(
        "qi_ext.learning.trpo.gauss_newton_product",
        lambda policy, linearized: seen.append({tuple(row) for row in linearized.inputs.tolist()}) or (lambda vector: vector),
    )
    batch = make_batch(one.policy)
    for trpo in (one, other, one):
        trpo.step(batch, batch.rewards)
    assert [len(rows) for rows in seen] == [16] * 3
    assert seen[0] == seen[1] != seen[2]
    assert seen[0] < {tuple(row) for row in one.policy.inputs(batch.observations).tolist()}


@pytest.mark.parametrize(("direction", "bound"), [("narrower", 0.45), ("wider", 0.55)])
def test_a_step_stops_at_the_bounds_of_the_standard_deviation(make_trpo, make_batch, direction, bound):
    bounded, free = (make_trpo(max_kl=0.2, min_std=min_std) for min_std in (0.45, 1e-4))
    batch = make_batch(bounded.policy, (256,))
    # Actions near the mean are the better, or the worse.
    noise = batch.actions - bounded.policy.mean_t(batch.observations).detach()
    advantages = (noise**2).sum(dim=1) * (-1.0 if direction == "narrower" else 1.0)
    advantages = (advantages - advantages.mean()) / advantages.std()
    for trpo, widest in ((bounded, 0.55), (free, 10.0)):
        trpo.policy.max_log_std[...] = math.log(widest)
        figures, kl, improvement = step(trpo, batch, advantages)
        assert 0.0 < kl <= KL_TOLERANCE * 0.2 * 1.001 and improvement >= 0.0
        assert figures["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
    beyond = (free.policy.log_std.exp() - bound) * (1.0 if direction == "wider" else -1.0)
    assert (beyond > 0.0).any(), "the step would not go beyond the bound by itself"
    std = bounded.policy.log_std.exp()
    assert ((std >= 0.45 * (1.0 - 1e-6)) & (std <= 0.55 * (1.0 + 1e-6))).all()
    assert torch.isclose(std, torch.tensor(bound), rtol=1e-6).any()
