import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qi_ext.learning import trpo
from qi_ext.learning.batch import Batch
from qi_ext.learning.natural_gradient import KL_TOLERANCE, search_rounds
from qi_ext.learning.trpo import TRPO


def policy_step(agent, batch, advantages):
    """Mean KL of the step, (old || new), and how the surrogate changes, both from the distributions before and after."""
    policy = agent.policy
    with torch.no_grad():
        old = policy.distribution_t(batch.observations)
    agent._policy_step(batch, advantages)
    with torch.no_grad():
        new = policy.distribution_t(batch.observations)
        kl = torch.distributions.kl_divergence(old, new).mean()
        ratio = torch.exp(new.log_prob(batch.actions) - old.log_prob(batch.actions))
    return kl.item(), ((ratio - 1.0) * advantages).mean().item()


@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_stays_in_the_trust_region_and_does_not_worsen_the_surrogate(make_trpo, make_batch, max_kl, seed):
    agent = make_trpo(seed=seed, max_kl=max_kl)
    batch = make_batch(agent.policy, seed=seed)
    kl, improvement = policy_step(agent, batch, batch.rewards)
    assert 0.0 < kl <= KL_TOLERANCE * max_kl * 1.001
    assert improvement > 0.0
    assert agent.diagnostics["kl"] == pytest.approx(kl, rel=1e-3)
    assert agent.diagnostics["improvement"] == pytest.approx(improvement, rel=1e-3, abs=1e-6)


def test_a_small_step_on_all_states_uses_the_whole_trust_region(make_trpo, make_batch):
    agent = make_trpo(max_kl=1e-4, cg_damping=0.0, cg_fraction=1.0, cg_iterations=50)
    batch = make_batch(agent.policy, n=256)
    kl, _ = policy_step(agent, batch, batch.rewards)
    assert kl == pytest.approx(1e-4, rel=0.05)


def test_the_trust_region_falls_as_the_bound_on_the_standard_deviation_does(make_trpo, make_batch):
    agent = make_trpo(max_kl=0.02, final_max_kl=0.004, initial_std=0.4, std_half_life=64, final_std=0.01)
    found = []
    for seed in range(4):
        found.append(agent.trust_region)
        agent.update(make_batch(agent.policy, seed=seed))
        assert agent.diagnostics["kl"] <= KL_TOLERANCE * found[-1] * 1.001
    assert found == pytest.approx([0.02, 0.01, 0.005, 0.004])


def test_the_trust_region_stays_where_it_is_to_end_as_it_begins_or_wider(make_trpo, make_batch):
    for final in (0.01, 0.5):
        agent = make_trpo(max_kl=0.01, final_max_kl=final, std_half_life=64)
        agent.update(make_batch(agent.policy))
        assert agent.trust_region == 0.01


def test_the_trust_region_after_a_warm_start_begins_with_its_own_standard_deviation(make_agent):
    agent = make_agent(warm_start=1, warm_start_std=0.1, max_kl=0.02, final_max_kl=0.001)
    agent.policy.set_std(0.1)
    assert agent.trust_region == pytest.approx(0.02)


