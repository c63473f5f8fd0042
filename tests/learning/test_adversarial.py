import random

import numpy as np
import pytest
import torch
from mushroom_rl.core import Core

from qi_ext import load_agent
from qi_ext.learning.batch import Batch
from qi_ext.learning.gae import generalized_advantages
from qi_ext.learning.natural_gradient import Linearized, conjugate_gradient, gauss_newton_product
from qi_ext.tasks import QuadrupedDirection

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])
# TRPO alone: the discriminator has no say.
PLAIN = {"reward": "environment", "discriminator_updates": 0, "symmetry": "none"}


def bits(learner):
    return {name: value.tobytes() for name, value in learner.state().items()}


def statistics(learner):
    return {name: value for name, value in bits(learner).items() if "normalizer" in name}


def global_generators():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
    return torch.get_rng_state().numpy().tobytes(), (kind, keys.tobytes(), *rest), random.getstate()


@both
def test_learns_and_evaluates_in_mushroom_rls_own_core(make_learner, demonstrations, algorithm):
    environment = QuadrupedDirection("simple", horizon=50, demonstrations=demonstrations, seed=0)
    learner, updates = make_learner(algorithm), []
    before = learner.policy.get_weights()
    core = Core(learner, environment, callbacks_fit=[lambda dataset: updates.append((len(dataset), learner.diagnostics()))])
    core.learn(n_steps=192, n_steps_per_fit=64, quiet=True)
    assert [size for size, _ in updates] == [64, 64, 64]
    assert all(np.isfinite(value) for _, diagnostics in updates for value in diagnostics.values())
    assert not np.array_equal(learner.policy.get_weights(), before)
    learned = bits(learner)
    assert sum(transition[-1] for transition in core.evaluate(n_episodes=2, quiet=True)) == 2
    changed = {name for name, value in bits(learner).items() if value != learned[name]}
    assert changed == {"policy.generator/state"}


@both
def test_the_same_seed_gives_the_same_weights_and_nothing_draws_from_a_global_generator(make_learner, make_batch, algorithm):
    before, learned = global_generators(), []
    for seed in (0, 0, 1):
        learner = make_learner(algorithm, seed=seed)
        for number in range(2):
            learner.update(make_batch(learner.policy, seed=number))
        learned.append(bits(learner))
    assert learned[0] == learned[1] != learned[2]
    assert global_generators() == before


# What is learned from


def test_statistics_begin_as_those_of_the_demonstrated_states_whatever_the_discriminator_sees(make_learner, demonstrations):
    dataset = demonstrations.dataset()
    for name in ("state", "action"):
        learner = make_learner(discriminator_input=name)
        np.testing.assert_allclose(learner.policy.normalizer.mean, dataset["states"].mean(axis=0), atol=1e-6)
        assert learner.policy.normalizer.count == len(dataset["states"])
        np.testing.assert_array_equal(learner.policy.actor.observation_mean, learner.policy.normalizer.mean.float())


@both
def test_the_environments_reward_is_not_learned_from(make_learner, make_rollouts, algorithm):
    paid, unpaid = make_learner(algorithm), make_learner(algorithm)
    rollouts = make_rollouts(paid.policy)
    for learner, reward in ((paid, 1e6), (unpaid, 0.0)):
        rollouts.rewards[...] = reward
        learner.fit(rollouts)
    assert bits(paid) == bits(unpaid)


def test_baselines_learn_from_survival_alone_or_from_the_environments_reward(make_learner, make_batch):
    batch = make_batch(make_learner().policy)
    assert torch.equal(make_learner(reward="environment").rewards(batch), batch.rewards)
    assert torch.equal(make_learner(reward="constant").rewards(batch), torch.ones(len(batch)))


@both
def test_rollouts_and_mushroom_rls_dataset_of_them_teach_the_same_and_are_left_alone(make_learner, make_rollouts, algorithm):
    by_arrays, by_list = make_learner(algorithm), make_learner(algorithm)
    rollouts, again = make_rollouts(by_arrays.policy), make_rollouts(by_arrays.policy)
    by_arrays.fit(rollouts)
    by_list.fit(rollouts.dataset())
    assert by_arrays.diagnostics() == by_list.diagnostics()
    assert bits(by_arrays) == bits(by_list)
    for name, before in vars(again).items():
        np.testing.assert_array_equal(getattr(rollouts, name), before, err_msg=name)


# Advantages


