import pickle

import mujoco
import numpy as np
import pytest
from qi_ext.sampling.specification import STATE

from qi_ext.sampling import physics as worker
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.envs import EPISODES, LANES, Lanes, episode_seed, seed_of
from qi_ext.sampling.rollouts import ARRAYS
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.generators import pack_generator, unpack_generator


@pytest.fixture(scope="module")
def walked(sampler, make_actor, seeds):
    """6 lanes after 27 steps, at least 4 of them in the middle of an episode."""
    lanes, _ = sampler.fragment(sampler.lanes(seeds(6)), make_actor(), 27)
    assert lanes.running.sum() >= 4
    return lanes


# Generators


@pytest.mark.parametrize("halves", [0, 1], ids=["whole words", "half a word used"])
def test_a_generator_goes_on_where_it_was_packed(halves):
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 2])))
    generator.standard_normal(5)
    for _ in range(halves):
        generator.integers(1000, dtype=np.uint32)
    assert generator.bit_generator.state["has_uint32"] == halves
    other = unpack_generator(pack_generator(generator))
    for drawn, expected in zip(draws(other), draws(generator), strict=True):
        np.testing.assert_array_equal(drawn, expected)


def draws(generator):
    """Numbers of each kind that a lane draws."""
    return [generator.standard_normal(9, dtype=np.float32), generator.integers(1000, size=5), generator.uniform(size=3)]


def test_packing_leaves_the_generator_alone():
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    pack_generator(generator)
    assert generator.bit_generator.state == before


def test_every_lane_draws_its_own_numbers(sampler, seeds):
    lanes = sampler.lanes(seeds(50))
    assert len({unpack_generator(words).integers(2**63) for words in lanes.generator}) == 50


def test_the_seed_of_an_episode_depends_on_each_of_its_keys():
    commands = task_commands("hard")
    keys = [
        (seed, step, command, episode) for seed in (0, 1) for step in (0, 4096) for command in commands for episode in (0, 1)
    ]
    states = {episode_seed(*key).generate_state(4).tobytes() for key in keys}
    assert len(states) == len(keys)
    np.testing.assert_array_equal(episode_seed(*keys[3]).generate_state(4), episode_seed(*keys[3]).generate_state(4))


# Values


def test_lanes_that_were_selected_and_concatenated_are_the_same(walked):
    assert Lanes.concatenate([walked[:2], walked[2:5], walked[5:]]).equals(walked)
    assert walked[np.array([4, 1])].equals(Lanes.concatenate([walked[4:5], walked[1:2]]))
    assert not walked[np.array([4, 1])].equals(walked[np.array([1, 4])])


def test_a_selection_is_a_copy(walked):
    copy = walked[:]
    for array in vars(copy).values():
        array[:] = 1
    assert not copy.equals(walked)
    assert walked.generator.max() > 1


@pytest.mark.parametrize("name", vars(Lanes.fresh([np.random.SeedSequence(0)], 1)))
def test_a_change_of_any_field_is_a_difference(walked, name):
    changed = walked[:]
    array = getattr(changed, name)
    array.flat[-1] = not array.flat[-1] if array.dtype == bool else array.flat[-1] + 1
    assert not changed.equals(walked)


def test_lanes_survive_pickling(walked, sampler, make_actor, bits):
    copy = pickle.loads(pickle.dumps(walked))
    assert copy.equals(walked)
    assert bits(sampler.fragment(copy, make_actor(), 10)[1]) == bits(sampler.fragment(walked, make_actor(), 10)[1])


@pytest.mark.parametrize("cut", [1, 20, 29])
def test_where_a_rollout_is_cut_changes_nothing(sampler, make_actor, seeds, cut):
    lanes = sampler.lanes(seeds(6))
    end, whole = sampler.fragment(lanes, make_actor(), 50)
    middle, first = sampler.fragment(lanes, make_actor(), cut)
    other_end, second = sampler.fragment(middle, make_actor(), 50 - cut)
    assert end.equals(other_end)
    for name in ARRAYS:
        together = np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        if name == "last":  # it tells of the cut
            together[:, cut - 1] &= (whole.absorbing | whole.truncated)[:, cut - 1]
        np.testing.assert_array_equal(together, getattr(whole, name))


def test_the_solvers_warm_start_is_part_of_a_lane(sampler, make_actor, walked):
    """Else the test above could pass with a state that is not all of it."""
    model = sampler.specification.model
    cold = walked[:]
    for lane in range(len(cold)):
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, cold.state[lane], STATE)
        assert data.qacc_warmstart.any() == walked.running[lane]
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_getState(model, data, cold.state[lane], STATE)
    _, expected = sampler.fragment(walked, make_actor(), 5)
    _, rollouts = sampler.fragment(cold, make_actor(), 5)
    assert not np.array_equal(rollouts.observations, expected.observations)


def test_the_same_lanes_give_the_same_bits_again(sampler, make_actor, walked, bits):
    before = walked[:]
    one, two = (sampler.fragment(walked, make_actor(), 25) for _ in range(2))
    assert walked.equals(before)
    assert one[0].equals(two[0])
    assert bits(one[1]) == bits(two[1])


def test_results_do_not_share_memory_with_the_lanes_given(sampler, make_actor, walked):
    after, _ = sampler.fragment(walked, make_actor(), 5)
    for name, array in vars(after).items():
        assert not np.shares_memory(array, getattr(walked, name)), name


def test_episodes_leave_the_lanes_given_alone(sampler, make_actor, seeds):
    lanes = sampler.lanes(seeds(5))
    before = lanes[:]
    list(sampler.episodes(lanes, PolicyController(make_actor())))
    assert lanes.equals(before)


@pytest.mark.parametrize("run", [worker.fragment, worker.episodes])
def test_a_worker_leaves_the_lanes_of_its_task_alone(sampler, make_actor, walked, run):
    """A task may run twice."""
    worker.install_here("ours", sampler.specification)
    before = walked[:]
    run("ours", walked, len(walked), PolicyController(make_actor()), *([20] if run is worker.fragment else []))
    worker.uninstall("ours")
    assert walked.equals(before)


def test_no_two_purposes_share_a_stream():
    """Entropy [s, 0, 0] would be the same stream as [s, 0, 0, 0] and s itself, which the environment is seeded with."""
    sequences = [
        np.random.SeedSequence(5),
        *np.random.SeedSequence(5).spawn(2),
        seed_of(5, LANES, 0),
        seed_of(5, LANES, 0, 0),
        seed_of(5, EPISODES, 0),
        episode_seed(5, 0, None, 0),
    ]
    assert len({sequence.generate_state(4).tobytes() for sequence in sequences}) == len(sequences)
