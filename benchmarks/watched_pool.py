"""What a pool's workers do with their time and memory, and what is sent to them: seen from inside each task.

Numpy and MuJoCo only, because the workers import it.
"""

import time
from dataclasses import dataclass

import mujoco
from joblib.externals.loky.backend import reduction


@dataclass
class Seen:
    """One task. Seconds in the worker, of which in mj_step and in the controller; the worker's resident memory at the end."""

    busy: float
    physics: float
    policy: float
    rss_mb: float


class WatchedPool:
    """Stands in for a sampler's `pool`, while tasks are watched; `seen` holds a `Seen` for each."""

    def __init__(self, pool):
        self.seen = []
        self._pool = pool
        self._tasks, self._results = [], []

    def run(self, function, tasks, name):
        """As `Pool.run`, of tasks of `worker.fragment`."""
        self._tasks = [(function, *task) for task in tasks]
        for index, (result, seen) in self._pool.run(_watched, self._tasks, name):
            self.seen.append(seen)
            self._results.append((index, result, None))
            yield index, result

    def bytes_sent(self):
        """Size of the tasks, pickled as loky pickles them."""
        return sum(len(reduction.dumps(task)) for task in self._tasks)

    def bytes_received(self):
        """Size of the results, pickled as loky pickles them."""
        return sum(len(reduction.dumps(result)) for result in self._results)


class _TimedController:
    def __init__(self, controller):
        self.controller = controller
        self.seconds = 0.0

    def begin(self, block, lane):
        self.controller.begin(block, lane)

    def actions(self, block, observations, lanes):
        begin = time.perf_counter()
        actions = self.controller.actions(block, observations, lanes)
        self.seconds += time.perf_counter() - begin
        return actions


def _watched(function, key, lanes, rows, controller, n_steps):
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
        result = function(key, lanes, rows, controller, n_steps)
    finally:
        mujoco.mj_step = step
    return result, Seen(time.perf_counter() - begin, physics, controller.seconds, _rss_mb())


def _rss_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
