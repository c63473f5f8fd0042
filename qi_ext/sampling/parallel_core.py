"""mushroom-rl's Core on every core of the machine."""

import contextlib
import math
import sys
import time

from mushroom_rl.core import Core
from tqdm import tqdm

from qi_ext.sampling.disturbances import UNDISTURBED
from qi_ext.sampling.episode_source import acts_its_own_way, collected
from qi_ext.sampling.paths import BatchedPath, GeneralPath
from qi_ext.utils.errors import SamplingError


class ParallelCore(Core):
    """A `Core` that gathers experience in a pool of processes, with the same numbers for any number of them.

    The loco-mujoco A1 (ours and the stock one, without foot forces or domain randomisation) with a policy that has an `actor`
    (`qi_ext.agents.acting.Actor`) takes the *batched* path: `n_envs` lanes, each of which goes on where it stopped, in the next
    batch and in the next call. Everything else takes the *general* path: whole episodes, each from its own seed, in an
    environment that `make_environment` builds inside the worker.

    Unlike `Core`: a batch is rounded up to whole time steps of all lanes, or to whole episodes; `learn` rounds up to whole
    batches, so that nothing is thrown away; callbacks get whole episodes, `callback_step` each after it has ended,
    those of `callbacks_fit` all that ended in the batch. An agent that has `fit_rollouts` gets arrays (`Rollouts`) of
    fragments; any other agent, and whole episodes, go through `fit`.
    """

    def __init__(
        self,
        agent,
        mdp,
        callbacks_fit=None,
        callback_step=None,
        record_dictionary=None,
        *,
        make_environment=None,
        n_envs=32,
        lanes_per_block=4,
        pool="loky",
        n_workers="auto",
        scheduler="",
        seed=0,
        disturbances=UNDISTURBED,
        overlap=True,
        undisturbed=contextlib.nullcontext,
    ):
        """agent, mdp, callbacks_fit, callback_step, record_dictionary: as `Core` takes them.

        make_environment: a function without arguments that builds an environment like `mdp`; for the general path only.
        n_envs: lanes, or tasks that share the episodes; part of the result. lanes_per_block: of the batched path; part of the
        result. pool: loky (processes), serial (in this process) or dask, with the address of its scheduler. n_workers: "auto"
        or a number; not part of the result. seed: of everything that is drawn while acting, an int. disturbances:
        `TrainingDisturbances` that `learn` has robots walk under, on the batched path. overlap: whether workers gather the next
        batch as soon as the policy is ready, while the agent fits what does not act (if it is made so, as ours are, by
        `acts_before_all_is_fitted`); not part of the result, as long as callbacks leave the policy alone.
        undisturbed(): a context manager, entered for each update and its callbacks, after which agent, lanes and counters fit
        together.
        Raises UserError for a pool that cannot be had, ValueError where the general path lacks make_environment or has
        disturbances.
        """
        super().__init__(agent, mdp, callbacks_fit, callback_step, record_dictionary)
        reason = _why_general(agent, mdp)
        pool = {"pool": pool, "n_workers": n_workers, "scheduler": scheduler}
        if reason is None:
            self.path = BatchedPath(mdp, n_envs, lanes_per_block, seed, disturbances, **pool)
        elif disturbances:
            raise ValueError(f"ParallelCore: {reason}; leave disturbances out")
        elif make_environment is None:
            raise ValueError(
                f"ParallelCore: {reason}; give make_environment, a function that builds the environment in a worker"
            )
        else:
            self.path = GeneralPath(mdp, make_environment, n_envs, seed, **pool)
        self.overlap = overlap
        self._batched = reason is None
        self._undisturbed = undisturbed
        self._stopped = False
        self._round = 2 * n_envs
        # An evaluation's round is of whole blocks, because the last bits of an action depend on its row in the block.
        self._together = lanes_per_block if reason is None else 1
        self.n_steps = 0
        self.n_episodes = 0
        self.collect_seconds = self.fit_seconds = 0.0  # of the last batch: waiting for it, and the update

    @property
    def episodes(self):
        """Those that ended in the last batch, a structured array: episode_return, length, fell, blew_up, and when and where."""
        return self.path.ended

    def learn(
        self,
        n_steps=None,
        n_episodes=None,
        n_steps_per_fit=None,
        n_episodes_per_fit=None,
        render=False,
        quiet=False,
        record=False,
    ):
        """Gather batches and fit the agent to each, until at least n_steps, or n_episodes, are done; see `Core.learn`.

        Raises SamplingError where experience cannot be gathered; what was learned before stays in the agent.
        """
        _require_one("n_steps_per_fit", n_steps_per_fit, "n_episodes_per_fit", n_episodes_per_fit)
        _require_one("n_steps", n_steps, "n_episodes", n_episodes)
        if render or record:
            raise ValueError("learn: the pool's robots cannot be rendered; use evaluate(render=True)")
        steps, episodes = self.n_steps, self.n_episodes
        # Only lanes go on by themselves; and what is gathered is gathered in other processes, or there is nothing to gain.
        ahead = self.overlap and n_steps_per_fit is not None and self._batched and self.path.sampler.pool.has_workers
        self._stopped = False

        def more():
            done, wanted = (self.n_steps - steps, n_steps) if n_steps is not None else (self.n_episodes - episodes, n_episodes)
            return done < wanted

        def start_next():
            # What keeps it from starting is met again, and told, where it is waited for: after the update.
            with contextlib.suppress(SamplingError):
                if more():
                    self.path.start(self.agent, n_steps_per_fit, self.n_steps)

        try:
            with tqdm(total=n_steps or n_episodes, dynamic_ncols=True, disable=quiet, leave=False) as bar:
                while more() and not self._stopped:
                    began = time.monotonic()
                    gathered = self.path.gather(self.agent, n_steps_per_fit, n_episodes_per_fit, self.n_steps)
                    self.collect_seconds = time.monotonic() - began
                    with self._undisturbed():
                        n_new = self._fit(gathered, start_next if ahead else None)
                    bar.update(n_new if n_steps is not None else len(self.episodes))
        finally:
            self.path.drop()
        self.agent.stop()
        self.mdp.stop()

    def stop(self):
        """End `learn` after the update that is under way; for callbacks."""
        self._stopped = True

    def restore(self, lanes, n_steps, n_episodes):
        """Go on from where another core's `path.lanes`, `n_steps` and `n_episodes` were, between two batches.

        lanes: {name: array}, as `Lanes.arrays` gave them. Of episodes that were under way then, callbacks get what is left.
        Raises ValueError where they are not lanes of this core.
        """
        self.path.restore(lanes)
        self.n_steps, self.n_episodes = n_steps, n_episodes

    def _fit(self, gathered, start_next):
        """One update, from what was gathered, and the callbacks; returns the number of steps."""
        n_new, whole = self.path.take(gathered)
        self.n_steps += n_new
        self.n_episodes += len(whole)
        for episode in whole:
            self.callback_step(episode)
        began = time.monotonic()
        self.path.fit(self.agent, start_next)
        self.fit_seconds = time.monotonic() - began
        for callback in self.callbacks_fit:
            callback([sample for episode in whole for sample in episode])
        return n_new

    def evaluate(
        self,
        initial_states=None,
        n_steps=None,
        n_episodes=None,
        render=False,
        quiet=False,
        record=False,
        get_env_info=False,
        deterministic=None,
    ):
        """Run whole episodes with the agent as it is, and leave it, its lanes and its generators bit-identical; see `Core`.

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
        samples, infos, done = [], [], 0
        with tqdm(total=wanted or n_steps, dynamic_ncols=True, disable=quiet, leave=False) as bar:
            while done < wanted if wanted is not None else len(samples) < n_steps:
                # In rounds, for there is no telling how many episodes n_steps are; and results take memory.
                mean_length = len(samples) / done if done else self.mdp.info.horizon
                likely = wanted - done if wanted is not None else math.ceil((n_steps - len(samples)) / mean_length)
                count = math.ceil(min(max(likely, 1), self._round) / self._together) * self._together
                numbers = range(done, done + count if wanted is None else min(done + count, wanted))
                for episode, episode_infos in self.path.evaluate(
                    self.agent, numbers, initial_states, self.n_steps, deterministic
                ):
                    samples += episode
                    infos += episode_infos
                done = numbers.stop
                bar.n = done if wanted is not None else min(len(samples), n_steps)
                bar.refresh()
        samples, infos = samples[:n_steps], infos[:n_steps]
        return (samples, collected(infos)) if get_env_info else samples

    def close(self):
        """End the workers, or part with a Dask cluster's."""
        self.path.close()


def _why_general(agent, mdp):
    """Why the batched path cannot be taken, or None."""
    if "loco_mujoco" not in sys.modules:
        return f"{type(mdp).__name__} is not loco-mujoco's A1"
    from qi_ext.sampling.derive import why_not_batched

    if not hasattr(agent.policy, "actor"):
        return f"a {type(agent.policy).__name__} has no `actor` to act in numpy"
    if acts_its_own_way(agent):
        return f"a {type(agent).__name__} has its own way of acting"
    if agent.phi is not None or agent.preprocessors:
        return "the agent has features or preprocessors of its own"
    return why_not_batched(mdp)


def _require_one(name, value, other_name, other):
    if (value is None) == (other is None):
        raise ValueError(f"learn: give either {name} or {other_name}")
