import re

import numpy as np
import pytest
import torch

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])


def same(one, other):
    """Whether two states are the same, bit for bit."""
    return one.keys() == other.keys() and all(
        (value.dtype, value.shape, value.tobytes()) == (other[key].dtype, other[key].shape, other[key].tobytes())
        for key, value in one.items()
    )


def acted(learner, n=3):
    return np.stack([learner.draw_action(np.full(37, 0.1 * i)) for i in range(n)])


@pytest.fixture
def taught(make_learner, make_batch):
    """taught(algorithm, updates=2, **settings): a learner that has learned from so many batches, and has acted."""

    def make(algorithm="gail", updates=2, **settings):
        learner = make_learner(algorithm, **settings)
        for seed in range(updates):
            learner.update(make_batch(learner.policy, seed=seed))
        acted(learner)
        return learner

    return make


@both
@pytest.mark.parametrize("updates", [0, 2])
def test_a_learner_that_loads_a_state_goes_on_as_the_one_that_gave_it(make_learner, make_batch, taught, algorithm, updates):
    one, other = taught(algorithm, updates), make_learner(algorithm, seed=9)
    other.load_state(one.state())
    assert same(one.state(), other.state())
    for seed in (5, 6):
        np.testing.assert_array_equal(acted(one), acted(other))
        batch = make_batch(one.policy, seed=seed)
        one.update(batch)
        other.update(batch)
        assert one.diagnostics() == other.diagnostics()
        assert same(one.state(), other.state())


@both
def test_a_learner_can_be_put_back_to_its_beginning(make_learner, taught, algorithm):
    fresh, learner = make_learner(algorithm), taught(algorithm)
    learner.load_state(fresh.state())
    assert same(learner.state(), fresh.state())
    assert not learner.critic.optimizer.state and not learner.discriminator.optimizer.state


@both
def test_the_state_is_all_that_an_update_changes_under_the_names_that_checkpoints_have(make_learner, taught, algorithm):
    """Settings and demonstrations must be given with the learner."""
    before, learner = make_learner(algorithm).state(), taught(algorithm)
    after = learner.state()
    parts = {key.partition("/")[0] for key in after if key not in before or before[key].tobytes() != after[key].tobytes()}
    drawn = {"discriminator.generator"} if algorithm == "gail" else set()  # nothing is sampled there after the beginning
    assert parts == learner.parts().keys() - drawn
    names = {"policy.network/0.weight", "policy.log_std/value", "policy.max_log_std/value", "policy.normalizer/mean"}
    names |= {"critic/0.weight", "critic_optimizer/0.exp_avg", "generator/state", "policy.generator/state"}
    names |= {"discriminator/normalizer.mean", "discriminator/network.0.weight", "discriminator_optimizer/0.exp_avg_sq"}
    assert after.keys() >= names | ({"discriminator/beta", "discriminator/head.0.weight"} if algorithm == "vail" else set())
    assert after["discriminator_optimizer/0.step"] > 0
    assert after["policy.normalizer/variance"].dtype == np.float64


def test_a_state_is_plain_arrays_and_a_copy(make_batch, taught):
    learner = taught()
    state = learner.state()
    assert all(isinstance(value, np.ndarray) and value.dtype.kind in "fu" for value in state.values())
    before = {key: value.copy() for key, value in state.items()}
    learner.update(make_batch(learner.policy, seed=3))
    assert same(state, before)
    learner.load_state(state)
    learner.update(make_batch(learner.policy, seed=4))
    assert same(state, before)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"policy_hidden": [8]}, "policy.network"),
        ({"critic_hidden": [8]}, "critic"),
        ({"discriminator_hidden": [16, 4]}, "discriminator"),
        ({"discriminator_input": "state"}, "discriminator"),
        ({"algorithm": "vail"}, "discriminator"),
    ],
)
def test_a_state_of_another_learner_is_refused_by_name_in_one_line(make_learner, settings, part):
    with pytest.raises(ValueError, match=rf"^{re.escape(part)} does not fit \(.+\)$") as caught:
        make_learner(**settings).load_state(make_learner().state())
    assert "\n" not in str(caught.value)


def test_a_state_with_a_part_that_this_learner_lacks_is_refused_before_anything_is_changed(make_learner, taught):
    learner, state = make_learner(seed=4), taught().state()
    before = learner.state()
    with pytest.raises(ValueError, match=r"^bottleneck is of another agent$"):
        learner.load_state(state | {"bottleneck/beta": np.zeros(1)})
    assert same(learner.state(), before)


DAMAGES = {
    "critic_optimizer": lambda state: state.update({"critic_optimizer/99.exp_avg": np.zeros(3, np.float32)}),
    "discriminator_optimizer": lambda state: state.pop("discriminator_optimizer/0.exp_avg"),
    "policy.log_std": lambda state: state.update({"policy.log_std/value": np.zeros(5, np.float32)}),
    "policy.normalizer": lambda state: state.pop("policy.normalizer/mean"),
    "policy.generator": lambda state: state.pop("policy.generator/state"),
    "generator": lambda state: state.update({"generator/state": np.full(6, 2**63, np.uint64)}),
    "discriminator.generator": lambda state: state.update({"discriminator.generator/state": np.zeros(3, np.uint8)}),
}


@pytest.mark.parametrize("part", DAMAGES)
def test_a_part_that_is_damaged_is_named(make_learner, taught, part):
    state = taught().state()
    DAMAGES[part](state)
    with pytest.raises(ValueError, match=rf"^{re.escape(part)} does not fit \(.+\)$"):
        make_learner().load_state(state)


def test_states_draw_no_random_numbers(taught):
    learner = taught("vail")
    before, first = torch.get_rng_state(), learner.state()
    learner.load_state(first)
    assert same(learner.state(), first)
    assert torch.equal(torch.get_rng_state(), before)
