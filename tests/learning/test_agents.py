import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from mushroom_rl.core import Core

from qi_ext import load_agent
from qi_ext.evaluation import evaluate
from qi_ext.learning import GAIL
from qi_ext.learning.cloning import clone
from qi_ext.learning.gail import tracking_error
from qi_ext.learning.natural_gradient import Linearized, conjugate_gradient, gauss_newton_product
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import PolicyController
from qi_ext.utils.errors import UserError

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])


def all_weights(agent):
    """Everything learned, statistics included, as bytes."""
    modules = (agent.policy.network, agent.policy.normalizer, agent.critic, agent.discriminator)
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    return [tensor.detach().numpy().tobytes() for tensor in (*tensors, agent.policy.log_std)]


def statistics(agent):
    normalizers = (agent.policy.normalizer, agent.discriminator.normalizer)
    return [buffer.numpy().tobytes() for normalizer in normalizers for buffer in normalizer.buffers()]


def global_generators():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
    return torch.get_rng_state().numpy().tobytes(), (kind, keys.tobytes(), *rest), random.getstate()


@both
def test_learns_in_mushroom_rls_own_core(make_agent, environment, algorithm):
    agent = make_agent(algorithm)
    before = agent.policy.get_weights()
    updates = []
    core = Core(agent, environment, callbacks_fit=[lambda dataset: updates.append((len(dataset), dict(agent.diagnostics)))])
    core.learn(n_steps=192, n_steps_per_fit=64, quiet=True)
    assert [size for size, _ in updates] == [64, 64, 64]
    assert all(np.isfinite(value) for _, diagnostics in updates for value in diagnostics.values())
    assert not np.array_equal(agent.policy.get_weights(), before)


@both
def test_evaluates_in_mushroom_rls_own_core(make_agent, environment, algorithm):
    agent = make_agent(algorithm)
    before = all_weights(agent)
    dataset = Core(agent, environment).evaluate(n_episodes=2, quiet=True)
    assert sum(transition[-1] for transition in dataset) == 2
    assert all_weights(agent) == before


@both
def test_the_same_seed_gives_the_same_weights_bit_for_bit(make_agent, environment, algorithm):
    learned = []
    for seed in (0, 0, 1):
        environment.seed(0)
        agent = make_agent(algorithm, seed=seed)
        Core(agent, environment).learn(n_steps=128, n_steps_per_fit=64, quiet=True)
        learned.append(all_weights(agent))
    assert learned[0] == learned[1]
    assert learned[0] != learned[2]


@both
def test_nothing_draws_from_a_global_generator(make_agent, environment, demonstrations, small_config, algorithm):
    before = global_generators()
    agent = make_agent(algorithm)
    clone(agent.policy, demonstrations, 1, small_config(), np.random.SeedSequence(0))
    Core(agent, environment).learn(n_steps=64, n_steps_per_fit=64, quiet=True)
    assert global_generators() == before


@both
def test_statistics_begin_as_those_of_the_demonstrations(make_agent, demonstrations, algorithm):
    agent, dataset = make_agent(algorithm), demonstrations.dataset()
    expected = np.concatenate([dataset["states"], dataset["next_states"]], axis=1).mean(axis=0)
    np.testing.assert_allclose(agent.policy.normalizer.mean, expected[:37], atol=1e-6)
    np.testing.assert_allclose(agent.discriminator.normalizer.mean[:74], expected, atol=1e-6)


@both
def test_an_update_counts_each_sample_once(make_agent, make_batch, algorithm):
    agent = make_agent(algorithm, discriminator_updates=3)
    policy, discriminator = agent.policy.normalizer.count.item(), agent.discriminator.normalizer.count.item()
    agent.update(make_batch(agent.policy, n=64))
    assert agent.policy.normalizer.count == policy + 64
    # As many of the expert's as of the policy's.
    assert agent.discriminator.normalizer.count == discriminator + 128


