"""A source without a simulator: each env is a trunk that glides where its first two actions push it."""

import numpy as np

from qi_ext.robot import a1
from qi_ext.sampling import Rollouts, RolloutSource
from qi_ext.sampling.rollouts import EPISODE
from qi_ext.utils.generators import pack_generator, unpack_generator

HORIZON = 50  # steps


class GlidingSource(RolloutSource):
    """N gliding trunks in one array, told the task's first command; every episode ends by its time limit."""

    place = "one array"

    def __init__(self, environment, n_envs, seed, **settings):
        self.n_envs = n_envs
        self._goal = environment.commands[0].features
        self._generator = np.random.default_rng(seed)
        self._velocity, self._step, self._return = np.zeros((n_envs, 2)), np.zeros(n_envs, dtype=int), np.zeros(n_envs)

    def start(self, agent, n_steps=None, n_episodes=None, step=0):
        self._actor, self._n_steps = agent.policy.actor, -(-n_steps // self.n_envs)

    def collect(self):
        columns, episodes = [], []
        for time in range(self._n_steps):
            observation = self._observe()
            action = self._actor.act(observation, deterministic=False, generator=self._generator)
            self._velocity = 0.9 * self._velocity + 0.1 * action[:, :2]
            reward, next_observation = a1.environment_reward(observation), self._observe()
            self._step, self._return = self._step + 1, self._return + reward
            ended = self._step == HORIZON
            episodes += [(time, env, self._return[env], HORIZON, False, False) for env in np.flatnonzero(ended)]
            columns.append((observation, action, reward, next_observation, np.zeros_like(ended), ended))
            self._velocity[ended], self._step[ended], self._return[ended] = 0.0, 0, 0.0
        *arrays, truncated = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
        last = truncated.copy()
        last[:, -1] = True
        return Rollouts(*arrays, truncated, last, np.array(episodes, dtype=EPISODE))

    def evaluate(self, agent, numbers, initial_states=None, step=0, deterministic=None):
        raise NotImplementedError("agents are evaluated in the pool")

    def state(self):
        generator = pack_generator(self._generator)
        return {"velocity": self._velocity, "step": self._step, "episode_return": self._return, "generator": generator}

    def load_state(self, state):
        self._velocity, self._step, self._return = (state[name] for name in ("velocity", "step", "episode_return"))
        self._generator = unpack_generator(state["generator"])

    def _observe(self):
        observations = np.zeros((self.n_envs, a1.N_OBSERVATIONS))
        observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1], observations[:, a1.GOAL] = self._velocity, self._goal
        return observations
