"""The batched path: blocks of lanes of the loco-mujoco A1, sent to the pool as values."""

import uuid

import numpy as np

from qi_ext.sampling import physics as worker
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.derive import nearest_range, specification
from qi_ext.sampling.disturbances import UNDISTURBED
from qi_ext.sampling.envs import Lanes
from qi_ext.sampling.pool import Pool
from qi_ext.sampling.rollouts import Rollouts


class BatchedSampler:
    """Gathers experience of one environment; it holds no lane, and what it returns depends on its arguments only."""

    def __init__(self, environment, lanes_per_block=4, pool="loky", n_workers="auto", scheduler=""):
        """environment: a `QuadrupedDirection` or loco-mujoco's `UnitreeA1`, read once and not used again.

        lanes_per_block: lanes whose actions are computed together, in one worker; part of the result, unlike the workers.
        pool, n_workers, scheduler: as `Pool` takes them. Raises ValueError where the environment takes the general path.
        """
        self.environment = environment
        self.specification = specification(environment)
        self.lanes_per_block = lanes_per_block
        self._key = uuid.uuid4().hex
        install = (self._key, self.specification)
        worker.install_here(*install)
        self.pool = Pool(pool, n_workers, scheduler, worker.install, install, in_process=worker.settled)

    def lanes(self, seeds):
        """Lanes before their first episode, one for each `numpy.random.SeedSequence`."""
        return Lanes.fresh(seeds, self.specification.state_size)

    def fragment(self, lanes, actor, n_steps, name=None, deterministic=False, disturbances=UNDISTURBED):
        """Step all `lanes` on by `n_steps`, acting as `actor`; returns the lanes as they are then, and `Rollouts`.

        name(lane): for messages. disturbances: `TrainingDisturbances`. Raises SamplingError.
        """
        return self.start(lanes, actor, n_steps, name, deterministic, disturbances).wait()

    def start(self, lanes, actor, n_steps, name=None, deterministic=False, disturbances=UNDISTURBED):
        """What `fragment` does, sent to the workers but not waited for: a `Fragment`."""
        blocks = self._blocks(len(lanes))
        controller = disturbances.around(PolicyController(actor, deterministic))
        tasks = [(self._key, lanes[block], self.lanes_per_block, controller, n_steps) for block in blocks]
        return Fragment(self.pool.run(worker.fragment, tasks, _namer(blocks, name)), len(tasks))

    def episodes(self, lanes, controller, name=None):
        """Run a whole episode in each of `lanes`; yields (lane, `Rollouts` of that one episode) as blocks of them are done.

        controller: of `qi_ext.sampling.controllers`. Raises SamplingError.
        """
        blocks = self._blocks(len(lanes))
        tasks = [(self._key, lanes[block], self.lanes_per_block, controller) for block in blocks]
        for index, rollouts in self.pool.run(worker.episodes, tasks, _namer(blocks, name)):
            for episode in np.sort(rollouts.episodes, order="lane"):
                yield blocks[index].start + int(episode["lane"]), rollouts.episode(episode)

    def command(self, lanes, commands):
        """Tell each of `lanes` what to do, one `Command` each; of a `QuadrupedDirection` only."""
        for lane, command in enumerate(commands):
            lanes.start_range[lane] = nearest_range(self.environment, command)
            lanes.goal[lane] = command.features

    def close(self):
        """Forget the environment, and end the workers, or part with a Dask cluster's."""
        worker.uninstall(self._key)
        self.pool.close()

    def _blocks(self, n_lanes):
        return [slice(begin, min(begin + self.lanes_per_block, n_lanes)) for begin in range(0, n_lanes, self.lanes_per_block)]


class Fragment:
    """A fragment of rollouts that is under way, or, in this process, is run when it is waited for."""

    def __init__(self, running, n_tasks):
        self._running = running
        self._n_tasks = n_tasks
        self._done = None

    def wait(self):
        """The lanes as they are after it, and `Rollouts`. Raises SamplingError."""
        if self._done is None:
            results = dict(self._running)
            parts, rollouts = zip(*(results[index] for index in range(self._n_tasks)), strict=True)
            self._done = Lanes.concatenate(parts), Rollouts.join(rollouts)
        return self._done

    def close(self):
        """Give it up; workers that are still at it are ended."""
        self._running.close()


def _namer(blocks, name):
    name = name or (lambda lane: f"lane {lane}")

    def of_task(index, lane):
        block = blocks[index]
        if lane is not None:
            return name(block.start + lane)
        return name(block.start) if block.stop == block.start + 1 else f"lanes {block.start} to {block.stop - 1}"

    return of_task
