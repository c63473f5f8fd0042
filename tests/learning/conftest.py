from contextlib import closing

import numpy as np
import pytest
import torch

from qi_ext.demonstrations import load_demonstrations
from qi_ext.learning import GAIL, VAIL
from qi_ext.learning.batch import Batch
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.trpo import TRPO
from qi_ext.robot.commands import task_commands
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.config import make_config

SMALL = {
    "policy_hidden": [16],
    "critic_hidden": [16],
    "discriminator_hidden": [16],
    "discriminator_batch_size": 32,
    "critic_batch_size": 32,
    "batch_size": 64,
}


@pytest.fixture(autouse=True)
def one_thread():
    """Matrices this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def demonstrations():
    return load_demonstrations("trot", task_commands("simple"))


@pytest.fixture(scope="session")
def shared_environment(demonstrations):
    return QuadrupedDirection("simple", horizon=50, demonstrations=demonstrations)


@pytest.fixture
def environment(shared_environment):
    """The real task, its episodes at most 50 steps long, freshly seeded."""
    shared_environment.seed(0)
    return shared_environment


@pytest.fixture
def small_config():
    """small_config(algorithm="gail", **settings): a config with networks of 16 units and batches of 64."""

    def make(algorithm="gail", **settings):
        return make_config("simple", algorithm, **(SMALL | settings))

    return make


@pytest.fixture
def make_policy():
    """make_policy(hidden=(16,), seed=0, **settings): a policy of the A1's sizes, or others."""

    def make(hidden=(16,), seed=0, n_observations=37, n_actions=12, initial_std=0.5, device="cpu"):
        return GaussianPolicy(n_observations, n_actions, list(hidden), initial_std, np.random.SeedSequence(seed), device)

    return make


@pytest.fixture
def make_agent(shared_environment, demonstrations, small_config):
    """make_agent(algorithm="gail", seed=0, device="cpu", **settings): an agent of small networks for the real task."""

    def make(algorithm="gail", seed=0, device="cpu", **settings):
        config = small_config(algorithm, **settings)
        return {"gail": GAIL, "vail": VAIL}[algorithm](
            shared_environment.info, demonstrations, config, np.random.SeedSequence(seed), device
        )

    return make


@pytest.fixture
def make_trpo(shared_environment, small_config, make_policy):
    """make_trpo(seed=0, hidden=(16,), device="cpu", **settings): plain TRPO on a policy of the A1's sizes."""

    def make(seed=0, hidden=(16,), device="cpu", initial_std=0.5, **settings):
        # Nothing is cloned here, but the config wants every standard deviation within its bounds.
        config = small_config(initial_std=initial_std, warm_start_std=initial_std, **settings)
        policy = make_policy(hidden, seed=seed, initial_std=initial_std, device=device)
        return TRPO(shared_environment.info, policy, config, np.random.SeedSequence(seed))

    return make


@pytest.fixture
def make_columns(demonstrations):
    """make_columns(policy, n=64, seed=0, shift=0.0): transitions, numpy arrays in the order of `Batch.upload`.

    Actions are of the policy's own, states near demonstrated ones: so near that no normalizer clips them. A row that is not
    `last` is followed by the one its next observation is of. shift: of all states, in standard deviations.
    """
    mean, std = demonstrations.states.mean(axis=0), demonstrations.states.std(axis=0)

    def make(policy, n=64, seed=0, shift=0.0):
        random = np.random.default_rng(seed)
        rows = random.integers(len(demonstrations.states) - 1, size=n)
        observations, following = (
            np.clip(
                demonstrations.states[rows + i] + std * (shift + 0.3 * random.standard_normal((n, 37))),
                mean - 4 * std,
                mean + 4 * std,
            ).astype(np.float32)
            for i in (0, 1)
        )
        actions = policy.actor.act(observations, deterministic=False, generator=random)
        last = random.random(n) < 0.1
        last[-1] = True
        (goes_on,) = np.nonzero(~last)
        following[goes_on] = observations[goes_on + 1]
        rewards = random.standard_normal(n).astype(np.float32)
        return observations, actions, rewards, following, last & (random.random(n) < 0.5), last

    return make


@pytest.fixture
def make_batch(make_columns):
    """make_batch(policy, n=64, seed=0, shift=0.0): the same as a `Batch` on the policy's device."""

    def make(policy, n=64, seed=0, shift=0.0):
        return Batch.upload(*make_columns(policy, n, seed, shift), policy.device)

    return make


@pytest.fixture
def make_dataset(make_columns):
    """make_dataset(policy, n=64, seed=0): the same in the form of mushroom-rl's Core, a list of tuples."""

    def make(policy, n=64, seed=0):
        return list(zip(*make_columns(policy, n, seed), strict=True))

    return make


@pytest.fixture(scope="session")
def sampler(demonstrations):
    """Lanes of the real task, its episodes at most 12 steps long, in this process."""
    environment = QuadrupedDirection("simple", horizon=12, demonstrations=demonstrations)
    with closing(BatchedSampler(environment, pool="serial")) as sampler:
        yield sampler


@pytest.fixture
def make_rollouts(sampler):
    """make_rollouts(policy, seed=0): 6 lanes of 50 steps, with episodes that fall, that time out, and that are cut off."""

    def make(policy, seed=0):
        lanes = sampler.lanes(np.random.SeedSequence(seed).spawn(6))
        _, rollouts = sampler.fragment(lanes, policy.actor, 50)
        assert rollouts.absorbing.any()
        assert rollouts.truncated.any()
        assert not (rollouts.absorbing | rollouts.truncated)[:, -1].all()
        return rollouts

    return make
