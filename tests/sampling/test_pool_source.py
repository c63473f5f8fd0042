"""Blocks make the numbers, not workers: bit-identity for any pool."""

import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.sampling.rollouts import ARRAYS

N_LANES = 10  # the last of three blocks holds 2
POOLS = {"loky, 1 worker": ("loky", 1), "loky, 2 workers": ("loky", 2), "loky, 3 workers": ("loky", 3)}


def gather(sampler, actor, seeds):
    """Two successive fragments and a whole episode a lane: the lanes, the fragments, the episodes by lane."""
    lanes, first = sampler.fragment(sampler.lanes(seeds(N_LANES)), actor, 15)
    lanes, second = sampler.fragment(lanes, actor, 10)
    episodes = dict(sampler.episodes(sampler.lanes(seeds(N_LANES, run=1)), PolicyController(actor)))
    return lanes, (first, second, *(episodes[lane] for lane in range(N_LANES)))


@pytest.fixture(scope="module")
def serial(sampler, make_actor, seeds):
    return gather(sampler, make_actor(), seeds)


@pytest.mark.parametrize("pool", POOLS)
def test_rollouts_do_not_depend_on_the_pool(short, make_actor, seeds, bits, serial, pool):
    kind, n_workers = POOLS[pool]
    sampler = BatchedSampler(short, lanes_per_block=4, pool=kind, n_workers=n_workers)
    lanes, gathered = gather(sampler, make_actor(), seeds)
    sampler.close()
    assert lanes.equals(serial[0])
    assert [bits(rollouts) for rollouts in gathered] == [bits(rollouts) for rollouts in serial[1]]


@pytest.mark.parametrize("n_lanes", [1, 3, 9, 10])
def test_a_lane_of_a_padded_block_does_what_it_does_in_a_full_one(sampler, make_actor, seeds, n_lanes):
    full_lanes, full = sampler.fragment(sampler.lanes(seeds(12)), make_actor(), 20)
    lanes, rollouts = sampler.fragment(sampler.lanes(seeds(n_lanes)), make_actor(), 20)
    assert lanes.equals(full_lanes[:n_lanes])
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(rollouts, name), getattr(full, name)[:n_lanes])
    np.testing.assert_array_equal(rollouts.episodes, full.episodes[full.episodes["lane"] < n_lanes])


def test_the_policy_sees_whole_blocks(sampler, make_actor, seeds, monkeypatch):
    """What a matrix product gives depends on its number of rows; so that is a setting, never the lanes that are left."""
    shapes, mean = set(), Actor.mean

    def noted(actor, observations):
        shapes.add(observations.shape)
        return mean(actor, observations)

    monkeypatch.setattr(Actor, "mean", noted)
    list(sampler.episodes(sampler.lanes(seeds(6)), PolicyController(make_actor())))
    sampler.fragment(sampler.lanes(seeds(1)), make_actor(), 3)
    assert shapes == {(4, 37)}


def test_two_environments_share_a_pool(short, simple, make_actor, seeds, bits):
    """Each with its own horizon and commands, in turns."""
    samplers = [BatchedSampler(environment, 4, "serial") for environment in (short, simple)]
    expected = [bits(sampler.fragment(sampler.lanes(seeds(5)), make_actor(), 12)[1]) for sampler in samplers]
    assert expected[0] != expected[1]
    pooled = [BatchedSampler(environment, 4, "loky", 2) for environment in (short, simple)]
    for _ in range(2):
        for sampler, bytes_expected in zip(pooled, expected, strict=True):
            assert bits(sampler.fragment(sampler.lanes(seeds(5)), make_actor(), 12)[1]) == bytes_expected


def test_closing_a_sampler_leaves_another_of_the_same_environment_alone(short, sampler, make_actor, seeds):
    BatchedSampler(short, 4, "serial").close()
    assert sampler.fragment(sampler.lanes(seeds(1)), make_actor(), 3)[1].n_steps == 3