@both
def test_only_an_update_changes_the_statistics(make_agent, make_batch, sampler, tmp_path, algorithm):
    agent = make_agent(algorithm)
    batch = make_batch(agent.policy)
    before = statistics(agent)
    for _ in range(3):
        agent.draw_action(batch.observations[0].numpy())
    agent.rewards(batch)
    agent.policy.log_prob_t(batch.observations, batch.actions)
    weights = torch.from_numpy(agent.policy.get_weights())
    conjugate_gradient(gauss_newton_product(agent.policy, Linearized(agent.policy, batch.observations)), weights, iterations=3)
    evaluate(sampler, PolicyController(agent.policy.actor), episodes=1, seed=0)
    agent.policy.save_agent(tmp_path / "agent.safetensors", {})
    assert statistics(agent) == before


@both
def test_rewards_draw_no_random_numbers(make_agent, make_batch, algorithm):
    agent = make_agent(algorithm)
    batch = make_batch(agent.policy)
    first = agent.rewards(batch)
    torch.rand(1)  # moves the global generator on
    assert torch.equal(agent.rewards(batch), first)


@both
def test_the_environments_reward_is_not_learned_from(make_agent, make_dataset, algorithm):
    paid, unpaid = make_agent(algorithm), make_agent(algorithm)
    dataset = make_dataset(paid.policy)
    paid.fit([(*t[:2], np.float32(1e6), *t[3:]) for t in dataset])
    unpaid.fit([(*t[:2], np.float32(0.0), *t[3:]) for t in dataset])
    assert all_weights(paid) == all_weights(unpaid)


@both
def test_baselines_learn_from_survival_alone_or_from_the_environments_reward(make_agent, make_batch, algorithm):
    batch = make_batch(make_agent(algorithm).policy)
    assert torch.equal(make_agent(algorithm, reward="environment").rewards(batch), batch.rewards)
    assert torch.equal(make_agent(algorithm, reward="constant").rewards(batch), torch.ones(len(batch)))


@both
@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("state", {"observations"}),
        ("next_state", {"observations", "next_observations"}),
        ("tracking", {"observations", "next_observations"}),
        ("action", {"observations", "actions"}),
    ],
)
def test_rewards_depend_on_what_the_discriminator_is_to_see_and_on_nothing_else(make_agent, make_batch, algorithm, name, seen):
    agent = make_agent(algorithm, discriminator_input=name)
    batch = make_batch(agent.policy)
    rewards = agent.rewards(batch)
    for column in ("observations", "next_observations", "actions", "rewards"):
        moved = replace(batch, **{column: 0.5 * getattr(batch, column)})
        assert torch.equal(agent.rewards(moved), rewards) == (column not in seen), column


@pytest.mark.parametrize("direction_deg", [0.0, 90.0, 225.0])
def test_tracking_error_is_along_and_across_the_command(direction_deg):
    command = Command(direction_deg, speed=0.5)
    along, left = command.features[:2], np.array([-command.features[1], command.features[0]])
    observations = torch.zeros(3, 37)
    observations[:, a1.GOAL] = torch.from_numpy(command.features).float()
    moves = [0.5 * along, np.zeros(2), 0.7 * along + 0.1 * left]
    observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1] = torch.from_numpy(np.array(moves)).float()
    np.testing.assert_allclose(tracking_error(observations), [[0.0, 0.0], [-0.5, 0.0], [0.2, 0.1]], atol=1e-6)


def test_a_discriminator_of_tracking_sees_the_errors_of_both_states(make_agent, demonstrations):
    agent, dataset = make_agent(discriminator_input="tracking"), demonstrations.dataset()
    states, next_states = (torch.from_numpy(dataset[key]).float() for key in ("states", "next_states"))
    expected = torch.cat([states, next_states, tracking_error(states), tracking_error(next_states)], dim=1)
    assert torch.equal(agent._expert, expected)


def test_the_discriminator_sees_actions_as_the_actuators_take_them(make_agent, make_batch):
    agent = make_agent(discriminator_input="action")
    batch = make_batch(agent.policy)
    beyond, limit = (replace(batch, actions=torch.full_like(batch.actions, value)) for value in (7.0, 1.0))
    assert torch.equal(agent.rewards(beyond), agent.rewards(limit))


