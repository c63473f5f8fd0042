"""Ways to step many of our environments: our pool, our vector environment, Gymnasium's AsyncVectorEnv, SB3's SubprocVecEnv."""

import multiprocessing
import os
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import psutil
from gymnasium.vector import AutoresetMode
from stock_contenders import Walk
from tables import say, take_rounds
from threadpoolctl import threadpool_limits

import qi_ext

NAME = "qi_ext.tasks:QuadrupedDirection-v0"
KEYS = {"pool": "pool", "vector env": "vector_env", "AsyncVectorEnv": "own_async", "SubprocVecEnv": "own_subproc"}
N_ENVS = 32
SEED = 0


def single():
    """One environment; called in a process of each env."""
    import gymnasium

    return gymnasium.make(NAME, task="hard", disable_env_checker=True)


class Vector:
    """A vector environment of Gymnasium's, ours or another, in which the shipped agent walks."""

    def __init__(self, environments):
        self.environments = environments
        self._agent = qi_ext.load_agent("pretrained/hard")
        self.observations = self._reset()

    def _reset(self):
        return self.environments.reset(seed=SEED)[0]

    def _step(self, actions):
        observations, rewards, terminated, _, _ = self.environments.step(actions)
        return observations, rewards, terminated

    def walk(self, n_steps):
        """Step each env `n_steps` times; returns a `Walk`, whose seconds are those of the steps, without the agent's."""
        seconds, falls, reward = 0.0, 0, 0.0
        for _ in range(n_steps):
            actions = self._agent.act(self.observations)
            begin = time.perf_counter()
            self.observations, rewards, fallen = self._step(actions)
            seconds += time.perf_counter() - begin
            falls += int(fallen.sum())
            reward += float(rewards.sum())
        return Walk(n_steps * N_ENVS, seconds, falls, reward)

    def close(self):
        self.environments.close()


class StableBaselines(Vector):
    """SB3's `SubprocVecEnv`, whose ends are all counted as falls."""

    def _reset(self):
        self.environments.seed(SEED)
        return self.environments.reset()

    def _step(self, actions):
        return self.environments.step(actions)[:3]


class Pool:
    """Our pool, in whose processes the shipped agent acts, too, as in training: with the noise that it was trained with."""

    def __init__(self, n_workers):
        # Here, because the processes of each env import this file.
        from qi_ext.sampling import PoolSource
        from qi_ext.tasks import QuadrupedDirection

        self._source = PoolSource(QuadrupedDirection("hard"), N_ENVS, seed=SEED, n_workers=n_workers)
        self._agent = SimpleNamespace(policy=SimpleNamespace(actor=qi_ext.load_agent("pretrained/hard")))

    def walk(self, n_steps):
        """Step each env `n_steps` times; returns a `Walk`, whose seconds are those of all."""
        begin = time.perf_counter()
        self._source.start(self._agent, n_steps=n_steps * N_ENVS)
        rollouts = self._source.collect()
        seconds = time.perf_counter() - begin
        return Walk(rollouts.n_steps, seconds, int(rollouts.episodes["fell"].sum()), float(rollouts.rewards.sum()))

    def close(self):
        self._source.close()


def makers(n_workers):
    """{name: function that makes the contender}; SubprocVecEnv only where stable-baselines3 is installed."""
    made = {
        "pool": lambda: Pool(n_workers),
        "vector env": lambda: Vector(
            gymnasium.make_vec(NAME, N_ENVS, task="hard", n_workers=n_workers, autoreset_mode=AutoresetMode.SAME_STEP)
        ),
        "AsyncVectorEnv": lambda: Vector(
            gymnasium.vector.AsyncVectorEnv([single] * N_ENVS, context="forkserver", autoreset_mode=AutoresetMode.SAME_STEP)
        ),
    }
    try:
        from stable_baselines3.common.vec_env import SubprocVecEnv
    except ImportError:
        say("stable-baselines3 is not installed, so SubprocVecEnv is left out")
    else:
        made["SubprocVecEnv"] = lambda: StableBaselines(SubprocVecEnv([single] * N_ENVS, start_method="forkserver"))
    return made


def measure(n_workers, rounds, quick):
    """Run the rounds. Returns {name: [value of each round]} and {contender: a `Walk` of all rounds}."""
    # Else 64 processes would import for seconds each, and each hold its own copy of it.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    multiprocessing.set_forkserver_preload(["qi_ext.tasks.gymnasium_env", "qi_ext.demonstrations.trot", __name__])
    n_steps = 4 if quick else 60
    with ExitStack() as stack:
        # The agent acts between the steps of all; more threads would wait for a processor that the envs have.
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        say("starting processes: one for each of 32 envs, but for ours")
        contenders = {name: stack.enter_context(closing(make())) for name, make in makers(n_workers).items()}
        for contender in contenders.values():
            contender.walk(2)
        walks = {name: [] for name in contenders}

        def take_round():
            taken, busy = {}, {}
            for name, contender in contenders.items():
                before = _processor_seconds()
                taken[name] = contender.walk(n_steps)
                busy[name] = _processor_seconds() - before
                walks[name].append(taken[name])
            values = {f"{key}_steps_per_second": taken[name].rate for name, key in KEYS.items() if name in taken}
            for other in ("AsyncVectorEnv", "SubprocVecEnv"):
                if other in taken:
                    for ours in ("pool", "vector env"):
                        values[f"{KEYS[ours]}_{KEYS[other]}"] = taken[ours].rate / taken[other].rate
                        values[f"{KEYS[ours]}_{KEYS[other]}_processor"] = busy[other] / busy[ours]
            return values

        values = take_rounds(rounds, take_round)
    fields = ("steps", "seconds", "falls", "reward")
    return values, {
        name: Walk(*(sum(getattr(walk, field) for walk in parts) for field in fields)) for name, parts in walks.items()
    }


def _processor_seconds():
    """Seconds of processor time of this process and all below it; those that are idle add nothing to a difference."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))
