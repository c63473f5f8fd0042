"""The published way of building agents on a GPU: a pretended one, and a real one where there is one."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from patches.imitation_lib import small

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])
MIXED = "Expected all tensors to be on the same device"

READ = """
import sys, numpy as np, patches
patches.apply("imitation_lib", "mushroom_rl")
from mushroom_rl.core import Agent
agent = Agent.load(sys.argv[1])
assert not agent.policy.use_cuda
np.save(sys.argv[2], [agent.draw_action(row) for row in np.load(sys.argv[3])])
"""


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request):
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("torch finds no GPU")
        yield None
    else:
        yield request.getfixturevalue("fake_cuda")


def build(algorithm, **changes):
    """An agent as the published launchers build it for a GPU: use_cuda for the networks, and none for the Standardizers."""
    pieces = small.pieces(algorithm)
    for name in ("policy_params", "critic_params", "discriminator_params"):
        pieces[name]["use_cuda"] = True
    make = {"gail": small.gail, "vail": small.vail}[algorithm]
    return make(**pieces | {"sw": small.Writer()} | changes)


def learn(agent, updates=3):
    for seed in range(updates):
        agent.draw_action(np.zeros(small.N_OBSERVATIONS))
        agent.fit(small.dataset(seed=seed))


@both
def test_without_patches_the_first_fit_ends_in_an_error_about_devices(gpu, algorithm):
    with pytest.raises(RuntimeError, match=MIXED):
        learn(build(algorithm))


@both
def test_with_patches_it_learns_and_logs_what_is_true(gpu, patched, algorithm):
    agent = build(algorithm)
    before = agent.policy.get_weights()
    learn(agent)
    assert agent.policy._log_sigma.device.type == "cuda"
    assert not np.array_equal(before, agent.policy.get_weights())
    assert all(np.isfinite(value) for points in agent._sw.scalars.values() for _, value in points)
    assert [step for step, _ in agent._sw.scalars["kl"]] == [1, 2, 3]
    if algorithm == "vail":
        beta = agent._D.model._loss._beta
        assert isinstance(beta, float)
        assert agent._sw.scalars["Beta"][-1][1] == pytest.approx(beta)


@both
def test_it_learns_the_same_as_on_the_cpu(all_patched, fake_cuda, algorithm):
    """Needs mushroom_rl/cg-aliasing too, without which the CPU runs another conjugate gradient."""
    weights = []
    for use_cuda in (True, False):
        agent = build(algorithm) if use_cuda else {"gail": small.gail, "vail": small.vail}[algorithm](sw=small.Writer())
        np.random.seed(0)  # noqa: NPY002 (it is the one that mushroom-rl shuffles with)
        learn(agent)
        weights.append(agent.policy.get_weights())
    assert np.array_equal(*weights)


@both
def test_what_it_saves_is_loaded_where_there_is_no_gpu(gpu, patched, algorithm, tmp_path):
    agent = build(algorithm)
    learn(agent)
    agent.policy._log_sigma.data.fill_(-30.0)  # so that actions are means
    observations = np.random.default_rng(0).normal(size=(8, small.N_OBSERVATIONS))
    agent._trpo_standardizer.eval()  # acting is to add nothing to the statistics
    expected = [agent.draw_action(row) for row in observations]
    agent.save(tmp_path / "agent.msh", full_save=True)
    np.save(tmp_path / "observations.npy", observations)
    command = [sys.executable, "-c", READ, *(tmp_path / name for name in ("agent.msh", "actions.npy", "observations.npy"))]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), expected, atol=1e-6)
