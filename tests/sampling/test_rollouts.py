"""Rollouts: boundaries, episodes that ended, and mushroom-rl's form of both."""

import numpy as np
import pytest

from qi_ext.robot import a1
from qi_ext.sampling.rollouts import ARRAYS, EPISODE, EpisodeAssembler, Rollouts, WholeEpisodes

LENGTHS = (5, 3, 20, 1, 2)  # of fragments
N_ENVS = 6


@pytest.fixture(scope="module")
def fragments(simulator, controller):
    """Successive `Rollouts` of 6 envs, of 5, 3, 20, 1 and 2 steps."""
    envs, parts = simulator.envs(N_ENVS), []
    for n_steps in LENGTHS:
        envs, rollouts = simulator.step(envs, controller, n_steps)
        parts.append(rollouts)
    return parts


@pytest.fixture(scope="module")
def whole(simulator, controller):
    """The same steps as one fragment."""
    return simulator.step(simulator.envs(N_ENVS), controller, sum(LENGTHS))[1]


def counted(n_envs, n_steps, ends, first=0):
    """`Rollouts` of numbers that count: observation = time since `first`, reward = 10 env + time.

    ends: {(env, time): fell}; rows of `episodes` hold nothing but when and where.
    """
    time = np.tile(np.arange(first, first + n_steps), (n_envs, 1))
    rewards = 10.0 * np.arange(n_envs)[:, None] + time
    absorbing, truncated = np.zeros((2, n_envs, n_steps), dtype=bool)
    for (env, t), fell in ends.items():
        (absorbing if fell else truncated)[env, t] = True
    last = absorbing | truncated
    last[:, -1] = True
    rows = sorted((t, env, 0.0, 0, fell, False) for (env, t), fell in ends.items())
    arrays = (time[..., None] + 0.0, time[..., None] + 0.5, rewards, time[..., None] + 1.0, absorbing, truncated, last)
    return Rollouts(*arrays, np.array(rows, dtype=EPISODE))


# Boundaries


def test_every_fragment_ends_with_last_and_knows_its_steps(fragments):
    for rollouts, length in zip(fragments, LENGTHS, strict=True):
        assert rollouts.n_steps == N_ENVS * length
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


def test_the_next_observation_at_an_episodes_end_is_where_it_ended(whole):
    ended = (whole.absorbing | whole.truncated)[:, :-1]
    same = (whole.next_observations[:, :-1] == whole.observations[:, 1:]).all(axis=2)
    np.testing.assert_array_equal(same, ~ended)
    # Where a time limit ends an episode, the robot is where one step leads; a new start is elsewhere.
    moved = np.abs(whole.next_observations - whole.observations)[whole.truncated][:, a1.POSITION]
    assert moved.max() < 0.5


# Episodes that ended


def test_an_episode_counts_once_with_all_its_steps_whatever_fragments_it_spans(fragments, whole):
    expected = []
    for env in range(N_ENVS):
        begin = 0
        for t in np.flatnonzero((whole.absorbing | whole.truncated)[env]):
            expected.append((t, env, whole.rewards[env, begin : t + 1].sum(), t + 1 - begin, whole.absorbing[env, t], False))
            begin = t + 1
    expected = np.array(sorted(expected), dtype=EPISODE)
    np.testing.assert_allclose(whole.episodes["episode_return"], expected["episode_return"], rtol=1e-12)
    for name in ("time", "env", "length", "fell", "blew_up"):
        np.testing.assert_array_equal(whole.episodes[name], expected[name])
    begins = np.cumsum([0, *LENGTHS[:-1]])
    rows = np.concatenate([rollouts.episodes for rollouts in fragments])
    rows["time"] += np.repeat(begins, [len(rollouts.episodes) for rollouts in fragments])
    np.testing.assert_array_equal(rows, whole.episodes)


def test_joined_blocks_count_their_envs_on():
    one, two = counted(2, 4, {(0, 3): True, (1, 1): False}), counted(3, 4, {(2, 1): True, (0, 0): False})
    joined = Rollouts.join([one, two])
    assert [(row["time"], row["env"]) for row in joined.episodes] == [(0, 2), (1, 1), (1, 4), (3, 0)]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(joined, name), np.concatenate([getattr(one, name), getattr(two, name)]))


def test_an_episode_can_be_taken_out_of_a_block():
    rollouts = counted(3, 6, {(0, 1): True, (1, 3): True, (2, 5): False})
    episode = rollouts.episode(rollouts.episodes[1])
    assert episode.n_steps == 4
    np.testing.assert_array_equal(episode.rewards, [[10.0, 11.0, 12.0, 13.0]])
    np.testing.assert_array_equal(episode.last, [[False, False, False, True]])
    assert [(row["time"], row["env"]) for row in episode.episodes] == [(3, 0)]
    assert rollouts.episodes["env"].tolist() == [0, 1, 2]


def test_speed_is_along_the_command():
    rollouts = counted(1, 2, {})
    rollouts.observations = np.zeros((1, 2, a1.N_OBSERVATIONS))
    rollouts.observations[0, :, a1.TRUNK_VX : a1.TRUNK_VY + 1] = (3.0, 4.0), (1.0, 0.0)
    rollouts.observations[0, :, a1.GOAL] = 0.6, 0.8, 0.5
    assert rollouts.speed_along() == pytest.approx((5.0 + 0.6) / 2)


# mushroom-rl's form


def test_the_dataset_is_env_after_env(fragments):
    rollouts = fragments[2]
    columns = [np.array(column) for column in zip(*rollouts.dataset(), strict=True)]
    names = ("observations", "actions", "rewards", "next_observations", "absorbing", "last")
    for name, column in zip(names, columns, strict=True):
        array = getattr(rollouts, name)
        np.testing.assert_array_equal(column, array.reshape(-1, *array.shape[2:]))
    assert [type(value) for value in rollouts.dataset()[0][4:]] == [bool, bool]
    assert type(rollouts.dataset()[0][2]) is float


def test_information_of_whole_episodes_is_that_of_their_steps_in_order():
    episodes = WholeEpisodes([[0, 1], [2]], [[{"distance": 1.0}, {"distance": 2.0, "resets": 1}], [{"distance": 3.0}]], None)
    assert (episodes.n_steps, episodes.dataset()) == (3, [0, 1, 2])
    assert episodes.step_infos() == {"distance": [1.0, 2.0, 3.0], "resets": [1]}
    assert episodes.step_infos(1) == {"distance": [1.0]}


# Whole episodes out of fragments


def test_an_episode_across_3_fragments_and_two_in_one():
    assembler = EpisodeAssembler(2)
    assert assembler.add(counted(2, 2, {})) == []
    (early,) = assembler.add(counted(2, 2, {(1, 0): True}, first=2))
    late, *others = assembler.add(counted(2, 3, {(0, 0): False, (1, 1): True, (1, 2): True}, first=4))
    assert [sample[2] for sample in early] == [10.0, 11.0, 12.0]
    assert [sample[2] for sample in late] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [sample[5] for sample in late] == [False] * 4 + [True]
    assert [sample[4] for sample in late] == [False] * 5
    assert [[sample[2] for sample in episode] for episode in others] == [[13.0, 14.0, 15.0], [16.0]]
