"""Our learner beside the published one, all patches applied: the same batch, weights and random numbers, the same results.

What differs by design is in patches/README.md; here it is set to be the same on both sides.
"""

import numpy as np
import pytest
import torch

from qi_ext.demonstrations import load_demonstrations
from qi_ext.learning.batch import Batch
from qi_ext.learning.gae import generalized_advantages
from qi_ext.robot import a1
from qi_ext.tasks.directions import task_commands
from qi_ext.training.config import make_config
from qi_ext.training.learner import make_learner

TOLERANCE = 1e-4
HIDDEN, CODE, ROWS = [24, 16], 5, 256
SHARED = {
    "symmetry": "none",
    "discriminator_input": "next_state",
    "gamma": 0.99,
    "policy_hidden": HIDDEN,
    "critic_hidden": HIDDEN,
    "discriminator_hidden": HIDDEN,
    "batch_size": ROWS,
}

pytestmark = pytest.mark.usefixtures("all_patched")
both = pytest.mark.parametrize("algorithm", ["gail", "vail"])


@pytest.fixture(scope="module")
def demonstrations():
    return load_demonstrations("trot", task_commands("simple"))


@pytest.fixture(scope="module")
def mdp_info():
    from mushroom_rl.core import MDPInfo
    from mushroom_rl.utils.spaces import Box

    return MDPInfo(Box(-np.ones(37), np.ones(37)), Box(-np.ones(12), np.ones(12)), gamma=0.99, horizon=1000, dt=0.01)


@pytest.fixture
def pair(mdp_info, demonstrations):
    """pair(algorithm): our agent, and the published one with its weights and statistics."""

    def make(algorithm):
        settings = SHARED | {"gradient_penalty": 0.0, "cg_fraction": 1.0, "initial_std": 0.5, "entropy_coefficient": 1e-3}
        if algorithm == "vail":
            settings |= {"code_size": CODE, "beta_learning_rate": 0.01, "information_constraint": 0.5}
        config = make_config("simple", algorithm, **settings)
        ours = make_learner(config, mdp_info, demonstrations, np.random.SeedSequence(3))
        ours.policy.max_log_std[...] = np.log(10.0)
        # What is not to be compared here: that bound, our clipping, and statistics that differ between a state and the next.
        ours.discriminator.normalizer.clip = np.inf
        for name in ("mean", "variance"):
            columns = getattr(ours.discriminator.normalizer, name)
            columns[37:] = columns[:37]
        published = _published(algorithm, mdp_info, demonstrations, config)
        _copy_weights(ours, published)
        return ours, published

    return make


def _published(algorithm, mdp_info, demonstrations, config):
    from imitation_lib.imitation import GAIL_TRPO, VAIL_TRPO
    from imitation_lib.utils import GailDiscriminatorLoss, VDBLoss

    from patches.imitation_lib import small

    pieces = small.pieces(algorithm, n_observations=37, n_actions=12, hidden=HIDDEN, std_0=config.policy.initial_std)
    judge = pieces["discriminator_params"]
    if algorithm == "gail":
        judge["activations"] = ["relu", "relu", "identity"]  # theirs are tanh
        agent, loss = GAIL_TRPO, GailDiscriminatorLoss(entcoeff=0.0)
    else:
        from imitation_lib.utils import FullyConnectedNetwork

        judge |= {"z_size": CODE, "decoder_net": FullyConnectedNetwork((CODE,), (1,), [], ["identity"])}
        agent, loss = VAIL_TRPO, VDBLoss(config.vail.information_constraint, config.vail.beta_learning_rate)
    changes = {
        "mdp_info": mdp_info,
        "loss": loss,
        "demonstrations": demonstrations.dataset(),
        "trpo_standardizer": None,  # the networks have it; the agent is not to change it
        "D_standardizer": None,
        "ent_coeff": config.trpo.entropy_coefficient,
        "max_kl": config.trpo.max_kl,
        "lam": config.trpo.gae_lambda,
        "n_epochs_cg": config.trpo.cg_iterations,
        "cg_damping": config.trpo.cg_damping,
        "train_D_n_th_epoch": 1000,
    }
    return agent(**pieces | changes)


def _copy_weights(ours, published):
    def copy(linears, layers):
        for linear, (weight, bias) in zip(linears, layers, strict=True):
            linear.weight.data.copy_(weight.data)
            linear.bias.data.copy_(bias.data)

    def statistics(standardizer, mean, variance):
        standardizer._count = np.array([1.0])
        standardizer._sum, standardizer.mean = mean.copy(), mean.copy()
        standardizer._sumsq, standardizer.std = variance + mean**2, np.sqrt(np.maximum(variance, 1e-4))

    policy, critic, judge = (regressor.model.network for regressor in (published.policy._mu, published._V, published._D))
    normalizer = ours.policy.normalizer
    statistics(policy._stand, normalizer.mean.numpy(), normalizer.variance.numpy())
    assert critic._stand is policy._stand
    normalizer = ours.discriminator.normalizer
    statistics(judge._stand, normalizer.mean[:37].numpy(), normalizer.variance[:37].numpy())
    copy(policy._linears, ours.policy.network.layers())
    published.policy._log_sigma.data.copy_(ours.policy.log_std.data)
    copy(critic._linears, ours.critic.network.layers())
    if not hasattr(judge, "encoder_net"):
        copy(judge._linears, ours.discriminator.network.layers())
        return
    *hidden, (weight, bias) = ours.discriminator.network.layers()
    copy(judge.encoder_net._linears, hidden)
    copy([judge.mu_out, judge.logvar_out], zip(weight.split(CODE), bias.split(CODE), strict=True))
    copy(judge.decoder_net._linears, ours.discriminator.head.layers())


