"""Fixtures of sampling's tests: a task of short episodes, small policies and agents, and exact comparison."""

import logging
import os
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import numpy as np
import psutil
import pytest
from mushroom_rl.core import Agent
from mushroom_rl.policy import Policy

from qi_ext.agents.acting import Actor
from qi_ext.demonstrations import loco_mujoco_formats
from qi_ext.robot import a1
from qi_ext.sampling import physics
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.envs import Envs
from qi_ext.sampling.rollouts import ARRAYS, Rollouts
from qi_ext.utils.simulation_context import simulation_context

DEADLINE = 60.0  # s, for a process to do something
HORIZON = 8  # random torques throw the robot over after 2 to 30 steps: some episodes fall, others reach this limit
ROWS = 12  # of a block

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file


# Environments


@pytest.fixture(scope="session")
def short():
    """`QuadrupedDirection("hard")` with episodes of at most 8 steps."""
    from qi_ext.tasks import QuadrupedDirection

    return QuadrupedDirection("hard", horizon=HORIZON, seed=0)


@pytest.fixture(scope="session")
def trajectories(gliding, tmp_path_factory):
    """`traj_params` of loco-mujoco: 8 directions of 20 samples each."""
    path = tmp_path_factory.mktemp("stock") / "gliding.npz"
    loco_mujoco_formats.write_real(path, gliding([45.0 * i for i in range(8)], rows=20))
    return {"traj_path": path, "traj_dt": 1 / 500, "control_dt": 1 / 100}


@pytest.fixture(scope="session")
def make_stock(trajectories):
    """make_stock(**settings): loco-mujoco's `UnitreeA1` with trajectories and episodes of at most 8 steps."""
    from loco_mujoco.environments import UnitreeA1

    def make(**settings):
        settings = {"reward_type": "velocity_vector", "reward_params": {}, "traj_params": trajectories} | settings
        return UnitreeA1(horizon=HORIZON, **settings)

    return make


class Simulator:
    """Envs of one environment, stepped in this process in one block of 12 rows, without a pool."""

    def __init__(self, environment):
        from qi_ext.sampling.read_environment import read_environment

        self.spec = read_environment(environment)

    def envs(self, n, run=0):
        """n fresh envs; the first of a run are the same for any n."""
        seeds = [np.random.SeedSequence([run, number]) for number in range(n)]
        return Envs.fresh(seeds, self.spec.state_size, self.spec.task.command_size)

    def step(self, envs, controller, n_steps):
        """The envs after n_steps, and their `Rollouts`."""
        return self._run(physics.step_fragment, envs, controller, n_steps)

    def run_episodes(self, envs, controller):
        """`Rollouts` of one episode, one for each env."""
        rollouts = self._run(physics.run_episodes, envs, controller)
        return [rollouts.episode(row) for row in np.sort(rollouts.episodes, order="env")]

    def _run(self, function, envs, controller, *more):
        physics.install_here("simulator", self.spec)
        with simulation_context():
            return function("simulator", envs, max(ROWS, len(envs)), controller, *more)


@pytest.fixture(scope="session")
def make_simulator():
    return Simulator


@pytest.fixture(scope="session")
def simulator(short):
    return Simulator(short)


@pytest.fixture(scope="session")
def walked(simulator, controller):
    """6 envs after 27 steps, at least 4 of them in the middle of an episode."""
    envs, _ = simulator.step(simulator.envs(6), controller, 27)
    assert envs.running.sum() >= 4
    return envs


@pytest.fixture
def make_source(short):
    """make_source(environment=short, **settings): a `PoolSource` of 6 envs in blocks of 4, in this process."""
    from qi_ext.sampling import PoolSource

    sources = []

    def make(environment=short, **settings):
        settings = {"n_envs": 6, "lanes_per_block": 4, "seed": 3, "pool": "serial"} | settings
        sources.append(PoolSource(environment, **settings))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


# Policies and agents


def actor(std=0.5, seed=0, hidden=16, n_observations=a1.N_OBSERVATIONS, n_actions=a1.N_ACTIONS):
    """An `Actor` of random weights, whose actions depend on the observation."""
    random = np.random.default_rng(seed)
    sizes = [(hidden, n_observations), (n_actions, hidden)]
    layers = [(0.2 * random.standard_normal(size, dtype=np.float32), np.zeros(size[0], np.float32)) for size in sizes]
    log_std = np.full(n_actions, np.log(std), dtype=np.float32)
    return Actor(layers, np.zeros(n_observations, np.float32), np.ones(n_observations, np.float32), log_std)


class ActorPolicy(Policy):
    """Acts as an `Actor`, on the A1 and elsewhere."""

    def __init__(self, actor):
        self.actor, self.deterministic = actor, False
        self.seed(0)

    def seed(self, seed):
        self.generator = np.random.default_rng(seed)

    def draw_action(self, state):
        return self.actor.act(state, self.deterministic, self.generator)

    def reset(self):
        pass


class Learner(Agent):
    """Keeps the data that it is fitted to, and then acts in a way that depends on every bit of it."""

    def __init__(self, mdp_info):
        self.sizes = mdp_info.observation_space.shape[0], mdp_info.action_space.shape[0]
        super().__init__(mdp_info, ActorPolicy(actor(0.5, 0, 16, *self.sizes)))
        self.datasets, self.infos = [], []

    def fit(self, dataset, **info):
        self.datasets.append(dataset)
        self.infos.append(info)
        self.policy.actor = actor(0.5, zlib.crc32(numbers_of(dataset).tobytes()), 16, *self.sizes)


@pytest.fixture(scope="session")
def make_actor():
    return actor


@pytest.fixture(scope="session")
def controller():
    """The policy, with noise."""
    return PolicyController(actor())


@pytest.fixture(scope="session")
def Learns():
    """The class `Learner`, to be made from an environment's info."""
    return Learner


# Comparison


def numbers_of(dataset):
    return np.array([np.hstack(sample) for sample in dataset])


@pytest.fixture(scope="session")
def numbers():
    """numbers(dataset): mushroom-rl's dataset as one array, (n, ...)."""
    return numbers_of


@pytest.fixture(scope="session")
def bits():
    """bits(gathered): all that `Rollouts` or `WholeEpisodes` hold, as bytes."""

    def of(gathered):
        if isinstance(gathered, Rollouts):
            return {name: getattr(gathered, name).tobytes() for name in (*ARRAYS, "episodes")}
        return [numbers_of(samples).tobytes() for samples in gathered.samples], gathered.episodes.tobytes()

    return of


@pytest.fixture(scope="session")
def gather():
    """gather(source, agent, **amount): start, wait and collect."""

    def run(source, agent, **amount):
        source.start(agent, **amount)
        source.wait()
        return source.collect()

    return run


# Processes


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def busy(pid):
    """CPU time, s."""
    return psutil.Process(pid).cpu_times().user


def meet(folder):
    """In a worker: its process id, once two different workers have come here."""
    (Path(folder) / str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(folder)) == 2)
    return os.getpid()


@pytest.fixture
def processes(tmp_path):
    """Functions about processes; pids(pool): those of a pool's two workers."""

    def pids(pool):
        folder = tmp_path / f"meeting {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return sorted({pid for _, pid in pool.run(meet, [(folder,), (folder,)], lambda index, env: f"task {index}")})

    return SimpleNamespace(wait_until=wait_until, ended=ended, busy=busy, pids=pids)


@pytest.fixture
def warnings(caplog):
    """warnings(): the messages of the pool so far."""
    caplog.set_level(logging.WARNING, "qi_ext.sampling")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "qi_ext.sampling"]
