import math

import numpy as np
import pytest
import torch
from annotated_types import MaxLen

from qi_ext import load_agent
from qi_ext.learning.networks import MIN_STD
from qi_ext.training.settings import Policy


@pytest.fixture
def policy(make_policy):
    """A policy whose weights, statistics and stds are all its own."""
    policy = make_policy((16, 8))
    policy.normalizer.update(1.0 + 2.0 * torch.randn(100, 37, generator=torch.Generator().manual_seed(0)))
    policy.set_weights(0.3 * np.random.default_rng(0).standard_normal(len(policy.get_weights())).astype(np.float32))
    return policy


@pytest.fixture
def observations():
    return np.random.default_rng(1).standard_normal((50, 37))


def test_the_deepest_policy_that_can_be_asked_for_is_loaded_again(make_policy, tmp_path):
    deepest = next(each.max_length for each in Policy.model_fields["policy_hidden"].metadata if isinstance(each, MaxLen))
    policy = make_policy([256] * deepest)
    policy.normalizer.variance.fill_(MIN_STD**2)  # the largest inverse that is used
    policy.sync()
    policy.save_agent(tmp_path / "agent.safetensors", {})
    load_agent(tmp_path / "agent.safetensors")


def test_numpy_acts_as_torch_learns(policy, observations):
    with torch.no_grad():
        expected = policy.mean_t(torch.from_numpy(observations).float()).numpy()
    np.testing.assert_allclose(policy.actor.mean(observations), expected, atol=1e-5)


def test_actions_are_the_mean_without_noise_drawn_when_deterministic_and_noisy_otherwise(policy, observations):
    mean = policy.actor.mean(observations)
    assert not np.array_equal(policy.draw_action(observations), mean)
    policy.deterministic = True
    before = policy.generator.bit_generator.state
    np.testing.assert_array_equal(policy.draw_action(observations), mean)
    np.testing.assert_array_equal(policy.draw_action_t(torch.from_numpy(observations)), mean)
    assert policy.generator.bit_generator.state == before


def test_actions_have_the_policys_mean_and_standard_deviation(policy, observations):
    actions = policy.draw_action(np.repeat(observations[:1], 40_000, axis=0))
    std = np.exp(policy.log_std.detach().numpy())
    np.testing.assert_allclose(actions.mean(axis=0), policy.actor.mean(observations[0]), atol=0.03 * std.max())
    np.testing.assert_allclose(actions.std(axis=0), std, rtol=0.02)


def test_seeding_restarts_the_noise(policy, observations):
    draws = []
    for seed in (7, 7, 8):
        policy.seed(seed)
        draws.append(policy.draw_action(observations).tobytes())
    assert draws[0] == draws[1] != draws[2]


def test_log_probability_and_entropy_are_those_of_a_diagonal_gaussian(policy, observations):
    states = torch.from_numpy(observations).float()
    actions = policy.draw_action_t(states)
    covariance = torch.diag(torch.exp(2.0 * policy.log_std))
    expected = torch.distributions.MultivariateNormal(policy.mean_t(states), covariance)
    torch.testing.assert_close(policy.log_prob_t(states, actions), expected.log_prob(actions)[:, None], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(policy.entropy_t(), expected.entropy()[0], rtol=1e-5, atol=0)


def test_initial_policy_hardly_acts_and_has_the_asked_standard_deviation(make_policy, observations):
    policy = make_policy((16,), initial_std=0.7)
    assert np.abs(policy.actor.mean(observations)).max() < 0.2
    np.testing.assert_allclose(policy.actor.std, 0.7, rtol=1e-6)


def test_weights_that_were_set_are_copied_and_acted_with(make_policy, policy, observations):
    other = make_policy((16, 8), seed=5)
    other.normalizer.load_state_dict(policy.normalizer.state_dict())
    weights = policy.get_weights()
    other.set_weights(weights.astype(np.float64))
    weights[:] = 0.0
    assert other.get_weights().dtype == np.float32
    np.testing.assert_array_equal(other.get_weights(), policy.get_weights())
    np.testing.assert_array_equal(other.actor.mean(observations), policy.actor.mean(observations))


def test_the_actor_is_a_copy_that_changes_only_with_sync(policy, observations):
    before = policy.actor.mean(observations).copy(), policy.actor.std.copy()
    policy.set_parameters(torch.zeros(len(policy.get_weights())))
    policy.normalizer.mean.fill_(3.0)
    np.testing.assert_array_equal(policy.actor.mean(observations), before[0])
    np.testing.assert_array_equal(policy.actor.std, before[1])
    policy.sync()
    assert not policy.actor.mean(observations).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["weight", "log_std", "statistics"])
def test_weights_that_are_not_finite_are_refused_and_it_acts_as_before(policy, bad, where):
    actor = policy.actor
    tensors = {"weight": policy.network.linears[0].weight, "log_std": policy.log_std, "statistics": policy.normalizer.mean}
    with torch.no_grad():
        tensors[where].view(-1)[3] = bad
    with pytest.raises(FloatingPointError, match="training: policy weights are not finite: try a smaller max_kl"):
        policy.sync()
    assert policy.actor is actor


def test_a_saved_agent_acts_as_the_policy_did_and_says_what_it_is(policy, observations, tmp_path):
    policy.save_agent(tmp_path / "agent.safetensors", {"task": "simple", "step": "7"})
    agent = load_agent(tmp_path / "agent.safetensors")
    np.testing.assert_array_equal(agent.act(observations), policy.actor.mean(observations))
    np.testing.assert_array_equal(agent.std, policy.actor.std)
    own = {"format_version": "2", "layers": "37,16,8,12", "symmetry": "none", "activation": "relu"}
    assert agent.metadata == {"task": "simple", "step": "7"} | own


def test_an_agent_of_the_default_size_is_under_a_megabyte(make_policy, tmp_path):
    make_policy((512, 256)).save_agent(tmp_path / "agent.safetensors", {})
    assert (tmp_path / "agent.safetensors").stat().st_size < 1e6


# The bound on the standard deviation


def test_the_bound_on_the_standard_deviation_halves_down_to_the_final_one(make_policy):
    policy = make_policy(initial_std=0.4)
    bounds = []
    for _ in range(8):
        policy.lower_max_std(0.5, final=0.05)
        bounds.append(policy.log_std.exp().max().item())
    np.testing.assert_allclose(bounds, np.maximum(0.4 * 0.5 ** (np.arange(1, 9) / 2), 0.05), rtol=1e-6)


def test_only_standard_deviations_above_the_bound_change_and_a_bound_below_the_final_one_stays(make_policy):
    policy = make_policy(initial_std=0.4)
    policy.log_std.data[:6] = math.log(0.1)
    policy.lower_max_std(1.0, final=0.05)
    np.testing.assert_allclose(policy.log_std.detach().exp(), [0.1] * 6 + [0.2] * 6, rtol=1e-6)
    policy.set_std(0.03)
    policy.lower_max_std(1.0, final=0.05)
    np.testing.assert_allclose(policy.log_std.detach().exp(), 0.03, rtol=1e-6)
