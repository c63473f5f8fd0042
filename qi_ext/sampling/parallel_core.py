"""mushroom-rl's Core on a `RolloutSource`, such as a pool on every core of the machine."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mushroom_rl.core import Core
from tqdm import tqdm

from qi_ext.sampling.disturbances import UNDISTURBED, TrainingDisturbances
from qi_ext.sampling.episode_source import EpisodeSource, acts_its_own_way
from qi_ext.sampling.rollouts import EpisodeAssembler, Rollouts, WholeEpisodes
from qi_ext.sampling.source import RolloutSource


class ParallelCore(Core):
    """A `Core` that gathers experience from a `RolloutSource`, with the same numbers for any number of processes.

    The loco-mujoco A1 (ours and the stock one, without foot forces or domain randomisation) with a policy that has an `actor`
    (`qi_ext.agents.acting.Actor`) is stepped in `n_envs` envs, each of which goes on where it stopped, in the next batch and in
    the next call. Everything else is run for whole episodes, each from its own seed, in an environment that `make_environment`
    builds inside the worker.

    Unlike `Core`: a batch is rounded up to whole time steps of all envs, or to whole episodes; `learn` rounds up to whole
    batches, so that nothing is thrown away; callbacks get whole episodes, `callback_step` each after it has ended,
    those of `callbacks_fit` all that ended in the batch.
    """

    def __init__(
        self,
        agent: Any,
        mdp: Any,
        callbacks_fit: list[Callable] | None = None,
        callback_step: Callable | None = None,
        record_dictionary: dict | None = None,
        *,
        source: RolloutSource | None = None,
        make_environment: Callable[[], Any] | None = None,
        n_envs: int = 32,
        lanes_per_block: int = 4,
        pool: str = "loky",
        n_workers: int | str = "auto",
        scheduler: str = "",
        seed: int = 0,
        disturbances: TrainingDisturbances = UNDISTURBED,
    ) -> None:
        """agent, mdp, callbacks_fit, callback_step, record_dictionary: as `Core` takes them.

        source: a `RolloutSource`; the arguments below are then not used. None takes the one that fits agent and mdp.
        make_environment: a function without arguments that builds an environment like `mdp`; for whole episodes only.
        n_envs: envs, or tasks that share the episodes; part of the result. lanes_per_block: envs whose actions are computed
        together; part of the result. pool: loky (processes), serial (in this process) or dask, with the address of its
        scheduler. n_workers: "auto" or a number; not part of the result. seed: of everything that is drawn while acting, an
        int. disturbances: `TrainingDisturbances` in `learn`, of the A1 only.
        Raises UserError for a pool that cannot be had, ValueError where whole episodes lack make_environment or have
        disturbances.
        """
        super().__init__(agent, mdp, callbacks_fit, callback_step, record_dictionary)
        self._block_size = 1
        if source is None:
            where: dict[str, Any] = {"pool": pool, "n_workers": n_workers, "scheduler": scheduler}
            reason = _why_whole_episodes(agent, mdp)
            if reason is None:
                from qi_ext.sampling.pool_source import PoolSource  # imports loco_mujoco

                source = PoolSource(mdp, n_envs, lanes_per_block, seed, disturbances, **where)
                # Evaluations run whole blocks, because the last bits of an action depend on its row in the block.
                self._block_size = lanes_per_block
            elif disturbances:
                raise ValueError(f"ParallelCore: {reason}; leave disturbances out")
            elif make_environment is None:
                raise ValueError(
                    f"ParallelCore: {reason}; give make_environment, a function that builds the environment in a worker"
                )
            else:
                source = EpisodeSource(make_environment, mdp.info.horizon, n_envs, seed, **where)
        self.source = source
        self._assembler = EpisodeAssembler(source.n_envs)
        self._stopped = False
        self.n_steps = 0
        self.n_episodes = 0
        self.episodes: np.ndarray | None = None  # those that ended in the last batch, of `rollouts.EPISODE`

    def learn(
        self,
        n_steps: int | None = None,
        n_episodes: int | None = None,
        n_steps_per_fit: int | None = None,
        n_episodes_per_fit: int | None = None,
        render: bool = False,
        quiet: bool = False,
        record: bool = False,
    ) -> None:
        """Gather batches and fit the agent to each, until at least n_steps, or n_episodes, are done; see `Core.learn`.

        Raises SamplingError where experience cannot be gathered; what was learned before stays in the agent.
        """
        _require_one("n_steps_per_fit", n_steps_per_fit, "n_episodes_per_fit", n_episodes_per_fit)
        _require_one("n_steps", n_steps, "n_episodes", n_episodes)
        if render or record:
            raise ValueError("learn: the source's envs cannot be rendered; use evaluate(render=True)")
        wanted, counter = (n_steps, "n_steps") if n_steps is not None else (n_episodes, "n_episodes")
        before, done = getattr(self, counter), 0
        self._stopped = False
        try:
            with tqdm(total=wanted, dynamic_ncols=True, disable=quiet, leave=False) as bar:
                while done < wanted and not self._stopped:
                    self.source.start(self.agent, n_steps_per_fit, n_episodes_per_fit, self.n_steps)
                    self.source.wait()
                    self._fit(self.source.collect())
                    done = getattr(self, counter) - before
                    bar.update(done - bar.n)
        finally:
            self.source.drop()
        self.agent.stop()
        self.mdp.stop()

    def stop(self) -> None:
        """End `learn` after the update that is under way; for callbacks."""
        self._stopped = True

    def restore(self, state: Mapping[str, np.ndarray], n_steps: int, n_episodes: int) -> None:
        """Go on from where another core's `source.state()`, `n_steps` and `n_episodes` were, between two batches.

        Of episodes that were under way then, callbacks get what is left. Raises ValueError where the state is of another
        source.
        """
        self.source.load_state(state)
        self.n_steps, self.n_episodes = n_steps, n_episodes

    def _fit(self, batch: Rollouts | WholeEpisodes) -> None:
        """Fit the agent to a batch, and call back."""
        whole = batch.samples if isinstance(batch, WholeEpisodes) else self._assembler.add(batch)
        self.episodes = batch.episodes
        self.n_steps += batch.n_steps
        self.n_episodes += len(batch.episodes)
        for episode in whole:
            self.callback_step(episode)
        self.agent.fit(batch.dataset(), **batch.step_infos())
        for callback in self.callbacks_fit:
            callback([sample for episode in whole for sample in episode])

    def evaluate(
        self,
        initial_states: Sequence[np.ndarray] | None = None,
        n_steps: int | None = None,
        n_episodes: int | None = None,
        render: bool = False,
        quiet: bool = False,
        record: bool = False,
        get_env_info: bool = False,
        deterministic: bool | None = None,
    ) -> Any:
        """Run whole episodes with the agent as it is, and leave it and the source's envs bit-identical; see `Core`.

        Episodes are spread evenly over the task's commands, and depend on the seed, the steps learned so far, the command and
        the episode's number only. n_steps: so many of their steps. deterministic: whether to act without noise; None is as the
        policy says. Returns mushroom-rl's dataset, and the dict of step information where get_env_info. With render, `Core`'s
        own loop runs in this process, on `mdp`.
        """
        if render or record:
            return super().evaluate(initial_states, n_steps, n_episodes, render, quiet, record, get_env_info)
        if sum(given is not None for given in (initial_states, n_steps, n_episodes)) != 1:
            raise ValueError("evaluate: give one of initial_states, n_steps and n_episodes")
        wanted = len(initial_states) if initial_states is not None else n_episodes
        found = WholeEpisodes([], [], None)
        with tqdm(total=wanted or n_steps, dynamic_ncols=True, disable=quiet, leave=False) as bar:
            while len(found.samples) < wanted if wanted is not None else found.n_steps < n_steps:
                # In rounds, for there is no telling how many episodes n_steps are; and results take memory.
                done = len(found.samples)
                mean_length = found.n_steps / done if done else self.mdp.info.horizon
                likely = wanted - done if wanted is not None else math.ceil((n_steps - found.n_steps) / mean_length)
                count = math.ceil(min(max(likely, 1), 2 * self.source.n_envs) / self._block_size) * self._block_size
                numbers = range(done, done + count if wanted is None else min(done + count, wanted))
                new = self.source.evaluate(self.agent, numbers, initial_states, self.n_steps, deterministic)
                found.samples += new.samples
                found.infos += new.infos
                bar.update((len(found.samples) if wanted is not None else min(found.n_steps, n_steps)) - bar.n)
        samples = found.dataset()[:n_steps]
        return (samples, found.step_infos(n_steps)) if get_env_info else samples

    def close(self) -> None:
        """Close the source."""
        self.source.close()


def _why_whole_episodes(agent: Any, mdp: Any) -> str | None:
    """Reason why envs like `mdp` cannot be stepped as values, in words; None where they can."""
    if not any(parent.__module__.startswith("loco_mujoco.") for parent in type(mdp).__mro__):
        return f"{type(mdp).__name__} is not loco-mujoco's A1"
    from qi_ext.sampling.read_environment import why_not_as_values  # imports loco_mujoco

    if not hasattr(agent.policy, "actor"):
        return f"a {type(agent.policy).__name__} has no `actor` to act in numpy"
    if acts_its_own_way(agent):
        return f"a {type(agent).__name__} has its own way of acting"
    if agent.phi is not None or agent.preprocessors:
        return "the agent has features or preprocessors of its own"
    return why_not_as_values(mdp)


def _require_one(name: str, value: int | None, other_name: str, other: int | None) -> None:
    if (value is None) == (other is None):
        raise ValueError(f"learn: give either {name} or {other_name}")
