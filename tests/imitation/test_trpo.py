import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from qi_ext.imitation.trpo import KL_TOLERANCE, TRPO, Batch, conjugate_gradient, gauss_newton_product


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


@pytest.fixture
def make_trpo(shared_environment, small_config, make_policy):
    """make_trpo(seed=0, **settings): plain TRPO on a small policy of the A1's sizes."""

    def make(seed=0, **settings):
        policy, config = make_policy(seed=seed), small_config(**settings)
        return TRPO(shared_environment.info, policy, config, np.random.SeedSequence(seed))

    return make


def number_of_weights(policy):
    return sum(parameter.numel() for parameter in policy.parameters())


def hessian_product_of_the_kl(policy, observations, vector):
    with torch.no_grad():
        old = policy.distribution_t(observations)
    kl = torch.distributions.kl_divergence(old, policy.distribution_t(observations)).mean()
    gradient = parameters_to_vector(torch.autograd.grad(kl, policy.parameters(), create_graph=True))
    return parameters_to_vector(torch.autograd.grad(gradient @ vector, policy.parameters()))


@pytest.mark.parametrize("hidden", [(), (6,), (7, 5)])
def test_product_is_that_of_the_hessian_of_the_mean_kl(policy64, hidden):
    policy, observations = policy64(hidden), draw(20, 4, seed=1)
    vector = draw(number_of_weights(policy), seed=2)
    product = gauss_newton_product(policy, observations)(vector)
    torch.testing.assert_close(product, hessian_product_of_the_kl(policy, observations, vector), rtol=1e-9, atol=1e-12)


def test_product_in_float32_is_that_of_the_hessian_too(make_policy):
    policy, observations = make_policy((32, 16)), draw(50, 37, seed=1).float()
    vector = draw(number_of_weights(policy), seed=2).float()
    expected = hessian_product_of_the_kl(policy, observations, vector)
    difference = gauss_newton_product(policy, observations)(vector) - expected
    assert difference.norm() < 1e-4 * expected.norm()


def test_product_is_symmetric(policy64):
    policy = policy64()
    product = gauss_newton_product(policy, draw(20, 4, seed=1))
    a, b = (draw(number_of_weights(policy), seed=seed) for seed in (2, 3))
    torch.testing.assert_close(a @ product(b), b @ product(a), rtol=1e-10, atol=0)


def test_product_of_a_linear_policy_in_closed_form(policy64):
    policy, observations = policy64(()), draw(20, 4, seed=1)
    vector = draw(number_of_weights(policy), seed=2)
    weight, bias = vector[:12].view(3, 4), vector[12:15]
    inputs = policy.normalizer(observations)
    pulled = (inputs @ weight.T + bias) * torch.exp(-2.0 * policy.log_std.detach()) / len(inputs)
    expected = torch.cat([(pulled.T @ inputs).reshape(-1), pulled.sum(dim=0), 2.0 * vector[15:]])
    torch.testing.assert_close(gauss_newton_product(policy, observations)(vector), expected, rtol=1e-12, atol=1e-14)


def test_the_log_std_block_is_twice_the_identity(policy64):
    policy = policy64()
    vector = torch.zeros(number_of_weights(policy), dtype=torch.float64)
    vector[-3:] = draw(3)
    assert torch.equal(gauss_newton_product(policy, draw(20, 4))(vector), 2.0 * vector)


def test_conjugate_gradient_solves_a_positive_definite_system():
    matrix, b = positive_definite(30), draw(30, seed=1)
    x = conjugate_gradient(matrix.mv, b, iterations=100, tolerance=1e-24)
    np.testing.assert_allclose(x, np.linalg.solve(matrix.numpy(), b.numpy()), rtol=1e-8, atol=1e-10)


def test_conjugate_gradient_is_exact_after_as_many_iterations_as_dimensions():
    matrix, b = positive_definite(6), draw(6, seed=1)
    x = conjugate_gradient(matrix.mv, b, iterations=6, tolerance=0.0)
    torch.testing.assert_close(matrix @ x, b, rtol=1e-9, atol=1e-9)


