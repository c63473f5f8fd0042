import re

import numpy as np
import pytest
import torch

from qi_ext.learning.state import restore, state_of
from qi_ext.learning.trpo import TRPO

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])


def same(one, other):
    """Whether two states are the same, bit for bit."""
    return one.keys() == other.keys() and all(
        value.dtype == other[key].dtype and value.shape == other[key].shape and value.tobytes() == other[key].tobytes()
        for key, value in one.items()
    )


def acted(agent, n=3):
    return np.stack([agent.draw_action(np.full(37, 0.1 * i)) for i in range(n)])


@pytest.fixture
def taught(make_agent, make_batch):
    """taught(algorithm, updates=2, **settings): an agent that has learned from so many batches, and has acted."""

    def make(algorithm, updates=2, **settings):
        agent = make_agent(algorithm, **settings)
        for seed in range(updates):
            agent.update(make_batch(agent.policy, seed=seed))
        acted(agent)
        return agent

    return make


@both
@pytest.mark.parametrize("updates", [0, 1, 3])
def test_an_agent_that_was_restored_goes_on_as_the_one_that_was_saved(make_agent, make_batch, taught, algorithm, updates):
    one, other = taught(algorithm, updates), make_agent(algorithm, seed=9)
    restore(other, state_of(one))
    assert same(state_of(one), state_of(other))
    for seed in range(5, 8):
        np.testing.assert_array_equal(acted(one), acted(other))
        batch = make_batch(one.policy, seed=seed)
        one.update(batch)
        other.update(batch)
        assert one.diagnostics == other.diagnostics
        assert same(state_of(one), state_of(other))


@both
def test_an_agent_that_has_learned_can_be_put_back_to_its_beginning(make_agent, taught, algorithm):
    fresh, agent = make_agent(algorithm), taught(algorithm)
    restore(agent, state_of(fresh))
    assert same(state_of(agent), state_of(make_agent(algorithm)))
    assert not agent.critic_optimizer.state
    assert not agent.discriminator_optimizer.state


@both
def test_a_restored_policy_acts_so_at_once(make_agent, taught, algorithm):
    one, other = taught(algorithm), make_agent(algorithm, seed=9)
    observations = np.random.default_rng(0).standard_normal((20, 37))
    restore(other, state_of(one))
    np.testing.assert_array_equal(other.policy.actor.mean(observations), one.policy.actor.mean(observations))
    np.testing.assert_array_equal(other.policy.actor.std, one.policy.actor.std)


@both
def test_the_state_is_all_that_an_update_changes(make_agent, make_batch, algorithm):
    """What is not in it must be given with the agent: settings, and the demonstrations."""
    agent = make_agent(algorithm)
    before = state_of(agent)
    agent.update(make_batch(agent.policy))
    acted(agent)
    after = state_of(agent)
    parts = {key.partition("/")[0] for key in after if key not in before or before[key].tobytes() != after[key].tobytes()}
    drawn = {"discriminator.generator"} if algorithm == "gail" else set()  # nothing is sampled there after the beginning
    assert parts == agent.parts().keys() - drawn


@both
def test_adams_moments_and_steps_are_in_the_state(taught, algorithm):
    agent = taught(algorithm)
    state = state_of(agent)
    for name in ("critic", "discriminator"):
        for index, parameter in enumerate(getattr(agent, name).parameters()):
            moments = [state[f"{name}_optimizer/{index}.{moment}"] for moment in ("exp_avg", "exp_avg_sq")]
            assert all(moment.shape == parameter.shape and moment.any() for moment in moments)
            assert state[f"{name}_optimizer/{index}.step"] > 0


def test_the_statistics_and_beta_are_in_the_state(taught):
    agent = taught("vail")
    state = state_of(agent)
    for name in ("policy.normalizer/", "discriminator/normalizer."):
        assert state[f"{name}count"] > 0
        assert {state[f"{name}{key}"].dtype for key in ("mean", "variance", "count")} == {np.dtype(np.float64)}
    assert state["discriminator/beta"] == agent.discriminator.beta.item()


