"""Source of whole episodes of any agent, in any mushroom-rl environment, which is built inside the worker."""

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle
import numpy as np

from qi_ext.sampling.envs import EPISODES, episode_seed, named, seed_of
from qi_ext.sampling.episodes import Episode, applied_patches, run_episodes
from qi_ext.sampling.pool import Pool
from qi_ext.sampling.rollouts import EPISODE, WholeEpisodes
from qi_ext.sampling.source import RolloutSource

__all__ = ["EpisodeSource"]


class EpisodeSource(RolloutSource):
    """Whole episodes of any mushroom-rl environment, each a function of the agent and of its own seed."""

    def __init__(
        self,
        make_environment: Callable[[], Any],
        horizon: float,
        n_envs: int = 32,
        seed: int = 0,
        pool: str = "loky",
        n_workers: int | str = "auto",
        scheduler: str = "",
    ) -> None:
        """make_environment: called without arguments in each worker, once; what it returns is reset for each episode.

        horizon: of its episodes, steps, or infinite. n_envs: at most so many tasks share the episodes.
        pool, n_workers, scheduler: as `Pool` takes them. Raises UserError for a pool that cannot be had.
        """
        self._make_environment = cloudpickle.dumps(make_environment)
        self._pool = Pool(pool, n_workers, scheduler)
        self.n_envs, self.n_workers, self.place = n_envs, self._pool.n_workers, self._pool.place
        self._seed = seed
        self._n_episodes = 0
        self._mean_length = float(horizon) if np.isfinite(horizon) else 1000.0
        self._wanted: Any = None
        self._gathered: Any = None

    def start(self, agent: Any, n_steps: int | None = None, n_episodes: int | None = None, step: int = 0) -> None:
        self._wanted, self._gathered = (agent, _pickled(agent), n_steps, n_episodes), None

    def wait(self) -> None:
        if self._gathered is not None:
            return
        _, acting, n_steps, n_episodes = self._wanted
        episodes: list[Episode] = []
        mean_length, gathered = self._mean_length, 0
        while not episodes or n_steps is not None and gathered < n_steps:
            # As many as are likely to be enough, so that little more is gathered than was asked for.
            count = n_episodes or max(1, round((n_steps - gathered) / mean_length))
            first = self._n_episodes + len(episodes)
            seeds = [seed_of(self._seed, EPISODES, number) for number in range(first, first + count)]
            episodes += self._run(acting, seeds, first)
            gathered = sum(len(episode.samples) for episode in episodes)
            mean_length = gathered / len(episodes)
        self._gathered = episodes

    def collect(self) -> WholeEpisodes:
        """The episodes; the agent's preprocessors have then seen what was acted on, in order."""
        self.wait()
        episodes, agent = self._gathered, self._wanted[0]
        self.drop()
        self._n_episodes += len(episodes)
        self._mean_length = sum(len(episode.samples) for episode in episodes) / len(episodes)
        for episode in episodes:
            for observation in episode.observations:
                for preprocessor in agent.preprocessors:
                    observation = preprocessor(observation)
        return _whole(episodes)

    def drop(self) -> None:
        self._wanted = self._gathered = None

    def evaluate(
        self,
        agent: Any,
        numbers: range,
        initial_states: Sequence[np.ndarray] | None = None,
        step: int = 0,
        deterministic: bool | None = None,
    ) -> WholeEpisodes:
        seeds = [episode_seed(self._seed, step, None, number) for number in numbers]
        if initial_states is not None:
            initial_states = [initial_states[number] for number in numbers]
        return _whole(self._run(_pickled(agent, deterministic), seeds, numbers.start, initial_states))

    def state(self) -> dict[str, np.ndarray]:
        return {"n_episodes": np.array(self._n_episodes), "mean_length": np.array(self._mean_length)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        names = self.state().keys()
        if not isinstance(state, Mapping) or state.keys() != names:
            raise ValueError(f"episodes: the state must hold {', '.join(names)}, and nothing else")
        try:
            n_episodes, mean_length = int(state["n_episodes"]), float(state["mean_length"])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"episodes: the state must hold numbers: {error}") from None
        if n_episodes < 0 or not 1.0 <= mean_length < math.inf:
            raise ValueError(f"episodes: there cannot be {n_episodes} of {mean_length:g} steps")
        self._n_episodes, self._mean_length = n_episodes, mean_length

    def close(self) -> None:
        """End the workers, or part with a Dask cluster's."""
        self._pool.close()

    def _run(
        self, acting: bytes, seeds: list[np.random.SeedSequence], first: int, initial_states: list[np.ndarray] | None = None
    ) -> list[Episode]:
        """One `Episode` for each `numpy.random.SeedSequence` of seeds, in order.

        acting: of `_pickled`. first: the first one's number, for messages. initial_states: what to reset to, one each.
        Raises SamplingError where environment or agent raises.
        """
        groups = np.array_split(np.arange(len(seeds)), min(self.n_envs, len(seeds)))
        tasks = [
            (
                applied_patches(),
                self._make_environment,
                acting,
                [seeds[i] for i in group],
                None if initial_states is None else [initial_states[i] for i in group],
            )
            for group in groups
        ]

        def name(index: int, env: int | None) -> str:
            group = groups[index]
            if env is None and len(group) > 1:
                return f"episodes {first + group[0]} to {first + group[-1]}"
            i = group[env or 0]
            return named(f"episode {first + i}", seeds[i])

        results = dict(self._pool.run(run_episodes, tasks, name))
        return [episode for index in range(len(tasks)) for episode in results[index]]


def _whole(episodes: list[Episode]) -> WholeEpisodes:
    rows = np.array([episode.row for episode in episodes], dtype=EPISODE)
    return WholeEpisodes([episode.samples for episode in episodes], [episode.infos for episode in episodes], rows)


def acts_its_own_way(agent: Any) -> bool:
    """Return whether an agent acts otherwise than its policy does."""
    from mushroom_rl.core import Agent

    return any(getattr(type(agent), name) is not getattr(Agent, name) for name in ("draw_action", "episode_start"))


def _pickled(agent: Any, deterministic: bool | None = None) -> bytes:
    """Pickle the part of an agent that acts: policy, features and preprocessors; or all, where it has its own way of acting.

    deterministic: for policies that have that attribute, None as it is. Raises ValueError where the agent cannot be sent.
    """
    if acts_its_own_way(agent):
        acting = agent
    else:
        from mushroom_rl.core import Agent

        acting = Agent(agent.mdp_info, agent.policy, agent.phi)
        for preprocessor in agent.preprocessors:
            acting.add_preprocessor(preprocessor)
    try:
        if deterministic is None:
            return cloudpickle.dumps(acting)
        if not hasattr(agent.policy, "deterministic"):
            raise ValueError(f"deterministic: a {type(agent.policy).__name__} has no such mode; leave it None")
        before, agent.policy.deterministic = agent.policy.deterministic, deterministic
        try:
            return cloudpickle.dumps(acting)
        finally:
            agent.policy.deterministic = before
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(f"the agent cannot be sent to a worker: {error}") from error
