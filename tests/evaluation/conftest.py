"""What the tests of measures share: episodes made up of arrays."""

import numpy as np
import pytest

from qi_ext.robot import a1
from qi_ext.sampling.rollouts import Rollouts


@pytest.fixture(scope="session")
def make_episode():
    """make_episode(states, actions=0): `Rollouts` of one episode of T steps; states: (T + 1, 37). actions: broadcast."""

    def make(states, actions=0.0):
        n = len(states) - 1
        arrays = (states[:-1], np.broadcast_to(actions, (n, a1.N_ACTIONS)), np.zeros(n), states[1:], *np.zeros((3, n), bool))
        return Rollouts(*(array[None] for array in arrays), episodes=np.empty(0))

    return make
