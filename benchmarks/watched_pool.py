"""Time and memory of a pool's workers, and the bytes sent to them, measured from inside each task.

Numpy and MuJoCo only, because the workers import it.
"""

import time
from dataclasses import dataclass

import mujoco
from joblib.externals.loky.backend import reduction


@dataclass
class TaskTime:
    """Measures of one task.

    busy: seconds in the worker, of which physics: in mj_step, policy: in the controller. rss_mb: resident memory of the worker
    at the end.
    """

    busy: float
    physics: float
    policy: float
    rss_mb: float


class WatchedPool:
    """Stand-in for the pool of a `PoolSource` that watches tasks; `tasks` holds a `TaskTime` for each."""

    def __init__(self, pool):
        self.tasks = []
        self._pool = pool
        self._sent, self._received = [], []

    def run(self, function, tasks, name):
        """Run tasks of `physics.step_fragment` as `Pool.run` does."""
        self._sent = [(function, *task) for task in tasks]
        for index, (result, task) in self._pool.run(_watched, self._sent, name):
            self.tasks.append(task)
            self._received.append((index, result, None))
            yield index, result

    def bytes_sent(self):
        """Size of the tasks, pickled as loky pickles them."""
        return sum(len(reduction.dumps(task)) for task in self._sent)

    def bytes_received(self):
        """Size of the results, pickled as loky pickles them."""
        return sum(len(reduction.dumps(result)) for result in self._received)


class _TimedController:
    def __init__(self, controller):
        self.controller = controller
        self.seconds = 0.0

    def begin(self, block, env):
        self.controller.begin(block, env)

    def actions(self, block, observations, envs):
        begin = time.perf_counter()
        actions = self.controller.actions(block, observations, envs)
        self.seconds += time.perf_counter() - begin
        return actions


def _watched(function, key, envs, rows, controller, n_steps):
    controller = _TimedController(controller)
    step, physics = mujoco.mj_step, 0.0

    def timed_step(*arguments):
        nonlocal physics
        begin = time.perf_counter()
        step(*arguments)
        physics += time.perf_counter() - begin

    mujoco.mj_step = timed_step
    begin = time.perf_counter()
    try:
        result = function(key, envs, rows, controller, n_steps)
    finally:
        mujoco.mj_step = step
    return result, TaskTime(time.perf_counter() - begin, physics, controller.seconds, _rss_mb())


def _rss_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