def test_one_iteration_is_steepest_descent():
    matrix, b = positive_definite(8), draw(8, seed=1)
    expected = (b @ b) / (b @ matrix @ b) * b
    torch.testing.assert_close(conjugate_gradient(matrix.mv, b, iterations=1), expected, rtol=1e-12, atol=0)


def test_each_iteration_brings_the_solution_nearer():
    matrix, b = positive_definite(10), draw(10, seed=1)
    solution = torch.linalg.solve(matrix, b)
    errors = [(conjugate_gradient(matrix.mv, b, iterations=k) - solution).norm().item() for k in range(8)]
    assert errors == sorted(errors, reverse=True)


def test_conjugate_gradient_leaves_its_right_hand_side_alone():
    b = draw(8)
    before = b.clone()
    conjugate_gradient(positive_definite(8).mv, b, iterations=5)
    assert torch.equal(b, before)


def test_conjugate_gradient_stops_once_it_has_the_solution():
    calls = []
    conjugate_gradient(lambda vector: calls.append(1) or 3.0 * vector, draw(8), iterations=50)
    assert len(calls) == 1


def test_conjugate_gradient_of_nothing_is_nothing():
    assert not conjugate_gradient(positive_definite(4).mv, torch.zeros(4, dtype=torch.float64), iterations=5).any()


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


@pytest.mark.parametrize("reason", ["far too long a step", "advantages that are not numbers"])
def test_a_policy_given_up_by_the_line_search_is_exactly_the_old(make_trpo, make_batch, reason):
    # One trial of a step of 10 nats, out where the quadratic model of the KL is wrong by far.
    agent = make_trpo(max_kl=10.0, line_search_steps=1, cg_damping=0.0)
    batch = make_batch(agent.policy)
    advantages = batch.rewards if reason == "far too long a step" else torch.full((64,), torch.nan)
    before = agent.policy.get_weights()
    policy_step(agent, batch, advantages)
    assert agent.diagnostics["line_search_step"] == 0.0
    assert agent.diagnostics["kl"] == 0.0
    np.testing.assert_array_equal(agent.policy.get_weights(), before)


def test_a_step_over_a_cliff_is_shortened_until_the_surrogate_is_no_worse(shared_environment, small_config, make_policy):
    # One action in one state, drawn at its quantiles: farther out is better, but beyond two stds it is worse again.
    policy = make_policy((), n_observations=2, n_actions=1, initial_std=0.1)
    agent = TRPO(shared_environment.info, policy, small_config(max_kl=2.0, cg_fraction=1.0), np.random.SeedSequence(0))
    observations, quantiles = torch.ones(512, 2), torch.special.ndtri((torch.arange(512) + 0.5) / 512)
    actions = torch.from_numpy(policy.actor.mean(observations.numpy())) + 0.1 * quantiles[:, None]
    advantages = torch.where(quantiles.abs() < 2.0, quantiles, -2.0 * quantiles)
    batch = Batch(observations, actions, advantages, observations, np.ones(512), np.ones(512))
    kl, improvement = policy_step(agent, batch, advantages)
    assert improvement > 0.0
    # Two stds are 2 nats, within the trust region; a half of them 0.5, and half of that 0.125.
    assert agent.diagnostics["line_search_step"] == 0.25
    assert kl == pytest.approx(2.0 * 0.25**2, rel=0.01)


def test_entropy_coefficient_widens_a_policy_that_has_nothing_else_to_gain(make_trpo, make_batch):
    agent = make_trpo(entropy_coefficient=0.1)
    before = agent.policy.entropy_t().item()
    policy_step(agent, make_batch(agent.policy), torch.zeros(64))
    assert agent.policy.entropy_t().item() > before


def test_minibatches_are_every_sample_once_an_epoch(make_trpo):
    parts = list(make_trpo().minibatches(10, 4, epochs=2))
    assert [len(part) for part in parts] == [4, 4, 2] * 2
    assert sorted(torch.cat(parts[:3]).tolist()) == list(range(10))
    assert sorted(torch.cat(parts[3:]).tolist()) == list(range(10))


