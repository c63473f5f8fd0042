"""Envs that stay in this process and are stepped in lockstep by a few threads: neither torch nor gymnasium is imported."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from qi_ext.sampling.envs import EnvError, Envs
from qi_ext.sampling.physics import Block
from qi_ext.utils.errors import SamplingError
from qi_ext.utils.simulation_context import simulation_context


class LiveEnvs:
    """N envs of an `EnvSpec`. Unlike those of the pool they are not values: their state can't be had.

    observation, (N, 37), and command, (N, k), are the present ones. MuJoCo computes without Python's lock, so threads are as
    fast as processes, and whichever is done takes the next env, while processes wait for the one whose envs took longest.
    """

    def __init__(self, spec, n_envs, n_threads, time_limit, autoreset):
        """time_limit: steps, after which an episode is truncated even where it terminates.

        autoreset: "NextStep", "SameStep" or "Disabled", as in Gymnasium's `AutoresetMode`.
        """
        self._time_limit = time_limit
        self._autoreset = autoreset
        self._actions = None
        self._to_reset = "no episode was started"
        self._threads = _Threads(n_threads)
        # Seeds of the operating system's, as an environment has that was never seeded.
        seeds = [np.random.SeedSequence() for _ in range(n_envs)]
        envs = Envs.fresh(seeds, spec.state_size, spec.task.command_size)
        self._block = Block(spec, envs, n_envs, self._threads.for_each)
        self.observation, self.command = self._block.observation, self._block.command

    def begin(self, block, env):
        """An episode starts, as the block tells its controller."""

    def actions(self, block, observations, envs):
        """Actions, (N, 12), as the block asks its controller for them."""
        return self._actions

    def reset(self, told, seeds):
        """Start episodes. told: {env: (command, group) of `Task.tell`, or ()}. seeds: {env: of its generator from here on}."""
        for env, seed in seeds.items():
            self._block.generators[env] = np.random.default_rng(seed)
        for env, told_env in told.items():
            self._block.start(env, self, *told_env)
        if len(told) == self._block.n:
            self._to_reset = ""

    def step(self, actions):
        """Step all envs by `actions`, (N, 12); where an episode was over, start the next one instead.

        Returns rewards, terminated and truncated, (N,) each, and {env: (observation, command)} of the ends of episodes that
        were followed by the next one in this step. Raises SamplingError where an episode was over and there is no autoreset,
        and where MuJoCo gives up; then, and after Ctrl-C, as at first, all envs must be reset.
        """
        block = self._block
        over = np.flatnonzero(~block.running)
        if len(over) and self._autoreset != "NextStep":
            raise SamplingError(f"env {over[0]}: its episode is over, or none was started: call reset")
        if self._to_reset:
            raise SamplingError(f"{self._to_reset}: call reset")
        self._actions, self._to_reset = actions, "a step was interrupted"
        try:
            with simulation_context():
                block.step(0, self, np.flatnonzero(block.running))
        except EnvError as error:
            raise SamplingError(f"env {error.env}: {error}") from error
        self._to_reset = ""
        _, _, rewards, _, terminated, truncated = block.take_step()
        truncated = truncated | (block.length >= self._time_limit)
        for env in over:
            block.start(env, self)
        rewards[over], terminated[over], truncated[over] = 0.0, False, False
        ends = {}
        if self._autoreset == "SameStep":
            for env in np.flatnonzero(~block.running).tolist():
                ends[env] = block.observation[env].copy(), block.command[env].copy()
                block.start(env, self)
        return rewards, terminated, truncated, ends

    def close(self):
        """End the threads."""
        self._threads.close()


class _Threads:
    """This thread and others, which share the work of a loop."""

    def __init__(self, n):
        self._n_others = n - 1
        self._others = ThreadPoolExecutor(max(n - 1, 1))  # starts threads when they are needed

    def for_each(self, function, items):
        """Call function(item) for all items. Raises what a call has raised, after those under way have ended."""
        left = deque(items)

        def work():
            while left:
                try:
                    item = left.popleft()
                except IndexError:  # another thread took the last one
                    return
                function(item)

        helping = [self._others.submit(work) for _ in range(min(self._n_others, len(left) - 1))]
        try:
            work()
        finally:
            left.clear()
            # Not for those that have not begun: in a fork of this process they never would.
            wait([future for future in helping if not future.cancel()])
        for future in helping:
            if not future.cancelled():
                future.result()

    def close(self):
        """End the threads."""
        self._others.shutdown()
