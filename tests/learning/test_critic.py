import numpy as np
import pytest
import torch

from qi_ext.learning import Critic


@pytest.fixture
def make_critic(make_policy):
    """make_critic(**settings): a critic of 16 units beside a policy."""

    def make(**settings):
        settings = {"hidden": [16], "learning_rate": 1e-2, "epochs": 2, "batch_size": 4} | settings
        return Critic(make_policy().normalizer, np.random.SeedSequence(0), np.random.default_rng(0), **settings)

    return make


def draw(n):
    return torch.randn(n, 37, generator=torch.Generator().manual_seed(0))


def test_each_sample_is_seen_once_an_epoch_in_an_order_of_its_own(make_critic):
    critic, observations, parts = make_critic(), draw(10), []
    critic.network.register_forward_pre_hook(lambda module, inputs: parts.append(inputs[0].tolist()))
    critic.fit(observations, torch.arange(10.0))
    assert [len(part) for part in parts] == [4, 4, 2] * 2
    epochs = [sum(parts[:3], []), sum(parts[3:], [])]
    assert all(sorted(epoch) == sorted(observations.tolist()) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_values_become_each_samples_own_target(make_critic):
    critic, observations, targets = make_critic(epochs=300, batch_size=16), draw(64), torch.linspace(-1.0, 1.0, 64)
    critic.normalizer.update(observations)
    loss = critic.fit(observations, targets)
    assert ((critic.values(observations) - targets) ** 2).mean() < 0.05 * targets.var()
    assert loss > 0.0