def one_step_episodes(policy, reward, seed):
    """256 episodes of one step, paid by reward(actions)."""
    observations = draw(256, 37, seed=seed).float()
    actions = policy.draw_action_t(observations)
    ones = np.ones(256, dtype=np.float32)
    return Batch(observations, actions, reward(actions), observations, absorbing=ones, last=ones)


def test_actions_go_where_the_reward_is(make_trpo):
    agent = make_trpo(max_kl=0.05, cg_fraction=1.0)
    for seed in range(15):
        agent.update(one_step_episodes(agent.policy, lambda actions: -((actions[:, 0] - 0.5) ** 2), seed))
    observations = draw(256, 37, seed=99).float()
    with torch.no_grad():
        mean = agent.policy.mean_t(observations)
    assert mean[:, 0].mean() == pytest.approx(0.5, abs=0.15)
    assert mean[:, 1:].mean(dim=0).abs().max() < 0.15


def test_the_critic_learns_the_value_of_a_constant_reward(make_trpo):
    agent = make_trpo(critic_learning_rate=1e-2, critic_epochs=10)
    for seed in range(8):
        agent.update(one_step_episodes(agent.policy, lambda actions: torch.full((256,), 3.0), seed))
    assert agent.diagnostics["value"] == pytest.approx(3.0, abs=0.3)


class Seen(TRPO):
    """Keeps the advantages that its policy step gets."""

    def _policy_step(self, batch, advantages):
        self.advantages = advantages.numpy().copy()
        super()._policy_step(batch, advantages)


@pytest.fixture
def make_seen(make_trpo):
    def make(**settings):
        plain = make_trpo(**settings)
        return Seen(plain.mdp_info, plain.policy, plain.config, np.random.SeedSequence(0))

    return make


def constantly_paid_lanes(policy, shape):
    """Six lanes of ten steps, lane i paid i at each, none of them ended; flags in the given shape."""
    n_lanes, n_steps = 6, 10
    observations = draw(n_lanes * n_steps, 37, seed=3).float()
    rewards = torch.arange(n_lanes).repeat_interleave(n_steps).float()
    last = np.zeros((n_lanes, n_steps), dtype=np.float32)
    last[:, -1] = 1.0
    actions = policy.draw_action_t(observations)
    return Batch(observations, actions, rewards, observations, np.zeros(shape, np.float32), last.reshape(shape))


@pytest.mark.parametrize("shape", [(6, 10), (60,)], ids=["lanes and time", "lane after lane"])
def test_advantages_do_not_leak_from_lane_to_lane(make_seen, shape):
    agent = make_seen(gamma=0.9, gae_lambda=0.8)
    with torch.no_grad():
        for parameter in agent.critic.linears[-1].parameters():
            parameter.zero_()  # nothing is worth anything, so that only rewards count
    agent.update(constantly_paid_lanes(agent.policy, shape))
    steps_left = 10 - np.arange(10)
    expected = np.outer(np.arange(6), (1.0 - 0.72**steps_left) / (1.0 - 0.72)).reshape(-1)
    np.testing.assert_allclose(agent.advantages, (expected - expected.mean()) / expected.std(), atol=1e-5)


def test_rollouts_are_learned_from_as_mushroom_rls_dataset_of_them_is(make_trpo, make_rollouts):
    by_arrays, by_list = make_trpo(), make_trpo()
    before = by_arrays.policy.get_weights()
    for seed in range(2):
        rollouts = make_rollouts(by_arrays.policy, seed)
        by_arrays.fit_rollouts(rollouts)
        by_list.fit(rollouts.dataset())
    for agent in (by_arrays, by_list):
        agent.learned = [*agent.policy.parameters(), *agent.critic.parameters(), *agent.policy.normalizer.buffers()]
    assert all(torch.equal(*pair) for pair in zip(by_arrays.learned, by_list.learned, strict=True))
    assert not np.array_equal(by_arrays.policy.get_weights(), before)