@pytest.fixture
def columns(demonstrations):
    """A batch of transitions near demonstrated ones, in fragments of 32 rows; numpy arrays in the order of `Batch.upload`."""
    random = np.random.default_rng(5)
    observations = demonstrations.states[: ROWS + 1] + 0.1 * random.standard_normal((ROWS + 1, 37))
    observations[:, a1.GOAL] = demonstrations.states[0, a1.GOAL]  # what never changes ours do not look at
    observations = observations.astype(np.float32)
    actions = (0.5 * random.standard_normal((ROWS, 12))).astype(np.float32)
    last = np.arange(1, ROWS + 1) % 32 == 0
    absorbing = last & (np.arange(ROWS) % 64 < 32)
    return observations[:-1], actions, np.zeros(ROWS, np.float32), observations[1:], absorbing, last


@pytest.fixture
def expert(demonstrations):
    dataset = demonstrations.dataset()
    return dataset["states"][-ROWS:].astype(np.float32), dataset["next_states"][-ROWS:].astype(np.float32)


def _close(found, expected):
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def _discriminator_loss(ours, published, columns, expert):
    """Loss and gradients of ours, loss and network of the published one, of the same transitions and noise."""
    sides = (np.hstack([columns[0], columns[3]]), np.hstack(expert))
    inputs = (ours.discriminator.normalizer(torch.from_numpy(side)) for side in sides)
    torch.manual_seed(11)
    noise = torch.randn(2 * ROWS, CODE)
    loss, _ = ours.discriminator.penalized_loss(*inputs, noise)
    loss.backward()
    states = torch.from_numpy(np.concatenate([columns[0], expert[0]]))
    following = torch.from_numpy(np.concatenate([columns[3], expert[1]]))
    targets = torch.cat([torch.zeros(ROWS, 1), torch.ones(ROWS, 1)])
    torch.manual_seed(11)
    network, criterion = published._D.model.network, published._D.model._loss
    theirs = criterion(network(states, following), targets)
    theirs.backward()
    return loss, theirs


@both
def test_discriminator_losses_and_their_gradients_agree(pair, columns, expert, algorithm):
    ours, published = pair(algorithm)
    loss, theirs = _discriminator_loss(ours, published, columns, expert)
    _close(loss.item(), theirs.item())
    judge, discriminator = published._D.model.network, ours.discriminator
    if algorithm == "gail":
        linears, layers = judge._linears, discriminator.network.layers()
    else:
        linears = [*judge.encoder_net._linears, *judge.decoder_net._linears]
        layers = [*discriminator.network.layers()[:-1], *discriminator.head.layers()]
        codes = discriminator.network.layers()[-1][0].grad.split(CODE)
        for linear, gradient in zip([judge.mu_out, judge.logvar_out], codes, strict=True):
            _close(gradient.numpy(), linear.weight.grad.numpy())
    for linear, (weight, bias) in zip(linears, layers, strict=True):
        assert weight.grad.abs().max() > 1e-3  # or there would be nothing to compare
        _close(weight.grad.numpy(), linear.weight.grad.numpy())
        _close(bias.grad.numpy(), linear.bias.grad.numpy())


def test_the_bottlenecks_weight_agrees(pair, columns, expert):
    ours, published = pair("vail")
    before = ours.discriminator.beta.item()
    _discriminator_loss(ours, published, columns, expert)
    ours.discriminator.after_step()
    assert ours.discriminator.beta.item() != before
    _close(ours.discriminator.beta.item(), published._D.model._loss._beta)


@both
def test_rewards_agree(pair, columns, algorithm):
    ours, published = pair(algorithm)
    rewards = ours.rewards(Batch.upload(*columns, "cpu")).numpy()
    assert rewards.std() > 1e-3
    _close(rewards, published.make_discrim_reward(columns[0], columns[1], columns[3]))


@both
def test_advantages_agree(pair, columns, algorithm):
    from mushroom_rl.utils.value_functions import compute_gae

    ours, published = pair(algorithm)
    observations, _, _, following, absorbing, last = columns
    rewards = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    _, theirs = compute_gae(published._V, observations, following, rewards, absorbing, last, 0.99, 0.97)
    with torch.no_grad():
        values, next_values = (ours.critic.values(torch.from_numpy(x)) for x in (observations, following))
    arrays = (torch.from_numpy(np.asarray(x, np.float32)) for x in (rewards, values, next_values, absorbing, last))
    found = generalized_advantages(*arrays, 0.99, 0.97).numpy()
    _close(found, theirs[:, 0])


@both
def test_policy_steps_agree(pair, columns, algorithm):
    """From the same batch to the weights after the line search: reward, values, advantages, gradient, conjugate gradient."""
    ours, published = pair(algorithm)
    start = ours.policy.get_weights()
    ours._update_statistics = lambda observations: None  # they would be folded into the weights
    ours.update(Batch.upload(*columns, "cpu"))
    published.fit(list(zip(*columns, strict=True)))
    found, theirs = ours.policy.get_weights(), published.policy.get_weights()
    assert ours.diagnostics()["line_search_step"] > 0.0
    _close(found, theirs)
    # Weights are near 1 and a step is small, so that the steps themselves are compared too.
    assert np.linalg.norm(found - theirs) <= TOLERANCE * np.linalg.norm(theirs - start)
