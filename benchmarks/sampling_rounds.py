"""The rounds of benchmarks/sampling.py: every contender takes its turn in each, on envs that walk."""

import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from bare_physics import BareProcesses, recorded
from stock_contenders import StockCore, VectorEnv, Walk, write_walks
from tables import say, take_rounds
from threadpoolctl import threadpool_limits
from watched_pool import WatchedPool

from qi_ext.learning.policy import GaussianPolicy
from qi_ext.robot import a1
from qi_ext.sampling import PoolSource
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.config import make_config
from qi_ext.training.learner import warm_start

N_ENVS = (8, 32, 128)
# Enough noise to be a stochastic policy, too little to make a cloned one fall.
STD = 0.02
SEED = 0


@dataclass
class Budget:
    """Budget of a contender's turn.

    epochs: of cloning. warm_up: steps of each env that do not count. batch: steps of all envs together, of the pool, of bare
    physics and of one worker; stock: those of the Core; vector: those of the vector environment.
    """

    epochs: int
    warm_up: int
    batch: int
    stock: int
    vector: int


def budget(quick):
    batch = make_config(task="hard").trpo.batch_size
    return Budget(2, 2, 256, 64, 64) if quick else Budget(60, 50, batch, 1024, 2048)


class Rounds:
    """Contenders, built once; all but the one whose turn it is are idle."""

    def __init__(self, n_workers, quick, stack):
        """stack: an ExitStack, which ends what is started here."""
        self.n_workers = n_workers
        self.budget = budget(quick)
        # One thread each: acting in the vector environment and the Core's policy are to use what a worker of the pool uses.
        torch.set_num_threads(1)
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        walks = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "walks.npz")
        for_cloning, for_policy = np.random.SeedSequence(SEED).spawn(2)
        environment = QuadrupedDirection("hard", seed=SEED)
        write_walks(walks, environment.demonstrations)
        say("cloning the demonstrations")
        policy = _cloned_policy(environment.demonstrations, self.budget.epochs, for_policy, for_cloning)
        self.agent = SimpleNamespace(policy=policy)

        say("starting processes")
        lanes_per_block = make_config(task="hard").sampling.lanes_per_block

        def sources(n_workers):
            made = {n: PoolSource(environment, n, lanes_per_block, SEED, n_workers=n_workers) for n in N_ENVS}
            for source in made.values():
                stack.enter_context(closing(source))
            return made

        self.pools, self.alone = sources(n_workers), sources(1)
        self.bare = stack.enter_context(closing(BareProcesses(self.pools[32].spec, n_workers)))
        self.vector = stack.enter_context(closing(VectorEnv(walks, policy.actor, n_workers, SEED)))
        self.stock = StockCore(walks, policy, STD, SEED)
        states = environment.demonstrations.states[:100]
        np.testing.assert_allclose(
            self.stock.policy.distribution(states).mean.detach().numpy(), policy.actor.mean(states), atol=1e-4
        )

        say("warming up")
        for n, pool in self.pools.items():
            self._collect(pool, n * self.budget.warm_up)
            # Spread out, as in a long run, or all time limits would fall into the same rollouts.
            pool.load_state(pool.state() | {"step": np.arange(n) * a1.HORIZON // n})
        self.vector.walk(n_workers * self.budget.warm_up)
        self.walks = {name: [] for name in ("pool", "AsyncVectorEnv", "stock Core")}

    def round(self):
        """Return {name: value} of every measure, with suffixes _8 and _128 for that many envs and none for 32."""
        values = {}
        for n in N_ENVS:
            suffix = "" if n == 32 else f"_{n}"
            values |= {f"{name}{suffix}": value for name, value in self._turns(n).items()}
        return values

    def _turns(self, n):
        source, alone, total = self.pools[n], self.alone[n], self.budget.batch
        before = source.state()
        rollouts, seconds = self._collect(source, total)
        pool = Walk(total, seconds, int(rollouts.episodes["fell"].sum()), float(rollouts.rewards.sum()))
        bare = self.bare.rate(recorded(source.spec, before, rollouts), total)
        alone.load_state(before)
        _, seconds = self._collect(alone, total)
        if any(not np.array_equal(alone.state()[name], array) for name, array in source.state().items()):
            raise AssertionError("one worker came to other states than the pool")
        stock = self.stock.walk(self.budget.stock, self.budget.warm_up)
        vector = self.vector.walk(self.budget.vector)
        for name, walk in zip(self.walks, (pool, vector, stock), strict=True):
            self.walks[name].append(walk)
        values = {
            "pool_steps_per_second": pool.rate,
            "bare_steps_per_second": bare,
            "stock_steps_per_second": stock.rate,
            "vector_steps_per_second": vector.rate,
            "one_worker_steps_per_second": total / seconds,
            "physics": pool.rate / bare,
            "stock_core": pool.rate / stock.rate,
            "async_vector_env": pool.rate / vector.rate,
            "scaling": pool.rate / (total / seconds),
        }
        return values | self._watched(source)

    def _watched(self, source):
        """Return shares of the time of a batch, from the next one, which is not otherwise measured."""
        pool = source._pool
        source._pool = watched = WatchedPool(pool)
        try:
            seconds = self._collect(source, self.budget.batch)[1] * self.n_workers
        finally:
            source._pool = pool
        busy, physics, policy = (sum(getattr(task, name) for task in watched.tasks) for name in ("busy", "physics", "policy"))
        return {
            "bytes_sent_per_step": watched.bytes_sent() / self.budget.batch,
            "bytes_received_per_step": watched.bytes_received() / self.budget.batch,
            "worker_rss_mb": max(task.rss_mb for task in watched.tasks),
            "share_policy": policy / seconds,
            "share_observation": (busy - physics - policy) / seconds,
            "share_physics": physics / seconds,
            "share_transport": 1.0 - busy / seconds,
        }

    def _collect(self, source, n_steps):
        """Return the `Rollouts` of `n_steps` steps of all envs together, and the seconds that they took."""
        began = time.perf_counter()
        source.start(self.agent, n_steps=n_steps)
        rollouts = source.collect()
        return rollouts, time.perf_counter() - began


def measure(n_workers, rounds, quick):
    """Run the rounds. Returns {name: [value of each round]} and {contender: a `Walk` of all rounds}."""
    with ExitStack() as stack:
        contenders = Rounds(n_workers, quick, stack)
        values = take_rounds(rounds, contenders.round)
    walks = {
        name: Walk(*(sum(getattr(walk, field) for walk in parts) for field in ("steps", "seconds", "falls", "reward")))
        for name, parts in contenders.walks.items()
    }
    return values, walks


def _cloned_policy(demonstrations, epochs, for_policy, for_cloning):
    """Return a policy of the standard size, cloned from the demonstrations."""
    config = make_config(task="hard", warm_start=epochs, warm_start_std=STD)
    policy = GaussianPolicy(a1.N_OBSERVATIONS, a1.N_ACTIONS, config.policy.policy_hidden, config.policy.initial_std, for_policy)
    policy.normalizer.update(torch.from_numpy(demonstrations.dataset()["states"]))
    warm_start(config, policy, demonstrations, for_cloning)
    return policy