def test_an_update_merges_its_observations_into_the_statistics_once(make_trpo, make_batch):
    agent = make_trpo()
    for seed in range(2):
        agent.update(make_batch(agent.policy, seed=seed))
    observations = torch.cat([make_batch(agent.policy, seed=seed).observations for seed in range(2)]).double()
    assert agent.policy.normalizer.count == 128
    torch.testing.assert_close(agent.policy.normalizer.mean, observations.mean(dim=0), rtol=1e-9, atol=1e-12)


def test_the_policy_step_sees_the_policy_that_acted(make_trpo, make_batch):
    seen = []

    class Watched(TRPO):
        def _policy_step(self, batch, advantages):
            with torch.no_grad():
                seen.append((self.policy.mean_t(batch.observations).numpy(), self.policy.actor.mean(batch.observations)))
            super()._policy_step(batch, advantages)

    plain = make_trpo()
    agent = Watched(plain.mdp_info, plain.policy, plain.config, np.random.SeedSequence(0))
    for seed in range(3):
        agent.update(make_batch(agent.policy, seed=seed))
    for learned, acted in seen:
        np.testing.assert_allclose(learned, acted, atol=1e-5)


def test_new_statistics_leave_the_policy_the_function_that_the_step_made_it(make_trpo, make_batch):
    made = []

    class Watched(TRPO):
        def _update_statistics(self, observations):
            with torch.no_grad():
                made.append(self.policy.mean_t(observations).numpy())
            super()._update_statistics(observations)

    plain = make_trpo()
    agent = Watched(plain.mdp_info, plain.policy, plain.config, np.random.SeedSequence(0))
    batch = make_batch(agent.policy)
    agent.update(batch)
    np.testing.assert_allclose(agent.policy.actor.mean(batch.observations), made[0], atol=1e-4)


def test_falls_far_outside_of_the_statistics_do_not_move_the_policy(make_trpo, make_batch):
    agent = make_trpo()
    agent.policy.normalizer.update(make_batch(agent.policy, n=512, seed=7).observations)
    falls = 50.0 * make_batch(agent.policy, n=64, seed=8).observations
    with torch.no_grad():
        before = agent.policy.distribution_t(falls)
        agent._update_statistics(falls)
        moved = torch.distributions.kl_divergence(before, agent.policy.distribution_t(falls))
    assert moved.max() < 1e-6


def test_a_reward_that_is_not_a_number_stops_the_fit_and_leaves_the_policy(make_trpo, make_batch, make_dataset):
    agent = make_trpo()
    agent.fit(make_dataset(agent.policy))
    observations = make_batch(agent.policy).observations
    before, std = agent.policy.actor.mean(observations), agent.policy.actor.std
    dataset = make_dataset(agent.policy, seed=1)
    dataset[5] = (*dataset[5][:2], np.float32(np.nan), *dataset[5][3:])
    with pytest.raises(FloatingPointError, match="checkpoint"):
        agent.fit(dataset)
    # Functions are compared, because weights may follow the statistics of the finite observations.
    np.testing.assert_allclose(agent.policy.actor.mean(observations), before, atol=1e-3)
    np.testing.assert_array_equal(agent.policy.actor.std, std)


def test_an_observation_that_is_not_a_number_stops_the_fit_and_leaves_the_policy(make_trpo, make_dataset):
    agent = make_trpo()
    agent.fit(make_dataset(agent.policy))
    before, statistics = agent.policy.get_weights(), agent.policy.normalizer.mean.clone()
    dataset = make_dataset(agent.policy, seed=1)
    dataset[5][0][3] = np.nan
    with pytest.raises((FloatingPointError, ValueError), match="finite"):
        agent.fit(dataset)
    np.testing.assert_array_equal(agent.policy.get_weights(), before)
    assert torch.equal(agent.policy.normalizer.mean, statistics)