@both
def test_the_state_is_plain_arrays_and_a_copy(make_agent, make_batch, taught, algorithm):
    agent = taught(algorithm)
    state = state_of(agent)
    assert all(isinstance(value, np.ndarray) and value.dtype.kind in "fu" for value in state.values())
    before = {key: value.copy() for key, value in state.items()}
    agent.update(make_batch(agent.policy, seed=5))
    acted(agent)
    assert same(state, before), "learning reached into the state"
    other = make_agent(algorithm)
    restore(other, state)
    other.update(make_batch(other.policy, seed=6))
    acted(other)
    assert same(state, before), "what was restored from it reached into the state"


def test_learning_rates_are_those_of_the_config_it_is_restored_to(make_agent, taught):
    other = make_agent("gail", critic_learning_rate=0.123)
    restore(other, state_of(taught("gail")))
    assert other.critic_optimizer.param_groups[0]["lr"] == 0.123


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"policy_hidden": [17]}, "policy.network"),
        ({"policy_hidden": [16, 16]}, "policy.network"),
        ({"critic_hidden": [8]}, "critic"),
        ({"discriminator_hidden": [16, 4]}, "discriminator"),
        ({"discriminator_input": "state"}, "discriminator"),
    ],
)
def test_a_state_of_other_sizes_is_refused_by_name(make_agent, taught, settings, part):
    agent = make_agent("gail", **settings)
    with pytest.raises(ValueError, match=rf"^{re.escape(part)} does not fit \(.+\)$") as caught:
        restore(agent, state_of(taught("gail")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("saved", "restored"), [("gail", "vail"), ("vail", "gail")])
def test_a_state_of_the_other_algorithm_is_refused(make_agent, taught, saved, restored):
    with pytest.raises(ValueError, match=r"^discriminator does not fit \(.+\)$"):
        restore(make_agent(restored), state_of(taught(saved)))


def test_a_state_with_a_part_that_this_agent_lacks_is_refused_before_anything_is_changed(make_agent, make_trpo, taught):
    agent = make_trpo(seed=4)
    before = state_of(agent)
    with pytest.raises(ValueError, match=r"^discriminator(_optimizer)? is of another agent$"):
        restore(agent, state_of(taught("gail")))
    assert same(state_of(agent), before)
    agent = make_agent("gail")
    assert isinstance(make_trpo(), TRPO)
    with pytest.raises(ValueError, match=r"^discriminator does not fit"):
        restore(agent, state_of(make_trpo()))


DAMAGES = {
    "critic_optimizer": lambda state: state.update({"critic_optimizer/99.exp_avg": np.zeros(3, np.float32)}),
    "discriminator_optimizer": lambda state: state.update({"discriminator_optimizer/0.exp_avg": np.zeros(3, np.float32)}),
    "policy.log_std": lambda state: state.update({"policy.log_std/value": np.zeros(5, np.float32)}),
    "policy.normalizer": lambda state: state.pop("policy.normalizer/mean"),
    "policy.generator": lambda state: state.pop("policy.generator/state"),
    "generator": lambda state: state.update({"generator/state": np.zeros(3, np.uint64)}),
    "discriminator.generator": lambda state: state.update({"discriminator.generator/state": np.zeros(3, np.uint8)}),
}


@pytest.mark.parametrize("part", DAMAGES)
def test_a_part_that_is_damaged_is_named(make_agent, taught, part):
    state = state_of(taught("gail"))
    DAMAGES[part](state)
    with pytest.raises(ValueError, match=rf"^{re.escape(part)} does not fit \(.+\)$"):
        restore(make_agent("gail"), state)


def test_states_draw_no_random_numbers(taught):
    agent = taught("vail")
    before = torch.get_rng_state()
    first = state_of(agent)
    restore(agent, first)
    assert same(state_of(agent), first)
    assert torch.equal(torch.get_rng_state(), before)
