"""The stock ways to gather experience with the stock A1: mushroom-rl's Core, and Gymnasium's AsyncVectorEnv."""

import itertools
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv
from loco_mujoco.environments import UnitreeA1
from loco_mujoco.environments.gymnasium import GymnasiumWrapper
from mushroom_rl.core import Agent, Core
from mushroom_rl.policy import GaussianTorchPolicy
from stock_learner import Network

from qi_ext.demonstrations import loco_mujoco_formats


@dataclass
class Walk:
    """Steps done in some seconds, falls among them, and the sum of their rewards."""

    steps: int
    seconds: float
    falls: int
    reward: float

    @property
    def rate(self):
        return self.steps / self.seconds


def write_walks(path, demonstrations):
    """Write the first nominal segment of each direction to a file from which `stock_a1` takes its start states.

    In the real format: of a perfect set, loco-mujoco 0.4.1 shows the goal turned by 90 degrees, and its mean speed as the goal.
    """
    nominal = [i for i, kind in enumerate(demonstrations.kind) if kind == "nominal"]
    firsts = {demonstrations.commands[i]: i for i in reversed(nominal)}
    loco_mujoco_formats.write_real(path, demonstrations.select(firsts.values()))


def stock_a1(path, **kwargs):
    """loco-mujoco's `UnitreeA1` as its `generate` builds it, its episodes starting in the states of the file at `path`."""
    environment = UnitreeA1(reward_type="velocity_vector", reward_params={}, **kwargs)
    environment.load_trajectory({"traj_path": path, "traj_dt": 1 / 500, "control_dt": 1 / 100})
    return environment


class WalkingA1(UnitreeA1):
    """A name for `LocoEnv.make`: loco-mujoco's own names read files from inside its package only."""

    generate = staticmethod(stock_a1)


class StockCore:
    """One stock environment, stock `GaussianTorchPolicy` and stock `Core`, in this process."""

    def __init__(self, path, policy, std, seed):
        self._environment = stock_a1(path)
        self._environment.seed(seed)
        torch.manual_seed(seed)
        info = self._environment.info
        sizes = info.observation_space.shape, info.action_space.shape
        self.policy = GaussianTorchPolicy(Network, *sizes, std_0=std, normalizer=policy.normalizer, layers=policy.network)
        self._agent = Agent(info, self.policy)

    def walk(self, n_steps, warm_up):
        """`n_steps` steps of `Core.evaluate`, which begins with a reset, after `warm_up` steps that do not count."""
        begin = 0.0
        countdown = itertools.count(-warm_up + 1)

        def watch(sample):
            nonlocal begin
            if next(countdown) == 0:
                begin = time.perf_counter()

        dataset = Core(self._agent, self._environment, callback_step=watch).evaluate(n_steps=warm_up + n_steps, quiet=True)
        seconds = time.perf_counter() - begin
        rewards, absorbing = zip(*((sample[2], sample[4]) for sample in dataset[warm_up:]), strict=True)
        return Walk(n_steps, seconds, int(np.sum(absorbing)), float(np.sum(rewards)))


class VectorEnv:
    """`AsyncVectorEnv` on `n` of loco-mujoco's own Gymnasium environments; episodes go on until they fall."""

    def __init__(self, path, actor, n, seed):
        self._actor = actor
        self._generator = np.random.default_rng(seed)
        self._environments = AsyncVectorEnv([partial(_gymnasium_a1, path, seed + i) for i in range(n)], context="spawn")
        self._observations, _ = self._environments.reset()

    def walk(self, n_steps):
        """`n_steps` steps of all environments together, rounded down to steps of each."""
        falls, reward, n = 0, 0.0, self._environments.num_envs
        begin = time.perf_counter()
        for _ in range(n_steps // n):
            actions = self._actor.act(self._observations, deterministic=False, generator=self._generator)
            self._observations, rewards, fallen, _, _ = self._environments.step(actions)
            falls += int(fallen.sum())
            reward += float(rewards.sum())
        return Walk(n_steps // n * n, time.perf_counter() - begin, falls, reward)

    def close(self):
        self._environments.close()


def _gymnasium_a1(path, seed):
    WalkingA1.register()
    environment = GymnasiumWrapper(WalkingA1.__name__, path=path)
    environment.unwrapped.seed(seed)
    return environment
