"""Envs as values: copied, cut, sent and continued, with the same bits."""

import pickle

import mujoco
import numpy as np
import pytest

from qi_ext.sampling.env_spec import STATE
from qi_ext.sampling.envs import ENVS, EPISODES, Envs, episode_seed, seed_of
from qi_ext.sampling.rollouts import ARRAYS
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.generators import pack_generator, unpack_generator


def draws(generator):
    """Numbers of each kind that an env draws."""
    return [generator.standard_normal(9, dtype=np.float32), generator.integers(1000, size=5), generator.uniform(size=3)]


@pytest.mark.parametrize("halves", [0, 1], ids=["whole words", "half a word used"])
def test_a_generator_goes_on_where_it_was_packed(halves):
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 2])))
    for _ in range(halves):
        generator.integers(1000, dtype=np.uint32)
    before = generator.bit_generator.state
    other = unpack_generator(pack_generator(generator))
    assert generator.bit_generator.state == before
    assert before["has_uint32"] == halves
    for drawn, expected in zip(draws(other), draws(generator), strict=True):
        np.testing.assert_array_equal(drawn, expected)


def test_every_env_and_every_purpose_has_its_own_stream(simulator):
    """Entropy [5, 0, 0] would give the stream of [5, 0, 0, 0] and of 5 itself, which the environment is seeded with."""
    assert len({words.tobytes() for words in simulator.envs(50).generator}) == 50
    seeds = [np.random.SeedSequence(5), *np.random.SeedSequence(5).spawn(2)]
    seeds += [seed_of(5, ENVS, 0), seed_of(5, ENVS, 0, 0), seed_of(5, EPISODES, 0), episode_seed(5, 0, None, 0)]
    assert len({seed.generate_state(4).tobytes() for seed in seeds}) == len(seeds)


def test_the_seed_of_an_episode_depends_on_each_of_its_keys_and_on_nothing_else():
    keys = [
        (seed, step, command, episode)
        for seed in (0, 1)
        for step in (0, 4096)
        for command in task_commands("hard")
        for episode in (0, 1)
    ]
    first, again = ([episode_seed(*key).generate_state(4).tobytes() for key in keys] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(keys)


def test_envs_are_selected_and_concatenated_as_copies(walked):
    before = walked[:]
    assert Envs.concatenate([walked[:2], walked[2:5], walked[5:]]).equals(walked)
    selected = walked[np.array([4, 1])]
    assert selected.equals(Envs.concatenate([walked[4:5], walked[1:2]]))
    for array in vars(selected).values():
        array[:] = 1
    assert walked.equals(before)


def test_a_change_of_any_field_is_a_difference(walked):
    for name in vars(walked):
        changed = walked[:]
        array = getattr(changed, name)
        array.flat[-1] = not array.flat[-1] if array.dtype == bool else array.flat[-1] + 1
        assert not changed.equals(walked), name


def test_arrays_have_the_names_of_checkpoints_and_give_the_envs_back(walked):
    arrays = walked.arrays()
    assert set(arrays) == {"number", "state", "goal", "start_range", "running", "step", "episode_return", "generator"}
    assert Envs.fresh([np.random.SeedSequence(0)] * 6, walked.state.shape[1], 3).replaced_by(arrays).equals(walked)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("state", np.nan), ("state", 1e300), ("goal", np.inf), ("episode_return", np.nan), ("step", 2**62), ("step", -2)),
        *(("start_range", 2**62), ("generator", 2**64 - 1)),
    ],
)
def test_numbers_that_no_env_can_have_are_refused(walked, name, value):
    arrays = {key: array.copy() for key, array in walked.arrays().items()}
    arrays[name][walked.running] = value
    with pytest.raises(ValueError):
        walked.replaced_by(arrays)


def test_envs_survive_pickling(walked, simulator, controller, bits):
    copy = pickle.loads(pickle.dumps(walked))
    assert copy.equals(walked)
    assert bits(simulator.step(copy, controller, 10)[1]) == bits(simulator.step(walked, controller, 10)[1])


@pytest.mark.parametrize("cut", [1, 20, 29])
def test_a_cut_in_a_rollout_changes_nothing_but_last(simulator, controller, cut):
    envs = simulator.envs(6)
    end, whole = simulator.step(envs, controller, 50)
    middle, first = simulator.step(envs, controller, cut)
    other_end, second = simulator.step(middle, controller, 50 - cut)
    assert end.equals(other_end)
    for name in ARRAYS:
        together = np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        if name == "last":
            together[:, cut - 1] &= (whole.absorbing | whole.truncated)[:, cut - 1]
        np.testing.assert_array_equal(together, getattr(whole, name))


def test_the_solvers_warm_start_is_part_of_an_env(simulator, controller, walked):
    """Without it, the test above could pass with an incomplete state."""
    model = simulator.spec.model
    cold = walked[:]
    for env in range(len(cold)):
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, cold.state[env], STATE)
        assert data.qacc_warmstart.any() == walked.running[env]
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_getState(model, data, cold.state[env], STATE)
    expected, found = (simulator.step(envs, controller, 5)[1] for envs in (walked, cold))
    assert not np.array_equal(found.observations, expected.observations)


def test_a_task_leaves_its_envs_as_they_were_so_that_it_can_run_again(simulator, controller, walked, bits):
    before = walked[:]
    (one, rollouts), (two, again) = (simulator.step(walked, controller, 20) for _ in range(2))
    simulator.run_episodes(walked, controller)
    assert walked.equals(before)
    assert one.equals(two)
    assert bits(rollouts) == bits(again)


@pytest.mark.parametrize("n_envs", [1, 3, 9])
def test_an_env_of_a_padded_block_does_what_it_does_in_a_full_one(simulator, controller, n_envs):
    full_envs, full = simulator.step(simulator.envs(12), controller, 20)
    envs, rollouts = simulator.step(simulator.envs(n_envs), controller, 20)
    assert envs.equals(full_envs[:n_envs])
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(rollouts, name), getattr(full, name)[:n_envs])
    np.testing.assert_array_equal(rollouts.episodes, full.episodes[full.episodes["env"] < n_envs])
