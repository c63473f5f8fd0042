"""The two ways of gathering a batch: fragments of lanes that go on, or whole episodes from reset."""

import mujoco
import numpy as np

from qi_ext.robot import a1
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.envs import EPISODES, LANES, Lanes, episode_seed, named, seed_of
from qi_ext.sampling.episode_source import GeneralSampler, collected
from qi_ext.sampling.rollouts import EPISODE, EpisodeAssembler, Rollouts
from qi_ext.sampling.specification import STATE


class BatchedPath:
    """Lanes of the loco-mujoco A1, as values."""

    def __init__(self, mdp, n_envs, lanes_per_block, seed, disturbances, pool, n_workers, scheduler):
        from qi_ext.sampling.pool_source import BatchedSampler  # imports loco_mujoco

        self._disturbances = disturbances
        self.sampler = BatchedSampler(mdp, lanes_per_block, pool, n_workers, scheduler)
        self._seed = seed
        self._lane_seeds = [seed_of(seed, LANES, lane) for lane in range(n_envs)]
        self.lanes = self.sampler.lanes(self._lane_seeds)
        self.ended = np.empty(0, dtype=EPISODE)
        self.rollouts = None  # the last ones
        self._batch = None
        self._under_way = None
        self._n_whole = 0
        self._assembler = EpisodeAssembler(n_envs)

    def restore(self, arrays):
        """Put lanes, {name: array}, in the place of these. Raises ValueError where they are of another kind."""
        for name, array in self.lanes.arrays().items():
            found = arrays.get(name)
            if found is None or found.shape != array.shape or found.dtype != array.dtype:
                raise ValueError(f"lanes: {name} must be {array.dtype} of shape {array.shape}")
        self.lanes = Lanes(**arrays)

    def start(self, agent, n_steps, done):
        """Send the next batch to the workers, to be had from `gather`. done: steps of training before it."""
        self._under_way = self.sampler.start(
            self.lanes,
            agent.policy.actor,
            -(-n_steps // len(self.lanes)),
            _namer("lane", self._lane_seeds),
            getattr(agent.policy, "deterministic", False),
            self._disturbances.at(done),
        )

    def gather(self, agent, n_steps, n_episodes, done):
        """Wait for at least n_steps, or n_episodes, of experience, to be given to `take`; until then no lane has moved.

        done: steps of training before it.
        """
        if n_episodes is not None:
            return None, self._whole_episodes(agent, n_episodes, done)
        if self._under_way is None:
            self.start(agent, n_steps, done)
        return self._under_way.wait()

    def take(self, gathered):
        """Make it the last batch; returns the number of its steps, and the episodes that ended in it, as samples."""
        self._under_way = None
        lanes, batch = gathered
        if lanes is None:
            self._n_whole += len(batch)
            self.ended = np.concatenate([rollouts.episodes for rollouts in batch])
            whole = [rollouts.dataset() for rollouts in batch]
            self._batch = [sample for episode in whole for sample in episode]
            return len(self._batch), whole
        self.lanes, self.rollouts, self._batch, self.ended = lanes, batch, batch, batch.episodes
        return batch.n_steps, self._assembler.add(batch)

    def drop(self):
        """Give up the batch that is under way, if there is one."""
        if self._under_way is not None:
            self._under_way.close()
            self._under_way = None

    def fit(self, agent, start_next=None):
        """Fit the agent to the last batch; start_next(): called once the policy is ready to act, of agents that say when."""
        batch, self._batch = self._batch, None
        if not isinstance(batch, Rollouts):
            agent.fit(batch)
        elif not hasattr(agent, "fit_rollouts"):
            agent.fit(batch.dataset())
        elif start_next is not None and getattr(agent, "acts_before_all_is_fitted", False):
            agent.fit_rollouts(batch, start_next)
        else:
            agent.fit_rollouts(batch)

    def evaluate(self, agent, episodes, initial_states, step, deterministic):
        """Whole episodes with the given numbers; a list of (samples, information dicts)."""
        if self._under_way is not None:
            self._under_way.wait()  # because a pool whose worker dies stops all that it runs
        environment = self.sampler.environment
        commands = getattr(environment, "commands", [None])
        chosen = [commands[number % len(commands)] for number in episodes]
        seeds = [
            episode_seed(self._seed, step, command, number // len(commands))
            for number, command in zip(episodes, chosen, strict=True)
        ]
        lanes = self.sampler.lanes(seeds)
        if initial_states is not None:
            for lane, number in enumerate(episodes):
                self._put(lanes, lane, initial_states[number])
        elif commands != [None]:
            self.sampler.command(lanes, chosen)
        if deterministic is None:
            deterministic = agent.policy.deterministic
        controller = PolicyController(agent.policy.actor, deterministic)
        results = dict(self.sampler.episodes(lanes, controller, _namer("episode", seeds, episodes.start)))
        return [(results[lane].dataset(), []) for lane in range(len(lanes))]

    def close(self):
        self.sampler.close()

    def _whole_episodes(self, agent, n_episodes, done):
        numbers = range(self._n_whole, self._n_whole + n_episodes)
        seeds = [seed_of(self._seed, EPISODES, number) for number in numbers]
        controller = self._disturbances.at(done).around(PolicyController(agent.policy.actor))
        results = dict(self.sampler.episodes(self.sampler.lanes(seeds), controller, _namer("episode", seeds, numbers.start)))
        return [results[lane] for lane in range(n_episodes)]

    def _put(self, lanes, lane, observation):
        """Put a lane where the environment's own reset to `observation` puts it."""
        specification, environment = self.sampler.specification, self.sampler.environment
        lanes.goal[lane] = environment.reset(np.asarray(observation))[a1.GOAL]
        mujoco.mj_getState(specification.model, environment._data, lanes.state[lane], STATE)
        lanes.running[lane] = True


class GeneralPath:
    """Whole episodes of any environment, each from its own seed."""

    def __init__(self, mdp, make_environment, n_envs, seed, pool, n_workers, scheduler):
        self.sampler = GeneralSampler(make_environment, n_envs, pool, n_workers, scheduler)
        self._seed = seed
        self.ended = np.empty(0, dtype=EPISODE)
        self._batch = []
        self._n_whole = 0
        horizon = mdp.info.horizon
        self._mean_length = float(horizon) if np.isfinite(horizon) else 1000.0

    def gather(self, agent, n_steps, n_episodes, done):
        """Gather whole episodes, at least n_steps or n_episodes; to be given to `take`."""
        self._batch = []
        gathered = 0
        while n_episodes is not None and not self._batch or n_steps is not None and gathered < n_steps:
            # As many as are likely to be enough, so that little more is gathered than was asked for.
            count = n_episodes or max(1, round((n_steps - gathered) / self._mean_length))
            numbers = range(self._n_whole, self._n_whole + count)
            seeds = [seed_of(self._seed, EPISODES, number) for number in numbers]
            new = self.sampler.episodes(agent, seeds, first=numbers.start)
            self._n_whole += count
            self._batch += new
            gathered = sum(len(episode.samples) for episode in self._batch)
            self._mean_length = gathered / len(self._batch)
        rows, time = [], 0
        for episode in self._batch:
            length = len(episode.samples)
            time += length
            rows.append((time - 1, 0, episode.episode_return, length, episode.samples[-1][4], False))
        self.ended = np.array(rows, dtype=EPISODE)
        return gathered, [episode.samples for episode in self._batch]

    def take(self, gathered):
        """The number of its steps, and the episodes as samples."""
        return gathered

    def drop(self):
        """Nothing is ever under way."""

    def fit(self, agent, start_next=None):
        """Fit the agent to the last batch, after its preprocessors have seen what was acted on, in order."""
        for episode in self._batch:
            for observation in episode.observations:
                for preprocessor in agent.preprocessors:
                    observation = preprocessor(observation)
        samples = [sample for episode in self._batch for sample in episode.samples]
        infos = [info for episode in self._batch for info in episode.infos]
        self._batch = []
        agent.fit(samples, **collected(infos))

    def evaluate(self, agent, episodes, initial_states, step, deterministic):
        """Whole episodes with the given numbers; a list of (samples, information dicts)."""
        seeds = [episode_seed(self._seed, step, None, number) for number in episodes]
        if initial_states is not None:
            initial_states = [initial_states[number] for number in episodes]
        done = self.sampler.episodes(agent, seeds, initial_states, deterministic, episodes.start)
        return [(episode.samples, episode.infos) for episode in done]

    def close(self):
        self.sampler.close()


def _namer(what, seeds, first=0):
    return lambda index: named(f"{what} {first + index}", seeds[index])
