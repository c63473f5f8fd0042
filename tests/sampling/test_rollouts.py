import numpy as np
import pytest
import torch
from mushroom_rl.utils.dataset import compute_episodes_length, compute_J

from qi_ext.learning import gae
from qi_ext.robot import a1
from qi_ext.sampling.rollouts import ARRAYS, EPISODE, EpisodeAssembler, Rollouts

GAMMA, LAMBDA = 0.97, 0.9
LENGTHS = (5, 3, 20, 1, 2)  # of fragments


@pytest.fixture(scope="module")
def fragments(sampler, make_actor, seeds):
    """Successive `Rollouts` of 6 lanes, of 5, 3, 20, 1 and 2 steps."""
    lanes, parts = sampler.lanes(seeds(6)), []
    for n_steps in LENGTHS:
        lanes, rollouts = sampler.fragment(lanes, make_actor(), n_steps)
        parts.append(rollouts)
    return parts


@pytest.fixture(scope="module")
def whole(sampler, make_actor, seeds):
    """The same in one."""
    return sampler.fragment(sampler.lanes(seeds(6)), make_actor(), sum(LENGTHS))[1]


def counted(n_lanes, n_steps, ends, first=0):
    """`Rollouts` whose numbers count: observation = time since `first`, reward = 10 lane + time.

    ends: {(lane, time): fell}, with rows of `episodes` that hold nothing but when and where.
    """
    time = np.tile(np.arange(first, first + n_steps), (n_lanes, 1))
    rewards = 10.0 * np.arange(n_lanes)[:, None] + time
    absorbing, truncated = np.zeros((2, n_lanes, n_steps), dtype=bool)
    for (lane, t), fell in ends.items():
        (absorbing if fell else truncated)[lane, t] = True
    last = absorbing | truncated
    last[:, -1] = True
    rows = sorted((t, lane, 0.0, 0, fell, False) for (lane, t), fell in ends.items())
    arrays = (time[..., None] + 0.0, time[..., None] + 0.5, rewards, time[..., None] + 1.0, absorbing, truncated, last)
    return Rollouts(*arrays, np.array(rows, dtype=EPISODE))


# Boundaries


def test_every_fragment_ends_with_last(fragments):
    for rollouts in fragments:
        assert rollouts.last[:, -1].all()
        ended = rollouts.absorbing | rollouts.truncated
        np.testing.assert_array_equal(rollouts.last[:, :-1], ended[:, :-1])


def test_an_episode_ends_by_a_fall_or_by_its_time_limit_and_never_by_both(whole, short):
    assert whole.absorbing.any()
    assert whole.truncated.any()
    assert not (whole.absorbing & whole.truncated).any()
    np.testing.assert_array_equal(whole.absorbing, a1.has_fallen(whole.next_observations))
    lengths, fell = whole.episodes["length"], whole.episodes["fell"]
    assert set(lengths[~fell]) == {short.info.horizon}
    assert (lengths[fell] == short.info.horizon).any()  # a fall at the very last step is a fall
    assert lengths.max() == short.info.horizon


def test_the_next_observation_at_an_episodes_end_is_where_it_ended(whole):
    ended = (whole.absorbing | whole.truncated)[:, :-1]
    same = (whole.next_observations[:, :-1] == whole.observations[:, 1:]).all(axis=2)
    np.testing.assert_array_equal(same, ~ended)
    # Where a time limit ends an episode, the robot is where one step leads; a new start is elsewhere.
    moved = np.abs(whole.next_observations - whole.observations)[whole.truncated][:, a1.POSITION]
    assert moved.max() < 0.5


def test_an_episode_goes_on_in_the_next_fragment(fragments):
    for before, after in zip(fragments[:-1], fragments[1:], strict=True):
        ended = (before.absorbing | before.truncated)[:, -1]
        same = (before.next_observations[:, -1] == after.observations[:, 0]).all(axis=1)
        np.testing.assert_array_equal(same, ~ended)
    assert not (fragments[0].absorbing | fragments[0].truncated)[:, -1].all()


def test_steps_are_those_of_all_lanes(fragments):
    assert [rollouts.n_steps for rollouts in fragments] == [6 * length for length in LENGTHS]


# Episodes


def test_an_episode_counts_once_with_all_its_steps_whatever_fragments_it_spans(fragments, whole):
    begins = np.cumsum([0, *LENGTHS[:-1]])
    rows = np.concatenate([rollouts.episodes for rollouts in fragments])
    rows["time"] += np.repeat(begins, [len(rollouts.episodes) for rollouts in fragments])
    np.testing.assert_array_equal(rows, whole.episodes)


def test_episodes_are_what_the_rewards_and_flags_say(whole):
    """Counted from the arrays, lane by lane."""
    expected = []
    for lane in range(len(whole.last)):
        begin = 0
        for t in np.flatnonzero((whole.absorbing | whole.truncated)[lane]):
            expected.append((t, lane, whole.rewards[lane, begin : t + 1].sum(), t + 1 - begin, whole.absorbing[lane, t], False))
            begin = t + 1
    expected = np.array(sorted(expected), dtype=EPISODE)
    np.testing.assert_allclose(whole.episodes["episode_return"], expected["episode_return"], rtol=1e-12)
    for name in ("time", "lane", "length", "fell", "blew_up"):
        np.testing.assert_array_equal(whole.episodes[name], expected[name])


