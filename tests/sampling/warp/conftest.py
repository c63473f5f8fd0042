"""Fixtures of the tests of MuJoCo Warp on its CPU device, whose kernels take a minute or two to compile."""

import numpy as np
import pytest
import torch

from qi_ext.learning import GaussianPolicy


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def environments():
    """{task: `QuadrupedDirection` of it, with episodes of at most 12 steps}."""
    from qi_ext.tasks import QuadrupedDirection

    return {task: QuadrupedDirection(task, horizon=12, seed=0) for task in ("hard", "follow")}


@pytest.fixture
def make_source(environments):
    """make_source(task="hard", **settings): a `WarpSource` of 8 envs, on the CPU."""
    from qi_ext.sampling.warp.source import WarpSource

    def make(task="hard", **settings):
        settings = {"n_envs": 8, "lanes_per_block": 8, "seed": 3, "device": "cpu"} | settings
        return WarpSource(environments[task], **settings)

    return make


class Agent:
    """What a source asks of an agent."""

    def __init__(self):
        self.policy = self.policy_on("cpu")

    def policy_on(self, device):
        return GaussianPolicy(37, 12, [16], 0.5, np.random.SeedSequence(0), device)


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def gather():
    """gather(source, agent, n_steps): the `Rollouts` of so many steps of each env."""

    def of(source, agent, n_steps, step=0):
        source.start(agent, n_steps * source.n_envs, step=step)
        return source.collect()

    return of
