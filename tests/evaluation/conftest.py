"""Fixtures of the tests of evaluation: a source of short episodes, an actor that lets go, episodes made of arrays."""

from contextlib import closing

import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.robot import a1
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.sampling.rollouts import Rollouts
from qi_ext.tasks import QuadrupedDirection


@pytest.fixture(scope="session")
def source():
    """A `PoolSource` of the hard task in 0 and 180 degrees, its episodes at most 60 steps long."""
    environment = QuadrupedDirection("hard", n_directions=2, horizon=60)
    with closing(PoolSource(environment, pool="serial")) as source:
        yield source


@pytest.fixture(scope="session")
def limp():
    """An actor whose mean torques are 0, its standard deviation 0.37."""
    zeros = np.zeros(37, dtype=np.float32)
    return Actor([(np.zeros((12, 37), dtype=np.float32), np.zeros(12, dtype=np.float32))], zeros, zeros, zeros[:12] - 1.0)


@pytest.fixture(scope="session")
def make_episode():
    """make_episode(states, actions=0): `Rollouts` of one episode of T steps; states: (T + 1, 37). actions: broadcast."""

    def make(states, actions=0.0):
        n = len(states) - 1
        arrays = (states[:-1], np.broadcast_to(actions, (n, a1.N_ACTIONS)), np.zeros(n), states[1:], *np.zeros((3, n), bool))
        return Rollouts(*(array[None] for array in arrays), episodes=np.empty(0))

    return make
