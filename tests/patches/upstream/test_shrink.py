"""`python -m patches.shrink` on an agent that imitation-lib itself has saved, without patches."""

import numpy as np
import torch

from patches.imitation_lib import small
from patches.shrink import shrink
from qi_ext.robot import a1


def test_an_agent_of_imitation_lib_itself_acts_the_same(tmp_path):
    random = np.random.default_rng(0)
    seen = random.normal(random.standard_normal(37), random.uniform(0.2, 2.0, 37), (400, 37)).astype(np.float32)
    direction = random.choice(np.arange(8) * np.pi / 4, 400)
    seen[:, a1.GOAL] = np.stack([np.cos(direction), np.sin(direction), np.full(400, 0.5)], 1)
    pieces = small.pieces(n_observations=37, n_actions=12, hidden=(512, 256))
    agent = small.gail(**pieces | {"demonstrations": {"states": seen}})
    agent._trpo_standardizer.update_mean_std(seen)
    agent.save(tmp_path / "agent.msh", full_save=True)
    assert (tmp_path / "agent.msh").stat().st_size > 1e6
    actor, metadata = shrink(tmp_path / "agent.msh")
    network, expected = agent.policy._mu.model.network, torch.from_numpy(seen)
    expected = ((expected - torch.tensor(network._stand.mean)) / torch.tensor(network._stand.std)).float()
    for layer, activation in zip(network._linears, network._activations, strict=True):
        expected = activation(layer(expected))
    np.testing.assert_allclose(actor.mean(seen), expected.detach().numpy(), rtol=0.0, atol=1e-5)
    assert (metadata["task"], metadata["speed"]) == ("hard", "0.50")