def test_a_policy_given_up_by_the_line_search_is_exactly_the_old(make_trpo, make_batch):
    # One trial of a step of 10 nats, out where the quadratic model of the KL is wrong by far.
    agent = make_trpo(max_kl=10.0, line_search_steps=1, cg_damping=0.0)
    batch = make_batch(agent.policy)
    before = agent.policy.get_weights()
    policy_step(agent, batch, batch.rewards)
    assert agent.diagnostics["line_search_step"] == 0.0
    assert agent.diagnostics["kl"] == 0.0
    assert agent.diagnostics["improvement"] == 0.0
    np.testing.assert_array_equal(agent.policy.get_weights(), before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_advantages_that_are_not_numbers_stop_the_step_and_leave_exactly_the_old_policy(make_trpo, make_batch, bad):
    agent = make_trpo()
    batch = make_batch(agent.policy)
    advantages = batch.rewards.clone()
    advantages[7] = bad
    before = agent.policy.get_weights()
    with pytest.raises(FloatingPointError, match="rewards or values are not finite; the last checkpoint is good"):
        agent._policy_step(batch, advantages)
    np.testing.assert_array_equal(agent.policy.get_weights(), before)


def test_a_step_over_a_cliff_is_shortened_until_the_surrogate_is_no_worse(shared_environment, small_config, make_policy):
    # One action in one state, drawn at its quantiles: farther out is better, but beyond two stds it is worse again.
    policy = make_policy((), n_observations=2, n_actions=1, initial_std=0.1)
    agent = TRPO(
        shared_environment.info, policy, small_config(max_kl=2.0, final_max_kl=2.0, cg_fraction=1.0), np.random.SeedSequence(0)
    )
    observations, quantiles = torch.ones(512, 2), torch.special.ndtri((torch.arange(512) + 0.5) / 512)
    actions = torch.from_numpy(policy.actor.mean(observations.numpy())) + 0.1 * quantiles[:, None]
    advantages = torch.where(quantiles.abs() < 2.0, quantiles, -2.0 * quantiles)
    columns = (observations, actions, advantages, observations)
    batch = Batch.upload(*(column.numpy() for column in columns), np.ones(512), np.ones(512), "cpu")
    kl, improvement = policy_step(agent, batch, advantages)
    assert improvement > 0.0
    # Two stds are 2 nats, within the trust region; a half of them 0.5, and half of that 0.125.
    assert agent.diagnostics["line_search_step"] == 0.25
    assert kl == pytest.approx(2.0 * 0.25**2, rel=0.01)


def test_entropy_coefficient_widens_a_policy_that_has_nothing_else_to_gain(make_trpo, make_batch):
    agent = make_trpo(entropy_coefficient=0.1)
    agent.policy.max_log_std[...] = 0.0
    before = agent.policy.entropy_t().item()
    policy_step(agent, make_batch(agent.policy), torch.zeros(64))
    assert agent.policy.entropy_t().item() > before


# Against a reference


def reference_step(agent, batch, advantages):
    """Weights after a step as Schulman et al. 2015 write it, in float64, on all states; and the halvings it took.

    The Fisher matrix is the Hessian of the mean KL, by backward passes through a gradient.
    """
    config, policy = agent.config, agent.policy
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
        return gain + config.entropy_coefficient * new.entropy().mean()

    before = surrogate()
    gradient = parameters_to_vector(torch.autograd.grad(before, parameters))
    slope = parameters_to_vector(torch.autograd.grad(kl_divergence(old, distribution()).mean(), parameters, create_graph=True))

    def product(vector):
        rows = torch.autograd.grad(slope @ vector, parameters, retain_graph=True)
        return parameters_to_vector(rows) + config.cg_damping * vector

    x, residual = torch.zeros_like(gradient), gradient.clone()
    direction = residual.clone()
    for _ in range(config.cg_iterations):
        squared = residual @ residual
        image = product(direction)
        length = squared / (direction @ image)
        x += length * direction
        residual -= length * image
        direction = residual + (residual @ residual) / squared * direction
    full_step = x * torch.sqrt(2.0 * config.max_kl / (x @ product(x)))
    start = parameters_to_vector(parameters).detach()
    with torch.no_grad():
        for halvings in range(config.line_search_steps):
            vector = start + 0.5**halvings * full_step
            vector[-len(log_std) :].clamp_(math.log(config.min_std), float(policy.max_log_std))
            vector_to_parameters(vector, parameters)
            kl = kl_divergence(old, distribution()).mean()
            if kl <= KL_TOLERANCE * config.max_kl and surrogate() >= before:
                return vector, halvings
    return start, None


CASES = {
    "default": {},
    "no damping": {"cg_damping": 0.0, "cg_iterations": 5},
    "entropy": {"entropy_coefficient": 0.05},
    "a long step": {"max_kl": 10.0, "cg_damping": 1e-3},
    "at a bound": {"max_kl": 0.3, "min_std": 0.49, "final_std": 0.49},
    "no hidden layer": {"hidden": (), "cg_iterations": 5},  # in more, float32 loses its orthogonal directions
}


def normalized(agent, make_batch):
    """The agent, once its policy has statistics."""
    agent.policy.normalizer.update(make_batch(agent.policy, n=512, seed=7).observations)
    agent.policy.sync()
    return agent


def in_float64(agent, batch):
    agent.policy.network.double()
    agent.policy.log_std.data = agent.policy.log_std.data.double()
    return replace(batch, **{name: getattr(batch, name).double() for name in ("observations", "actions", "rewards")})


def change_against_reference(agent, batch):
    """The step's change of the weights, the reference's, and the reference's halvings."""
    advantages = (batch.rewards - batch.rewards.mean()) / batch.rewards.std()
    before = parameters_to_vector(agent.policy.parameters()).detach().double()
    expected, halvings = reference_step(agent, batch, advantages)
    agent._policy_step(batch, advantages)
    return parameters_to_vector(agent.policy.parameters()).detach().double() - before, expected - before, halvings


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1e-4), ("double", 1e-10)])
def test_a_step_on_all_states_is_that_of_the_reference(make_trpo, make_batch, case, seed, precision, tolerance):
    agent = normalized(make_trpo(seed=seed, cg_fraction=1.0, **({"hidden": (24, 16)} | CASES[case])), make_batch)
    batch = make_batch(agent.policy, n=300, seed=seed)
    if precision == "double":
        batch = in_float64(agent, batch)
    change, expected, halvings = change_against_reference(agent, batch)
    assert (change - expected).norm() < tolerance * expected.norm()
    assert agent.diagnostics["line_search_step"] == 0.5**halvings