def test_a_discriminator_of_actions_refuses_demonstrations_without_them(shared_environment, demonstrations, small_config):
    config = small_config(discriminator_input="action")
    with pytest.raises(UserError, match="--discriminator_input") as caught:
        GAIL(shared_environment.info, replace(demonstrations, actions=None), config, np.random.SeedSequence(0))
    assert "\n" not in str(caught.value)


@both
def test_fit_leaves_its_dataset_alone(make_agent, make_dataset, algorithm):
    agent = make_agent(algorithm)
    dataset, again = make_dataset(agent.policy), make_dataset(agent.policy)
    agent.fit(dataset)
    for transition, before in zip(dataset, again, strict=True):
        for value, expected in zip(transition, before, strict=True):
            np.testing.assert_array_equal(value, expected)


@both
def test_rollouts_are_learned_from_as_mushroom_rls_dataset_of_them_is(make_agent, make_rollouts, algorithm):
    by_arrays, by_list = make_agent(algorithm), make_agent(algorithm)
    before = all_weights(by_arrays)
    for seed in range(2):
        rollouts = make_rollouts(by_arrays.policy, seed)
        by_arrays.fit_rollouts(rollouts)
        by_list.fit(rollouts.dataset())
        assert by_arrays.diagnostics == by_list.diagnostics
    assert all_weights(by_arrays) == all_weights(by_list)
    assert all_weights(by_arrays) != before


@both
def test_fit_rollouts_leaves_its_rollouts_alone(make_agent, make_rollouts, algorithm):
    agent = make_agent(algorithm)
    rollouts, again = make_rollouts(agent.policy), make_rollouts(agent.policy)
    agent.fit_rollouts(rollouts)
    for name, before in vars(again).items():
        np.testing.assert_array_equal(getattr(rollouts, name), before, err_msg=name)


@both
def test_the_discriminator_comes_to_prefer_the_expert(make_agent, make_batch, algorithm):
    agent = make_agent(algorithm, discriminator_learning_rate=1e-2, discriminator_updates=20)
    for seed in range(3):
        agent.update(make_batch(agent.policy, seed=seed, shift=2.0))
    assert agent.diagnostics["logit_expert"] > agent.diagnostics["logit_policy"] + 0.5
    assert agent.diagnostics["discriminator_accuracy_expert"] > 0.7
    assert agent.diagnostics["discriminator_accuracy_policy"] > 0.7


@both
def test_a_discriminator_that_is_not_updated_pays_the_same(make_agent, make_batch, algorithm):
    agent = make_agent(algorithm, discriminator_updates=0)
    weights = [parameter.clone() for parameter in agent.discriminator.parameters()]
    agent.update(make_batch(agent.policy))
    assert all(torch.equal(*pair) for pair in zip(weights, agent.discriminator.parameters(), strict=True))


@both
@pytest.mark.parametrize("where", ["observations", "next_observations"])
def test_rollouts_that_are_not_numbers_stop_the_fit_and_leave_a_policy_that_acts(make_agent, make_rollouts, algorithm, where):
    agent = make_agent(algorithm)
    agent.fit_rollouts(make_rollouts(agent.policy))
    rollouts = make_rollouts(agent.policy, seed=1)
    observations = rollouts.observations.reshape(-1, 37).copy()
    before = agent.policy.actor.mean(observations)
    getattr(rollouts, where)[2, 5, 3] = np.nan
    with pytest.raises(FloatingPointError, match=f"training: {where} are not finite"):
        agent.fit_rollouts(rollouts)
    np.testing.assert_array_equal(agent.policy.actor.mean(observations), before)


