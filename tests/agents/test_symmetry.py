"""Agents that are their own mirror image: how they act, their file, and their ONNX export."""

import numpy as np
import pytest

from qi_ext.agents.acting import Actor, load_agent, save_agent
from qi_ext.agents.onnx_export import export_onnx
from qi_ext.robot import a1, mirror
from qi_ext.utils.errors import UserError


@pytest.fixture(scope="module")
def observations():
    """Fifty, under commands in all directions."""
    observations = np.random.default_rng(1).normal(size=(50, 37)).astype(np.float32)
    angles = 2.0 * np.pi * np.arange(50) / 50
    observations[:, a1.GOAL] = np.stack([np.cos(angles), np.sin(angles), np.full(50, 0.5)], axis=1)
    return observations


def make_actor(symmetry):
    """An actor of random weights, with a std of its own for each action."""
    random = np.random.default_rng(0)
    layers = [(random.normal(size=shape), random.normal(size=shape[0])) for shape in ((16, 37), (12, 16))]
    mean, inverse_std, log_std = random.normal(size=37), random.uniform(0.5, 2.0, 37), random.normal(size=12)
    layers = [tuple(part.astype(np.float32) for part in layer) for layer in layers]
    return Actor(layers, *(part.astype(np.float32) for part in (mean, inverse_std, log_std)), symmetry=symmetry)


@pytest.fixture
def actor():
    return make_actor("mirror")


def test_it_acts_in_the_mirrored_state_as_the_mirror_image_of_itself(actor, observations):
    images = mirror.mirror_observations(observations)
    np.testing.assert_allclose(actor.mean(images), mirror.mirror_actions(actor.mean(observations)), rtol=1e-4, atol=1e-4)


def test_its_action_is_the_mean_of_the_networks_for_both_states(actor, observations):
    plain = make_actor("none")
    of_image = mirror.mirror_actions(plain.mean(mirror.mirror_observations(observations)))
    np.testing.assert_allclose(actor.mean(observations), (plain.mean(observations) + of_image) / 2, rtol=1e-4, atol=1e-4)
    assert np.abs(actor.mean(observations) - plain.mean(observations)).max() > 0.1


def test_it_acts_on_one_observation_as_on_many(actor, observations):
    one_by_one = np.stack([actor.act(observation) for observation in observations])
    np.testing.assert_allclose(one_by_one, actor.act(observations), rtol=1e-4, atol=1e-5)


def test_its_file_keeps_the_symmetry(actor, observations, tmp_path):
    save_agent(tmp_path / "agent.safetensors", actor, {})
    loaded = load_agent(tmp_path / "agent.safetensors")
    assert loaded.symmetry == "mirror"
    np.testing.assert_array_equal(loaded.mean(observations), actor.mean(observations))


@pytest.mark.parametrize("symmetry", ["rotation", "mirror"])  # an unknown one, and one of an A1 only
def test_a_symmetry_that_an_agent_cannot_have_is_refused(tmp_path, symmetry):
    one = np.ones(1, dtype=np.float32)
    save_agent(tmp_path / "agent.safetensors", Actor([(one[None], one)], one, one, one, symmetry=symmetry), {})
    with pytest.raises(UserError, match=f"symmetry is '{symmetry}'"):
        load_agent(tmp_path / "agent.safetensors")


def test_its_onnx_file_is_symmetric_too(actor, observations, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export_onnx(actor, tmp_path / "walk.onnx") < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "walk.onnx"), providers=["CPUExecutionProvider"])
    (actions,) = session.run(["action"], {"observation": observations})
    np.testing.assert_allclose(actions, actor.act(observations), rtol=1e-4, atol=1e-5)
