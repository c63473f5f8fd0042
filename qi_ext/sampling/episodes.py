"""Whole episodes of any mushroom-rl environment, run in a worker, each a function of an agent and of its own seed."""

import contextlib
import importlib
import inspect
import pickle
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from qi_ext.sampling.envs import EnvError

_environments: dict[tuple, Any] = {}


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
    def row(self) -> tuple:
        """The episode as an entry of `EPISODE`."""
        length, episode_return = len(self.samples), float(sum(sample[2] for sample in self.samples))
        return length - 1, 0, episode_return, length, self.samples[-1][4], False


def run_episodes(
    patches: tuple[str, ...],
    make_environment: bytes,
    acting: bytes,
    seeds: list[np.random.SeedSequence],
    initial_states: list[np.ndarray] | None,
) -> list[Episode]:
    """Run an episode for each of `seeds`, in a worker; returns a list of `Episode`. Raises EnvError.

    patches: names of the patches, of the package `patches`, to apply here. make_environment, acting: pickled.
    """
    if patches or applied_patches():
        importlib.import_module("patches").set_applied(patches)
    pickle.loads(acting)  # first, so that torch, where it is needed, is loaded when its threads are limited
    with _deterministic():
        built = (patches, make_environment)
        if built not in _environments:
            _environments[built] = pickle.loads(make_environment)()
        environment = _environments[built]
        episodes = []
        for i, seed in enumerate(seeds):
            # A new one each, because acting may change an agent, such as a preprocessor's statistics, for this episode only.
            agent = pickle.loads(acting)
            try:
                _seed(seed, environment, agent.policy)
                episodes.append(_run_episode(environment, agent, None if initial_states is None else initial_states[i]))
            except Exception as error:
                raise EnvError(f"{type(error).__name__}: {error}", i) from error
    return episodes


def _run_episode(environment: Any, agent: Any, initial_state: np.ndarray | None) -> Episode:
    episode = Episode([], [], [])

    def seen(observation: np.ndarray) -> np.ndarray:
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


def applied_patches() -> tuple[str, ...]:
    """Names of the patches that are applied in this process; none where nobody has imported the package."""
    return getattr(sys.modules.get("patches"), "applied", tuple)()


def _seed(seed: np.random.SeedSequence, environment: Any, policy: Any) -> None:
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
def _deterministic() -> Iterator[None]:
    """Use one thread, because sums depend on their number, and put the global generators back afterwards, for others."""
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