@both
@pytest.mark.parametrize("where", ["observation", "next observation"])
def test_an_observation_that_is_not_a_number_stops_the_fit_and_leaves_a_policy_that_acts(
    make_agent, make_dataset, algorithm, where
):
    agent = make_agent(algorithm)
    agent.fit(make_dataset(agent.policy))
    observations = np.stack([transition[0] for transition in make_dataset(agent.policy)])
    before = agent.policy.actor.mean(observations)
    dataset = make_dataset(agent.policy, seed=1)
    dataset[5][0 if where == "observation" else 3][2] = np.nan
    with pytest.raises(FloatingPointError, match=f"training: {where.replace(' ', '_')}s are not finite"):
        agent.fit(dataset)
    np.testing.assert_array_equal(agent.policy.actor.mean(observations), before)


def test_a_discriminator_that_overflows_stops_the_fit(make_agent, make_batch):
    agent = make_agent("gail", gradient_penalty=1.0)
    first, last = agent.discriminator.network.linears
    with torch.no_grad():
        for weight in (first.weight, last.weight):
            weight.mul_(1e12)  # the slope's square is more than float32 holds
        last.bias.fill_(-1e36)  # the rewards are still plain zeros
    with pytest.raises(FloatingPointError, match="gradient_penalty"):
        agent.update(make_batch(agent.policy))


@both
def test_mushroom_rls_save_writes_an_agent_that_can_be_loaded(make_agent, tmp_path, algorithm):
    agent = make_agent(algorithm)
    agent.save(tmp_path / "agent.safetensors")
    observation = np.zeros(37)
    loaded = load_agent(tmp_path / "agent.safetensors")
    np.testing.assert_array_equal(loaded.act(observation), agent.policy.actor.act(observation))
    assert (loaded.metadata["task"], loaded.metadata["algorithm"]) == ("simple", algorithm)


# The policy is ready before the rest is fitted


@both
def test_ready_is_called_once_when_the_policy_acts_anew_and_nothing_else_has_changed(make_agent, make_rollouts, algorithm):
    agent = make_agent(algorithm)
    rollouts = make_rollouts(agent.policy)
    seen = []

    def ready():
        inputs = rollouts.observations.reshape(-1, 37)
        with torch.no_grad():
            learned = agent.policy.mean_t(torch.from_numpy(inputs).float()).numpy()
        seen.append((agent.policy.actor, agent.policy.actor.mean(inputs), learned, rest_of(agent)))

    # The critic's first layer follows the new statistics, so its function is what must not have changed.
    def rest_of(agent):
        modules = (agent.discriminator, *agent.critic.linears[1:])
        optimizers = (agent.critic_optimizer, agent.discriminator_optimizer)
        return [
            *(tensor.clone().numpy().tobytes() for module in modules for tensor in module.state_dict().values()),
            *(len(optimizer.state) for optimizer in optimizers),
        ]

    acted, before = agent.policy.actor, rest_of(agent)
    agent.fit_rollouts(rollouts, ready)
    ((actor, acts, learned, rest),) = seen
    assert actor is not acted
    np.testing.assert_allclose(acts, learned, atol=1e-5)
    assert rest == before
    assert rest_of(agent) != before
    assert agent.policy.actor is actor, "what is fitted after `ready` must not change the policy that acts"
    np.testing.assert_array_equal(actor.mean(rollouts.observations.reshape(-1, 37)), acts)


@both
def test_what_is_learned_does_not_depend_on_who_waits_for_the_policy(make_agent, make_rollouts, algorithm):
    waited_for, alone = make_agent(algorithm), make_agent(algorithm)
    for seed in range(2):
        rollouts = make_rollouts(alone.policy, seed)
        waited_for.fit_rollouts(rollouts, lambda: waited_for.policy.actor.mean(np.zeros(37)))
        alone.fit_rollouts(rollouts)
        assert waited_for.diagnostics == alone.diagnostics
    assert all_weights(waited_for) == all_weights(alone)


@both
def test_nobody_is_told_to_act_on_a_batch_that_is_refused(make_agent, make_rollouts, algorithm):
    agent, called = make_agent(algorithm), []
    rollouts = make_rollouts(agent.policy)
    rollouts.rewards[0, 0] = np.inf
    with pytest.raises(FloatingPointError, match="rewards"):
        agent.fit_rollouts(rollouts, lambda: called.append(1))
    assert not called
