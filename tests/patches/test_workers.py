"""Patches hold in the pool's workers as they hold here: what is applied or reverted here is there, with the next episodes."""

import ast
import os
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from mushroom_rl.core import Agent
from mushroom_rl.environments import LQR

import patches
from qi_ext.sampling import ParallelCore

pytestmark = pytest.mark.extensive

# Workers cannot import a test; what stands here goes to them as what stands in a user's script does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SOLVER, BOUNDARIES = "mushroom_rl/cg-aliasing", "mushroom_rl/gae-boundaries"


class Telling(LQR):
    """An environment whose steps tell which patches hold in its process, and held when it was built."""

    def __init__(self):
        super().__init__(A=np.eye(2), B=np.eye(2), Q=np.eye(2), R=np.eye(2), random_init=True, horizon=2)
        self.built_under = _held()

    def step(self, action):
        from mushroom_rl.utils import value_functions

        state, reward, absorbing, _ = super().step(action)
        leak = _leak(value_functions.compute_gae)
        return state, reward, absorbing, {"process": os.getpid(), "held": _held(), "built": self.built_under, "leak": leak}


def _held():
    return sys.modules["patches"].applied() if "patches" in sys.modules else ()


def _leak(compute_gae):
    """Share of another rollout behind it in the advantage of one step: 1 without gae-boundaries, 0 with it."""
    states, reached, rewards = np.array([[0.0], [10.0]]), np.array([[1.0], [11.0]]), np.array([0.0, 1.0])
    none = np.zeros(2)
    advantages = compute_gae(lambda x: np.zeros((len(x), 1)), states, reached, rewards, none, none, 1.0, 1.0)[1]
    return float(advantages[0, 0])


class Steady:
    """A policy that does nothing."""

    def draw_action(self, state):
        return np.zeros(2)

    def reset(self):
        pass


class Listener(Agent):
    """An agent that learns only what the environments tell."""

    def __init__(self, mdp_info):
        super().__init__(mdp_info, Steady())
        self.told = {}

    def fit(self, dataset, **info):
        self.told = info


@pytest.fixture
def told():
    """told(): {name: set of the values that the steps of four episodes told}, from workers that stay the same."""
    patches.revert()
    environment = Telling()
    core = ParallelCore(Listener(environment.info), environment, make_environment=Telling, n_envs=4, pool="loky", n_workers=2)

    def gather():
        core.learn(n_episodes=4, n_episodes_per_fit=4, quiet=True)
        result = {name: set(values) for name, values in core.agent.told.items()}
        assert os.getpid() not in result.pop("process")
        return result

    yield gather
    core.close()
    patches.revert()


def test_what_is_applied_and_reverted_here_is_in_workers_that_go_on(told):
    """An environment that was built under some patches is not used under others."""
    assert told() == {"held": {()}, "built": {()}, "leak": {1.0}}
    patches.apply(only=[BOUNDARIES])
    assert told() == {"held": {(BOUNDARIES,)}, "built": {(BOUNDARIES,)}, "leak": {0.0}}
    patches.apply(only=[SOLVER])
    both = (SOLVER, BOUNDARIES)
    assert told() == {"held": {both}, "built": {both}, "leak": {0.0}}
    patches.revert()
    assert told() == {"held": {()}, "built": {()}, "leak": {1.0}}
    patches.apply("mushroom_rl")
    assert len(patches.applied()) > 2
    assert told()["held"] == {patches.applied()}


_NEVER_IMPORTED = """
import sys
import numpy as np
from mushroom_rl.core import Agent
from mushroom_rl.environments import LQR
from qi_ext.sampling import ParallelCore

class Telling(LQR):
    def step(self, action):
        state, reward, absorbing, _ = super().step(action)
        return state, reward, absorbing, {"patched": [name for name in sys.modules if name.split(".")[0] == "patches"]}

class Steady:
    def draw_action(self, state):
        return np.zeros(1)

    def reset(self):
        pass

class Silent(Agent):
    def fit(self, dataset, **info):
        print(info["patched"])

def make():
    return Telling(np.eye(1), np.eye(1), np.eye(1), np.eye(1), horizon=2)

if __name__ == "__main__":
    core = ParallelCore(Silent(make().info, Steady()), make(), make_environment=make, n_envs=2, pool="loky", n_workers=2)
    core.learn(n_episodes=2, n_episodes_per_fit=2, quiet=True)
    core.close()
    print([name for name in sys.modules if name.split(".")[0] == "patches"])
"""


def test_workers_import_nothing_of_patches_where_nobody_did(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(_NEVER_IMPORTED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    in_workers, here = map(ast.literal_eval, done.stdout.splitlines()[-2:])
    assert (in_workers, here) == ([[]] * 4, [])
