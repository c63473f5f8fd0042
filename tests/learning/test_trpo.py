import numpy as np
import pytest
import torch

from qi_ext.learning.batch import Batch
from qi_ext.learning.gae import generalized_advantages
from qi_ext.learning.trpo import TRPO


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_critic_is_fitted_to_every_sample_once_an_epoch(make_trpo, make_batch):
    agent = make_trpo(critic_batch_size=4, critic_epochs=2)
    batch, parts = make_batch(agent.policy, n=10), []
    expected = agent.policy.normalizer(batch.observations).tolist()
    agent.critic.register_forward_pre_hook(lambda module, inputs: parts.append(inputs[0].tolist()))
    agent._fit_rest(batch, torch.arange(10.0))
    assert [len(part) for part in parts] == [4, 4, 2] * 2
    epochs = [sum(parts[:3], []), sum(parts[3:], [])]
    assert all(sorted(epoch) == sorted(expected) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_critic_is_fitted_to_each_samples_own_target(make_trpo, make_batch):
    agent = make_trpo(critic_batch_size=16, critic_epochs=300, critic_learning_rate=1e-2)
    batch, targets = make_batch(agent.policy), torch.linspace(-1.0, 1.0, 64)
    agent.policy.normalizer.update(batch.observations)
    agent._fit_rest(batch, targets)
    with torch.no_grad():
        error = agent.critic(agent.policy.normalizer(batch.observations)).squeeze(-1) - targets
    assert (error**2).mean() < 0.05 * targets.var()


def one_step_episodes(policy, reward, seed):
    """256 episodes of one step, paid by reward(actions)."""
    observations = draw(256, 37, seed=seed).float()
    actions = policy.draw_action_t(observations)
    columns = (observations, actions, reward(actions), observations)
    return Batch.upload(*(column.numpy() for column in columns), absorbing=np.ones(256), last=np.ones(256), device="cpu")


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
    last = np.zeros((n_lanes, n_steps))
    last[:, -1] = 1.0
    columns = (observations, policy.draw_action_t(observations), rewards, observations)
    return Batch.upload(*(column.numpy() for column in columns), np.zeros(shape), last.reshape(shape), "cpu")


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
    with pytest.raises(FloatingPointError, match="training: rewards are not finite; nothing was learned"):
        agent.fit(dataset)
    np.testing.assert_array_equal(agent.policy.actor.mean(observations), before)
    np.testing.assert_array_equal(agent.policy.actor.std, std)


def test_an_observation_that_is_not_a_number_stops_the_fit_and_leaves_the_policy(make_trpo, make_dataset):
    agent = make_trpo()
    agent.fit(make_dataset(agent.policy))
    before, statistics = agent.policy.get_weights(), agent.policy.normalizer.mean.clone()
    dataset = make_dataset(agent.policy, seed=1)
    dataset[5][0][3] = np.nan
    with pytest.raises(FloatingPointError, match="training: observations are not finite"):
        agent.fit(dataset)
    np.testing.assert_array_equal(agent.policy.get_weights(), before)
    assert torch.equal(agent.policy.normalizer.mean, statistics)


def test_a_value_that_is_not_a_number_stops_the_update_and_leaves_the_policy(make_trpo, make_batch):
    agent = make_trpo()
    batch = make_batch(agent.policy)
    before, statistics = agent.policy.get_weights(), agent.policy.normalizer.mean.clone()
    with torch.no_grad():
        agent.critic.linears[-1].bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="rewards or values are not finite"):
        agent.update(batch)
    np.testing.assert_array_equal(agent.policy.get_weights(), before)
    assert torch.equal(agent.policy.normalizer.mean, statistics)


def test_diagnostics_that_are_not_finite_are_named(make_trpo, make_batch):
    agent = make_trpo(critic_learning_rate=1.0)
    with torch.no_grad():
        agent.critic.linears[-1].weight.fill_(1e25)  # whose square is more than float32 holds
    with pytest.raises(FloatingPointError, match=r"training: .*critic_loss.* not finite: .*smaller learning rates"):
        agent.update(make_batch(agent.policy))


def test_next_values_are_those_of_the_next_observations_though_they_are_asked_for_at_cuts_only(make_trpo, make_batch):
    agent = make_trpo(critic_hidden=[16])
    for seed in range(2):
        agent.update(make_batch(agent.policy, seed=seed))
    batch = make_batch(agent.policy, n=200, seed=5)
    rewards, normalizer = batch.rewards, agent.policy.normalizer
    rows = []
    hook = agent.critic.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    with torch.no_grad():
        advantages, targets = agent._advantages(batch, rewards)
        hook.remove()
        values, next_values = (
            agent.critic(normalizer(states)).squeeze(-1).double() for states in (batch.observations, batch.next_observations)
        )
    config = agent.config
    columns = (rewards.double(), values, next_values, batch.absorbing.double(), batch.last.double())
    expected = generalized_advantages(*columns, config.gamma, config.gae_lambda)
    torch.testing.assert_close(advantages, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(targets.double(), expected + values, rtol=1e-5, atol=1e-5)
    assert rows == [200, len(batch.cuts)]
    assert 1 < len(batch.cuts) < 100


def test_at_a_cut_the_value_is_that_of_the_state_that_was_reached(make_trpo, make_columns):
    # The next lane's first state lies where the successor would.
    agent = make_trpo(gamma=0.9, gae_lambda=0.0)
    columns = [column.reshape(4, 16, *column.shape[1:]) for column in make_columns(agent.policy)]
    nothing_ends = [*columns[:4], np.zeros((4, 16)), np.zeros((4, 16))]
    batch = Batch.upload(*nothing_ends, "cpu")
    with torch.no_grad():
        advantages, _ = agent._advantages(batch, batch.rewards)
        value, next_value = (
            agent.critic(agent.policy.normalizer(states)).squeeze(-1)[batch.cuts]
            for states in (batch.observations, batch.next_observations)
        )
    assert batch.cuts.tolist() == [15, 31, 47, 63]
    expected = (batch.rewards[batch.cuts] + 0.9 * next_value - value).double()
    torch.testing.assert_close(advantages[batch.cuts], expected, rtol=1e-5, atol=1e-5)


def test_an_update_lowers_the_bound_on_the_standard_deviation_by_its_steps(make_trpo, make_batch):
    agent = make_trpo(initial_std=0.5, std_half_life=128, final_std=0.2)
    for bound in (0.5 / 2**0.5, 0.25, 0.2, 0.2):  # batches of 64 steps
        agent.update(make_batch(agent.policy, n=64))
        assert float(np.exp(agent.policy.max_log_std)) == pytest.approx(bound)
        assert agent.policy.log_std.exp().max() <= bound * (1.0 + 1e-6)
        np.testing.assert_allclose(agent.policy.actor.std, agent.policy.log_std.detach().exp(), rtol=1e-6)