def test_one_episode_of_3_fragments_is_counted_in_the_last(sampler, make_actor, seeds):
    """A lane that lives for 8 steps, cut after 3 and 6."""
    lanes, n_fragments = sampler.lanes(seeds(40)), 3
    parts = []
    for _ in range(n_fragments):
        lanes, rollouts = sampler.fragment(lanes, make_actor(), 3)
        parts.append(rollouts)
    (lanes_of_8,) = np.nonzero(~parts[0].last[:, :-1].any(axis=1) & ~parts[1].last[:, :-1].any(axis=1))
    ended = parts[2].episodes[(parts[2].episodes["time"] == 1) & (parts[2].episodes["length"] == 8)]
    assert len(ended) >= 3
    assert set(ended["lane"]) <= set(lanes_of_8)
    for row in ended:
        rewards = np.concatenate([part.rewards[row["lane"]] for part in parts])[:8]
        assert row["episode_return"] == pytest.approx(rewards.sum(), rel=1e-12)
        assert all(row["lane"] not in part.episodes["lane"] for part in parts[:2])


# Advantages


def generalized_advantages(*arrays):
    return gae.generalized_advantages(*(torch.from_numpy(array.astype(float)) for array in arrays), GAMMA, LAMBDA).numpy()


def test_advantages_do_not_leak_across_lanes(whole):
    random = np.random.default_rng(0)
    values, next_values = random.standard_normal((2, *whole.rewards.shape))

    def advantages(pick):
        arrays = (whole.rewards, values, next_values, whole.absorbing, whole.last)
        return generalized_advantages(*(pick(array) for array in arrays))

    together = advantages(lambda array: array)
    for lane in range(len(together)):
        np.testing.assert_array_equal(advantages(lambda array, lane=lane: array[lane]), together[lane])
    # One lane after another, as mushroom-rl's dataset has them: `last` at the fragments' ends keeps them apart.
    np.testing.assert_array_equal(advantages(np.ravel), together.ravel())


def test_a_time_limit_bootstraps_and_a_fall_does_not(whole):
    """With V = 1 everywhere and r = 0, the advantage of an episode's last step is gamma - 1, or -1 after a fall."""
    ones = np.ones_like(whole.rewards)
    advantages = generalized_advantages(0.0 * ones, ones, ones, whole.absorbing, whole.last)
    np.testing.assert_allclose(advantages[whole.absorbing], -1.0)
    np.testing.assert_allclose(advantages[whole.truncated], GAMMA - 1.0)
    np.testing.assert_allclose(advantages[:, -1][~whole.absorbing[:, -1]], GAMMA - 1.0)


# mushroom-rl's form


def test_the_dataset_is_lane_after_lane(fragments):
    rollouts = fragments[2]
    dataset = rollouts.dataset()
    columns = [np.array(column) for column in zip(*dataset, strict=True)]
    names = ("observations", "actions", "rewards", "next_observations", "absorbing", "last")
    for name, column in zip(names, columns, strict=True):
        array = getattr(rollouts, name)
        np.testing.assert_array_equal(column, array.reshape(-1, *array.shape[2:]))
    assert {type(sample[i]) for sample in dataset for i in (4, 5)} == {bool}
    assert {type(sample[2]) for sample in dataset} == {float}


def test_joined_blocks_count_their_lanes_on():
    one, two = counted(2, 4, {(0, 3): True, (1, 1): False}), counted(3, 4, {(2, 1): True, (0, 0): False})
    joined = Rollouts.join([one, two])
    assert [(row["time"], row["lane"]) for row in joined.episodes] == [(0, 2), (1, 1), (1, 4), (3, 0)]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(joined, name), np.concatenate([getattr(one, name), getattr(two, name)]))


def test_an_episode_can_be_taken_out_of_a_block():
    rollouts = counted(3, 6, {(0, 1): True, (1, 3): True, (2, 5): False})
    episode = rollouts.episode(rollouts.episodes[1])
    assert episode.n_steps == 4
    np.testing.assert_array_equal(episode.rewards, [[10.0, 11.0, 12.0, 13.0]])
    np.testing.assert_array_equal(episode.last, [[False, False, False, True]])
    assert [(row["time"], row["lane"]) for row in episode.episodes] == [(3, 0)]
    assert rollouts.episodes["lane"].tolist() == [0, 1, 2]


# Whole episodes out of fragments


def test_fragments_become_whole_episodes(fragments, whole):
    assembler = EpisodeAssembler(6)
    episodes = [episode for rollouts in fragments for episode in assembler.add(rollouts)]
    rows = np.concatenate([rollouts.episodes for rollouts in fragments])
    assert [len(episode) for episode in episodes] == rows["length"].tolist()
    for episode, row in zip(episodes, rows, strict=True):
        assert compute_J(episode) == pytest.approx([row["episode_return"]], rel=1e-12)
        assert compute_episodes_length(episode) == [row["length"]]
        assert episode[-1][4] == row["fell"]
        for sample, following in zip(episode[:-1], episode[1:], strict=True):
            np.testing.assert_array_equal(sample[3], following[0])


def test_an_episode_across_3_fragments_by_hand():
    assembler = EpisodeAssembler(2)
    assert assembler.add(counted(2, 2, {})) == []
    (early,) = assembler.add(counted(2, 2, {(1, 0): True}, first=2))
    assert [sample[2] for sample in early] == [10.0, 11.0, 12.0]
    late, next_one = assembler.add(counted(2, 2, {(0, 0): False, (1, 1): True}, first=4))
    assert [sample[2] for sample in late] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [sample[5] for sample in late] == [False] * 4 + [True]
    assert [sample[4] for sample in late] == [False] * 5
    assert [sample[2] for sample in next_one] == [13.0, 14.0, 15.0]


def test_two_episodes_may_end_in_one_lane_of_one_fragment():
    episodes = EpisodeAssembler(1).add(counted(1, 5, {(0, 1): True, (0, 3): True}))
    assert [[sample[2] for sample in episode] for episode in episodes] == [[0.0, 1.0], [2.0, 3.0]]
