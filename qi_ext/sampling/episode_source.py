"""The general path: whole episodes of any mushroom-rl environment, which is built inside the worker, and of any agent."""

import contextlib
import importlib
import inspect
import pickle
import random
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass

import cloudpickle
import numpy as np
from threadpoolctl import ThreadpoolController

from qi_ext.sampling.envs import LaneError, named
from qi_ext.sampling.pool import Pool

_environments = {}


@dataclass
class Episode:
    """One whole episode.

    samples: mushroom-rl's list of (state, action, reward, next state, absorbing, last), states as preprocessed.
    infos: the step's information dicts. observations: as the environment gave them, where there are preprocessors.
    """

    samples: list
    infos: list
    observations: list

    @property
    def episode_return(self):
        return float(sum(sample[2] for sample in self.samples))


class GeneralSampler:
    """Gathers whole episodes, each a function of the agent and of its own seed."""

    def __init__(self, make_environment, n_envs, pool="loky", n_workers="auto", scheduler=""):
        """make_environment: called without arguments in each worker, once; what it returns is reset for each episode.

        n_envs: at most so many tasks share the episodes. pool, n_workers, scheduler: as `Pool` takes them.
        """
        self._make_environment = cloudpickle.dumps(make_environment)
        self._n_envs = n_envs
        self.pool = Pool(pool, n_workers, scheduler)

    def episodes(self, agent, seeds, initial_states=None, deterministic=None, first=0):
        """One `Episode` for each `numpy.random.SeedSequence` of seeds, in order; the agent is left as it is.

        initial_states: what to reset to, one each. deterministic: for policies that have that attribute, None as it is.
        first: the first one's number, for messages.
        Raises SamplingError where environment or agent raises, ValueError where the agent cannot be sent.
        """
        acting = _pickled(agent, deterministic)
        groups = np.array_split(np.arange(len(seeds)), min(self._n_envs, len(seeds)))
        tasks = [
            (
                _patches(),
                self._make_environment,
                acting,
                [seeds[i] for i in group],
                None if initial_states is None else [initial_states[i] for i in group],
            )
            for group in groups
        ]

        def name(index, lane):
            group = groups[index]
            if lane is None and len(group) > 1:
                return f"episodes {first + group[0]} to {first + group[-1]}"
            i = group[lane or 0]
            return named(f"episode {first + i}", seeds[i])

        results = dict(self.pool.run(run_episodes, tasks, name))
        return [episode for index in range(len(tasks)) for episode in results[index]]

    def close(self):
        """End the workers, or part with a Dask cluster's."""
        self.pool.close()


def run_episodes(patches, make_environment, acting, seeds, initial_states):
    """In a worker: a list of `Episode`, one a seed. make_environment, acting: pickled. Raises LaneError.

    patches: those of the package `patches` to hold here, by name.
    """
    if patches or _patches():
        importlib.import_module("patches").set_applied(patches)
    pickle.loads(acting)  # first, so that torch is there to be settled
    with _settled():
        built = (patches, make_environment)
        if built not in _environments:
            _environments[built] = pickle.loads(make_environment)()
        environment = _environments[built]
        episodes = []
        for i, seed in enumerate(seeds):
            # Anew, for what acting changes in an agent, such as a preprocessor's statistics, is this episode's only.
            agent = pickle.loads(acting)
            try:
                _seed(seed, environment, agent.policy)
                episodes.append(_run_episode(environment, agent, None if initial_states is None else initial_states[i]))
            except Exception as error:
                raise LaneError(f"{type(error).__name__}: {error}", i) from error
    return episodes


def _run_episode(environment, agent, initial_state):
    episode = Episode([], [], [])

    def seen(observation):
        observation = observation.copy()
        if agent.preprocessors:
            episode.observations.append(observation)
        for preprocessor in agent.preprocessors:
            observation = preprocessor(observation)
        return observation

    agent.episode_start()
    agent.next_action = None
    state = seen(environment.reset(initial_state))
    last = False
    while not last:
        action = agent.draw_action(state)
        observation, reward, absorbing, info = environment.step(action)
        next_state = seen(observation)
        last = bool(absorbing or len(episode.samples) + 1 >= environment.info.horizon)
        episode.samples.append((state, action, reward, next_state, absorbing, last))
        episode.infos.append(info)
        state = next_state
    return episode


def _patches():
    """The names of the patches that hold in this process; none where nobody has imported the package."""
    return getattr(sys.modules.get("patches"), "applied", tuple)()


def acts_its_own_way(agent):
    """Whether an agent acts otherwise than its policy does."""
    from mushroom_rl.core import Agent

    return any(getattr(type(agent), name) is not getattr(Agent, name) for name in ("draw_action", "episode_start"))


def _pickled(agent, deterministic):
    """The part of an agent that acts: policy, features and preprocessors; or all of it, where it has its own way of acting."""
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


def _seed(seed, environment, policy):
    """Seed all that an episode draws from: numpy's, Python's and torch's global generators, the environment's, the policy's."""
    for_numpy, for_python, for_torch, for_environment, for_policy = (int(word) for word in seed.generate_state(5))
    np.random.seed(for_numpy)  # noqa: NPY002 (it is the one that mushroom-rl's environments draw from)
    random.seed(for_python)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(for_torch)
    with warnings.catch_warnings():
        # mushroom-rl warns of environments that draw from numpy's global generator, which is seeded.
        warnings.filterwarnings("ignore", message="This environment has no custom seed")
        environment.seed(for_environment)
    inner = getattr(environment, "env", None)
    if inner is not None and "seed" in inspect.signature(inner.reset).parameters:
        inner.reset(seed=for_environment)
    if hasattr(policy, "seed"):
        policy.seed(for_policy)


@contextlib.contextmanager
def _settled():
    """One thread, because sums depend on their number; and the global generators as they were, where others use them."""
    torch = sys.modules.get("torch")
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    torch_state, threads = (torch.get_rng_state(), torch.get_num_threads()) if torch else (None, None)
    try:
        with ThreadpoolController().limit(limits=1):
            if torch:
                torch.set_num_threads(1)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        if torch:
            torch.set_rng_state(torch_state)
            torch.set_num_threads(threads)


def collected(infos):
    """A list of step information dicts as mushroom-rl gives it to `fit`: {key: list}."""
    result = defaultdict(list)
    for info in infos:
        for key, value in info.items():
            result[key].append(value)
    return result