def test_advantages_do_not_leak_from_env_to_env(make_learner):
    # Six envs of ten steps, env i paid i at each, none of them ended.
    learner = make_learner(gamma=0.9, gae_lambda=0.8, **PLAIN)
    with torch.no_grad():
        for parameter in learner.critic.network.linears[-1].parameters():
            parameter.zero_()  # nothing is worth anything, so that only rewards count
    observations, rewards = np.random.default_rng(0).normal(size=(6, 10, 37)), np.repeat(np.arange(6.0)[:, None], 10, axis=1)
    columns = (observations, np.zeros((6, 10, 12)), rewards, observations, np.zeros((6, 10)), np.zeros((6, 10)))
    batch = Batch.upload(*columns, "cpu")
    advantages, targets = learner.advantages(batch, batch.rewards)
    steps_left = 10 - np.arange(10)
    expected = np.outer(np.arange(6), (1.0 - 0.72**steps_left) / (1.0 - 0.72)).reshape(-1)
    np.testing.assert_allclose(advantages, expected, atol=1e-5)
    np.testing.assert_allclose(targets, expected, atol=1e-5)


def test_next_values_are_those_of_the_next_observations_though_only_cuts_are_asked_for(make_learner, make_batch):
    learner = make_learner(gamma=0.9, gae_lambda=0.8, **PLAIN)
    batch, rows = make_batch(learner.policy, (4, 50)), []
    hook = learner.critic.network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    advantages, targets = learner.advantages(batch, batch.rewards)
    hook.remove()
    with torch.no_grad():
        values, next_values = (learner.critic.values(x).double() for x in (batch.observations, batch.next_observations))
    columns = (batch.rewards.double(), values, next_values, batch.absorbing.double(), batch.last.double())
    expected = generalized_advantages(*(column.view(4, 50) for column in columns), 0.9, 0.8).view(-1)
    torch.testing.assert_close(advantages, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(targets.double(), expected + values, rtol=1e-5, atol=1e-5)
    assert rows == [200, len(batch.cuts)]
    assert 4 < len(batch.cuts) < 100


# The policy step


def test_the_step_sees_the_policy_that_acted_and_new_statistics_leave_the_function_it_made(make_learner, make_batch):
    learner, seen, made = make_learner(), [], []
    step, update = learner.policy_optimizer.step, learner._update_statistics

    def watched_step(batch, advantages):
        observations = batch.observations
        with torch.no_grad():
            seen.append((learner.policy.mean_t(observations), torch.from_numpy(learner.policy.actor.mean(observations))))
        return step(batch, advantages)

    def watched_update(observations):
        with torch.no_grad():
            made.append(learner.policy.mean_t(observations))
        update(observations)

    learner.policy_optimizer.step, learner._update_statistics = watched_step, watched_update
    for seed in range(3):
        batch = make_batch(learner.policy, seed=seed)
        learner.update(batch)
        np.testing.assert_allclose(learner.policy.actor.mean(batch.observations), made[-1], atol=1e-4)
    for learned, acted in seen:
        torch.testing.assert_close(learned, acted, rtol=0, atol=1e-5)


@both
def test_after_the_policy_step_the_policy_acts_and_the_later_phases_leave_it_alone(make_learner, make_batch, algorithm):
    learner = make_learner(algorithm)
    batch, old, before = make_batch(learner.policy), learner.policy.actor, bits(learner)
    advantages, targets = learner.advantages(batch, learner.rewards(batch))
    learner.policy_step(batch, advantages)
    actor, stepped = learner.policy.actor, bits(learner)
    with torch.no_grad():
        learned = learner.policy.mean_t(batch.observations)
    assert actor is not old
    np.testing.assert_allclose(actor.mean(batch.observations), learned, atol=1e-5)
    assert not any(stepped[name] != value for name, value in before.items() if name.startswith("discriminator"))
    learner.fit_critic(batch, targets)
    learner.fit_discriminator(batch)
    after = bits(learner)
    assert {name.partition("/")[0] for name in after if after[name] != stepped.get(name)} >= {"critic", "discriminator"}
    assert not any(after[name] != value for name, value in stepped.items() if name.startswith("policy"))
    assert learner.policy.actor is actor


@both
def test_an_update_merges_its_observations_into_the_statistics_once_and_nothing_else_does(
    make_learner, make_batch, tmp_path, algorithm
):
    learner = make_learner(algorithm)
    batch, before = make_batch(learner.policy), statistics(learner)
    learner.draw_action(batch.observations[0].numpy())
    learner.advantages(batch, learner.rewards(batch))
    learner.policy.log_prob_t(batch.observations, batch.actions)
    weights = torch.from_numpy(learner.policy.get_weights())
    product = gauss_newton_product(learner.policy, Linearized(learner.policy, batch.observations))
    conjugate_gradient(product, weights, iterations=3)
    learner.save(tmp_path / "agent.safetensors")
    assert statistics(learner) == before
    count = learner.policy.normalizer.count.item()
    learner.update(batch)
    assert learner.policy.normalizer.count == count + 64


def test_falls_far_outside_of_the_statistics_do_not_move_the_policy(make_learner, make_batch):
    learner = make_learner(**PLAIN)
    falls = 50.0 * make_batch(learner.policy, seed=8).observations
    with torch.no_grad():
        before = learner.policy.distribution_t(falls)
        learner._update_statistics(falls)
        moved = torch.distributions.kl_divergence(before, learner.policy.distribution_t(falls))
    assert moved.max() < 1e-6


def test_an_update_lowers_the_bound_on_the_standard_deviation_by_its_steps(make_learner, make_batch):
    learner = make_learner(initial_std=0.5, std_half_life=128, final_std=0.2)
    for bound in (0.5 / 2**0.5, 0.25, 0.2, 0.2):  # batches of 64 steps
        learner.update(make_batch(learner.policy))
        assert learner.policy.max_std == pytest.approx(bound)
        assert learner.policy.log_std.exp().max() <= bound * (1.0 + 1e-6)
        np.testing.assert_allclose(learner.policy.actor.std, learner.policy.log_std.detach().exp(), rtol=1e-6)


def test_actions_go_where_the_reward_is_and_the_critic_learns_its_value(make_learner, demonstrations):
    # Episodes of one step, paid 3 less the squared distance of the first action to 0.5.
    learner = make_learner(max_kl=0.05, cg_fraction=1.0, initial_std=0.5, critic_learning_rate=1e-2, critic_epochs=10, **PLAIN)
    for seed in range(16):
        observations = np.random.default_rng(seed).permutation(demonstrations.states)[:256]
        actions = learner.policy.draw_action(observations)
        rewards = 3.0 - (actions[:, 0] - 0.5) ** 2
        columns = (observations, actions, rewards, observations, np.ones(256), np.ones(256))
        learner.update(Batch.upload(*columns, "cpu"))
    mean = learner.policy.actor.mean(observations)
    assert mean[:, 0].mean() == pytest.approx(0.5, abs=0.15)
    assert np.abs(mean[:, 1:].mean(axis=0)).max() < 0.15
    assert learner.diagnostics()["value"] == pytest.approx(3.0, abs=0.4)


# Numbers that are not finite


@pytest.mark.parametrize("name", ["observations", "next_observations", "rewards"])
def test_a_batch_that_is_not_finite_is_refused_and_leaves_everything(make_learner, make_rollouts, name):
    learner = make_learner()
    learner.fit(make_rollouts(learner.policy))
    rollouts, before = make_rollouts(learner.policy, seed=1), bits(learner)
    getattr(rollouts, name)[2, 5] = np.nan
    for experience in (rollouts, rollouts.dataset()):
        with pytest.raises(FloatingPointError, match=f"training: {name} are not finite; nothing was learned"):
            learner.fit(experience)
    assert bits(learner) == before


def test_a_value_that_is_not_finite_stops_the_update_and_leaves_the_policy(make_learner, make_batch):
    learner = make_learner()
    with torch.no_grad():
        learner.critic.network.linears[-1].bias.fill_(torch.nan)
    before = {name: value for name, value in bits(learner).items() if name.startswith("policy")}
    with pytest.raises(FloatingPointError, match="rewards or values are not finite"):
        learner.update(make_batch(learner.policy))
    assert {name: value for name, value in bits(learner).items() if name.startswith("policy")} == before


def test_a_critic_or_a_discriminator_that_overflows_is_named(make_learner, make_batch):
    learner = make_learner(critic_learning_rate=1.0)
    with torch.no_grad():
        learner.critic.network.linears[-1].weight.fill_(1e25)  # its square is more than float32 holds
    with pytest.raises(FloatingPointError, match=r"training: .*critic_loss.* not finite: .*smaller learning rates"):
        learner.update(make_batch(learner.policy))
    learner = make_learner(gradient_penalty=1.0)
    first, last = learner.discriminator.network.linears
    with torch.no_grad():
        for weight in (first.weight, last.weight):
            weight.mul_(1e12)  # the slope's square is more than float32 holds
        last.bias.fill_(-1e36)  # the rewards are still plain zeros
    with pytest.raises(FloatingPointError, match="gradient_penalty"):
        learner.update(make_batch(learner.policy))


@both
def test_mushroom_rls_save_writes_an_agent_that_can_be_loaded(make_learner, tmp_path, algorithm):
    learner = make_learner(algorithm)
    learner.save(tmp_path / "agent.safetensors")
    loaded = load_agent(tmp_path / "agent.safetensors")
    np.testing.assert_array_equal(loaded.act(np.zeros(37)), learner.policy.actor.act(np.zeros(37)))
    assert (loaded.metadata["task"], loaded.metadata["algorithm"]) == ("simple", algorithm)
