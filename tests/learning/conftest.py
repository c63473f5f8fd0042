import numpy as np
import pytest
import torch
from mushroom_rl.core import MDPInfo
from mushroom_rl.utils.spaces import Box

from qi_ext.demonstrations import load_demonstrations
from qi_ext.learning import TRPO, GaussianPolicy
from qi_ext.learning.batch import Batch
from qi_ext.sampling.rollouts import EPISODE, Rollouts
from qi_ext.tasks.directions import task_commands
from qi_ext.training import learner
from qi_ext.training.config import make_config

SMALL = {
    "policy_hidden": [16],
    "critic_hidden": [16],
    "discriminator_hidden": [16],
    "discriminator_batch_size": 32,
    "critic_batch_size": 32,
    "batch_size": 64,
}
STEP = {
    "max_kl": 0.01,
    "final_max_kl": 0.002,
    "min_std": 0.01,
    "entropy_coefficient": 0.0,
    "cg_iterations": 10,
    "cg_damping": 0.1,
    "cg_fraction": 1.0,
    "line_search_steps": 10,
}
MDP_INFO = MDPInfo(Box(-np.ones(37), np.ones(37)), Box(-np.ones(12), np.ones(12)), gamma=0.99, horizon=1000, dt=0.01)


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


@pytest.fixture
def small_config():
    """small_config(algorithm="gail", **settings): a config with networks of 16 units and batches of 64."""
    return lambda algorithm="gail", **settings: make_config("simple", algorithm, **(SMALL | settings))


@pytest.fixture
def make_policy():
    """make_policy(hidden=(16,), seed=0, **settings): a policy of the A1's sizes, or others."""

    def make(hidden=(16,), seed=0, n_observations=37, n_actions=12, initial_std=0.5, device="cpu"):
        return GaussianPolicy(n_observations, n_actions, list(hidden), initial_std, np.random.SeedSequence(seed), device)

    return make


@pytest.fixture
def make_trpo(make_policy):
    """make_trpo(hidden=(16,), seed=0, device="cpu", initial_std=0.5, **settings): TRPO on a policy of the A1's sizes."""

    def make(hidden=(16,), seed=0, device="cpu", initial_std=0.5, policy=None, **settings):
        policy = policy or make_policy(hidden, seed=seed, initial_std=initial_std, device=device)
        return TRPO(policy, np.random.default_rng(seed), initial_std=initial_std, **(STEP | settings))

    return make


@pytest.fixture
def make_learner(demonstrations, small_config):
    """make_learner(algorithm="gail", seed=0, device="cpu", **settings): a learner of small networks."""

    def make(algorithm="gail", seed=0, device="cpu", **settings):
        config = small_config(algorithm, **settings)
        return learner.make_learner(config, MDP_INFO, demonstrations, np.random.SeedSequence(seed), device)

    return make


@pytest.fixture
def make_columns(demonstrations):
    """make_columns(policy, shape=(64,), seed=0, shift=0.0): transitions, numpy arrays in the order of `Batch.upload`.

    Actions are the policy's own, states near demonstrated ones: so near that no normalizer clips them. A row that is not `last`
    is followed by the row of its next observation; the end of each env is last. shift: of all states, in standard deviations.
    """
    mean, std = demonstrations.states.mean(axis=0), demonstrations.states.std(axis=0)

    def make(policy, shape=(64,), seed=0, shift=0.0):
        random = np.random.default_rng(seed)
        rows = random.integers(len(demonstrations.states) - 1, size=shape)
        observations, following = (
            np.clip(
                demonstrations.states[rows + i] + std * (shift + 0.3 * random.standard_normal((*shape, 37))),
                mean - 4 * std,
                mean + 4 * std,
            ).astype(np.float32)
            for i in (0, 1)
        )
        actions = policy.actor.act(observations, deterministic=False, generator=random)
        last = random.random(shape) < 0.1
        last[..., -1] = True
        following[..., :-1, :] = np.where(last[..., :-1, None], following[..., :-1, :], observations[..., 1:, :])
        rewards = random.standard_normal(shape).astype(np.float32)
        return observations, actions, rewards, following, last & (random.random(shape) < 0.5), last

    return make


@pytest.fixture
def make_batch(make_columns):
    """make_batch(policy, shape=(64,), seed=0, shift=0.0): the same as a `Batch` on the policy's device."""
    return lambda policy, *shape_seed_shift, **more: Batch.upload(
        *make_columns(policy, *shape_seed_shift, **more), policy.device
    )


@pytest.fixture
def make_rollouts(make_columns):
    """make_rollouts(policy, seed=0): the same as `Rollouts` of 4 envs and 16 steps."""

    def make(policy, seed=0):
        observations, actions, rewards, following, absorbing, last = make_columns(policy, (4, 16), seed)
        truncated, episodes = last & ~absorbing, np.empty(0, dtype=EPISODE)
        return Rollouts(observations, actions, rewards, following, absorbing, truncated, last, episodes)

    return make
