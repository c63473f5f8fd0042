"""What the tests of sampling share: a task of short episodes, policies and agents of small networks, and exact comparison."""

import logging
import signal

import numpy as np
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.demonstrations import formats
from qi_ext.robot import a1
from qi_ext.sampling.rollouts import ARRAYS

HANGS_AFTER = 120  # s
HORIZON = 8  # torques at random throw the robot over after 2 to 30 steps: some episodes fall, others reach this limit


@pytest.fixture(scope="session")
def short():
    """`QuadrupedDirection("hard")`, its episodes at most 8 steps long."""
    from qi_ext.tasks import QuadrupedDirection

    return QuadrupedDirection("hard", horizon=HORIZON, seed=0)


@pytest.fixture(scope="session")
def sampler(short):
    """A `BatchedSampler` of `short`, in this process, in blocks of 4."""
    from qi_ext.sampling.pool_source import BatchedSampler

    return BatchedSampler(short, lanes_per_block=4, pool="serial")


@pytest.fixture(scope="session")
def trajectories(gliding, tmp_path_factory):
    """`traj_params` of loco-mujoco: 8 directions, 20 samples each."""
    path = tmp_path_factory.mktemp("stock") / "gliding.npz"
    formats.write_loco_mujoco_real(path, gliding([45.0 * i for i in range(8)], rows=20))
    return {"traj_path": path, "traj_dt": 1 / 500, "control_dt": 1 / 100}


@pytest.fixture(scope="session")
def make_stock(trajectories):
    """make_stock(**settings): loco-mujoco's `UnitreeA1` with trajectories, its episodes at most 8 steps long."""
    from loco_mujoco.environments import UnitreeA1

    def make(**settings):
        settings = {"reward_type": "velocity_vector", "reward_params": {}, "traj_params": trajectories} | settings
        return UnitreeA1(horizon=HORIZON, **settings)

    return make


@pytest.fixture(scope="session")
def make_actor():
    """make_actor(std=0.5, seed=0, hidden=16): an `Actor` of random weights whose actions depend on the observation."""

    def make(std=0.5, seed=0, hidden=16):
        random = np.random.default_rng(seed)
        sizes = [(hidden, a1.N_OBSERVATIONS), (a1.N_ACTIONS, hidden)]
        layers = [(0.2 * random.standard_normal(size, dtype=np.float32), np.zeros(size[0], np.float32)) for size in sizes]
        log_std = np.full(a1.N_ACTIONS, np.log(std), dtype=np.float32)
        return Actor(layers, np.zeros(a1.N_OBSERVATIONS, np.float32), np.ones(a1.N_OBSERVATIONS, np.float32), log_std)

    return make


@pytest.fixture(scope="session")
def seeds():
    """seeds(n, run=0): n different SeedSequences, the first ones the same for any n."""

    def make(n, run=0):
        return [np.random.SeedSequence([run, number]) for number in range(n)]

    return make


@pytest.fixture(scope="session")
def bits():
    """bits(rollouts): every array of `Rollouts` as bytes, to be compared exactly."""

    def of(rollouts):
        return {name: getattr(rollouts, name).tobytes() for name in (*ARRAYS, "episodes")}

    return of


@pytest.fixture(scope="module")
def one_thread():
    """The learner's matrices are so small here that they are slower on two; of a module, because its agents may be, too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_config():
    """A config whose networks and minibatches are small."""
    from qi_ext.training.config import make_config

    small = {
        "policy_hidden": [16],
        "critic_hidden": [16],
        "discriminator_hidden": [16],
        "discriminator_batch_size": 32,
        "critic_batch_size": 32,
    }

    return make_config("hard", "gail", **small)


@pytest.fixture(scope="session")
def make_agent(small_config):
    """make_agent(environment, seed=0): a learner of small networks for a `QuadrupedDirection`."""
    from qi_ext.learning import make_learner

    def make(environment, seed=0):
        return make_learner(small_config, environment.info, environment.demonstrations, np.random.SeedSequence(seed))

    return make


@pytest.fixture(scope="session")
def learned():
    """learned(agent): all that a learner changes when it learns, and its generators, to be compared exactly."""
    return lambda agent: {name: value.tobytes() for name, value in agent.state().items()}


@pytest.fixture
def warnings(caplog):
    """What the pool has said."""
    caplog.set_level(logging.WARNING, "qi_ext.sampling")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "qi_ext.sampling"]


@pytest.fixture
def deadline():
    """A test that hangs fails."""

    def out_of_time(number, frame):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(HANGS_AFTER)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