def test_some_of_the_reference_steps_are_halved_and_some_stop_at_a_bound(make_trpo, make_batch):
    # Else the test above would say nothing about either.
    long, bounded = (
        normalized(make_trpo(cg_fraction=1.0, hidden=(24, 16), **CASES[case]), make_batch)
        for case in ("a long step", "at a bound")
    )
    *_, halvings = change_against_reference(long, make_batch(long.policy, n=300))
    assert halvings > 0
    change_against_reference(bounded, make_batch(bounded.policy, n=300))
    assert torch.isclose(bounded.policy.log_std.exp(), torch.tensor([[0.49], [0.5]])).any()


@pytest.mark.parametrize("seed", range(2))
def test_a_step_of_the_default_sizes_is_that_of_the_reference(make_trpo, make_batch, seed):
    # More states than a CPU multiplies at once.
    agent = normalized(make_trpo(seed=seed, hidden=(512, 256), cg_fraction=1.0, initial_std=0.7), make_batch)
    change, expected, _ = change_against_reference(agent, make_batch(agent.policy, n=1100, seed=seed))
    assert expected.norm() > 0.01
    assert (change - expected).norm() < 1e-4 * expected.norm()


def test_a_step_on_some_of_the_states_draws_them_without_repeats_from_the_agents_generator(make_trpo, make_batch, monkeypatch):
    seen = []
    agents = [make_trpo(seed=0, cg_fraction=0.25) for _ in range(2)]
    linearized = trpo.Linearized
    monkeypatch.setattr(trpo, "Linearized", lambda policy, states: seen.append(states) or linearized(policy, states))
    for agent in agents:
        batch = make_batch(agent.policy)
        policy_step(agent, batch, batch.rewards)
    all_states, chosen, _, chosen_again = seen
    assert torch.equal(all_states, batch.observations)
    assert len(chosen) == 16
    assert len({tuple(row) for row in chosen.tolist()} & {tuple(row) for row in all_states.tolist()}) == 16
    assert torch.equal(chosen, chosen_again)


# Bounds on the standard deviation


@pytest.mark.parametrize(("direction", "bound"), [("narrower", 0.45), ("wider", 0.55)])
def test_a_step_stops_at_the_bounds_of_the_standard_deviation(make_trpo, make_batch, direction, bound):
    settings = {"max_kl": 0.2, "initial_std": 0.5, "cg_fraction": 1.0}
    agent = make_trpo(min_std=0.45, final_std=0.45, **settings)
    agent.policy.max_log_std[...] = math.log(0.55)
    batch = make_batch(agent.policy, n=256)
    # What is drawn near the mean is the better, or the worse.
    noise = batch.actions - agent.policy.mean_t(batch.observations).detach()
    advantages = (noise**2).sum(dim=1) * (-1.0 if direction == "narrower" else 1.0)
    advantages = (advantages - advantages.mean()) / advantages.std()
    unbounded = make_trpo(min_std=1e-4, **settings)
    unbounded.policy.max_log_std[...] = math.log(10.0)
    policy_step(unbounded, batch, advantages)
    beyond = (unbounded.policy.log_std.exp() - bound) * (1.0 if direction == "wider" else -1.0)
    assert (beyond > 0.0).any(), "the step would not go beyond the bound by itself"
    for _ in range(2):
        kl, improvement = policy_step(agent, batch, advantages)
        assert 0.0 <= kl <= KL_TOLERANCE * 0.2 * 1.001
        assert improvement >= 0.0
        assert agent.diagnostics["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
    std = agent.policy.log_std.exp()
    assert ((std >= 0.45 * (1.0 - 1e-6)) & (std <= 0.55 * (1.0 + 1e-6))).all()
    assert torch.isclose(std, torch.tensor(bound), rtol=1e-6).any()
    assert agent.diagnostics["line_search_step"] > 0.0


def test_a_policy_that_begins_at_both_bounds_can_take_a_step(make_trpo, make_batch):
    agent = make_trpo(initial_std=0.5, min_std=0.5, final_std=0.5)
    batch = make_batch(agent.policy)
    kl, improvement = policy_step(agent, batch, batch.rewards)
    assert kl > 0.0
    assert improvement > 0.0


# The search along the step


def test_the_longest_step_that_is_good_is_taken_whatever_its_round(make_trpo, make_batch):
    agent = make_trpo()
    batch = make_batch(agent.policy)
    for first_good in range(10):
        tried = []

        def trial(halvings, first_good=first_good, tried=tried):
            tried.append(halvings)
            gain = 1.0 if halvings >= first_good else -1.0
            return torch.tensor(float(halvings)), torch.tensor(0.0), torch.tensor(gain)

        assert agent._search(trial, batch.rewards).item() == first_good
        assert agent.diagnostics["line_search_step"] == 0.5**first_good
        rounds = list(search_rounds(10))
        assert tried == list(range(next(trials.stop for trials in rounds if first_good in trials)))
    assert agent._search(lambda halvings: (None, torch.tensor(1.0), torch.tensor(1.0)), batch.rewards) is None
