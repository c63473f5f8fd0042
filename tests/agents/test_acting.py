import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import qi_ext
from qi_ext.agents.acting import Actor, load_agent, save_agent
from qi_ext.utils.errors import UserError

ROOT = Path(qi_ext.__file__).parents[1]


@pytest.fixture
def actor():
    """Two inputs, two hidden units, one action: small enough to do by hand."""
    return Actor(
        layers=[
            (np.array([[1.0, 2.0], [-1.0, 0.0]], dtype=np.float32), np.array([0.5, 0.0], dtype=np.float32)),
            (np.array([[3.0, 5.0]], dtype=np.float32), np.array([-1.0], dtype=np.float32)),
        ],
        observation_mean=np.array([1.0, 0.0], dtype=np.float32),
        observation_inverse_std=np.array([2.0, 1.0], dtype=np.float32),
        log_std=np.array([np.log(0.5)], dtype=np.float32),
    )


def tensors(*sizes):
    """What an agent file with layers of these sizes holds."""
    random = np.random.default_rng(0)
    shapes = {"log_std": sizes[-1:], "observation_mean": sizes[:1], "observation_inverse_std": sizes[:1]}
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        shapes |= {f"layer{i}.weight": (n_out, n_in), f"layer{i}.bias": (n_out,)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def agent_file(tmp_path):
    """agent_file(tensors, **metadata): the path of an agent file of layers 3, 4, 2 unless told otherwise."""

    def make(values=None, **metadata):
        path = tmp_path / "agent.safetensors"
        save_file(values or tensors(3, 4, 2), path, metadata={"format_version": "1", "layers": "3,4,2"} | metadata)
        return path

    return make


def refusal(path):
    """The message that `path` is refused with, which must be one line that names it."""
    with pytest.raises(UserError) as caught:
        load_agent(path)
    message = str(caught.value)
    assert message.startswith("agent: ")
    assert str(path) in message
    assert "\n" not in message
    return message


def test_mean_by_hand(actor):
    # Normalized (1, 2): hidden (5.5, -1 -> 0). Normalized (-1, 0): hidden (-0.5 -> 0, 1). Nothing is clipped.
    np.testing.assert_allclose(actor.act(np.array([[1.5, 2.0], [0.5, 0.0]])), [[3.0 * 5.5 - 1.0], [5.0 - 1.0]], rtol=1e-6)


def test_mean_by_hand_with_tanh(actor):
    actor.activation = "tanh"
    # Normalized (1, 2): hidden tanh(5.5), tanh(-1).
    np.testing.assert_allclose(actor.act([1.5, 2.0]), [3.0 * np.tanh(5.5) - 5.0 * np.tanh(1.0) - 1.0], rtol=1e-6)


def test_stochastic_actions_have_the_stds_of_the_policy(actor):
    observations = np.tile([1.5, 2.0], (20_000, 1))
    noise = actor.act(observations, deterministic=False, generator=np.random.default_rng(0)) - actor.act(observations)
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)


def test_a_stochastic_action_without_a_generator_is_refused(actor):
    with pytest.raises(ValueError, match="generator="):
        actor.act(np.zeros(2), deterministic=False)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e39])
def test_an_observation_that_is_not_finite_in_float32_is_refused(actor, bad):
    with pytest.raises(ValueError, match="act: an observation holds a NaN or an infinite number"):
        actor.act(np.array([[0.0, 1.0], [bad, 0.0]]))


def test_an_observation_that_is_not_real_is_refused(actor):
    with pytest.raises(ValueError, match="act: observations must be real numbers, not complex128"):
        actor.act(np.array([0.0, 1j]))


def test_the_same_agent_makes_the_same_file(actor, tmp_path):
    about = {f"name {i}": str(i) for i in range(20)}
    contents = set()
    for i in range(5):
        save_agent(tmp_path / str(i), actor, dict(sorted(about.items(), key=lambda item: hash((i, item)))))
        contents.add((tmp_path / str(i)).read_bytes())
    assert len(contents) == 1
    assert load_agent(tmp_path / "0").metadata.items() >= about.items()


def test_an_observation_of_the_wrong_shape_is_refused_with_both_shapes(actor):
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\), not \(2, 1\)"):
        actor.act(np.zeros((2, 1)))


def test_a_loaded_agent_is_the_actor_of_the_file(agent_file):
    values = tensors(3, 4, 2)
    agent = load_agent(agent_file(values, task="hard"))
    layers = [(values[f"layer{i}.weight"], values[f"layer{i}.bias"]) for i in range(2)]
    expected = Actor(layers, values["observation_mean"], values["observation_inverse_std"], values["log_std"])
    observations = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(agent.act(observations), expected.act(observations))
    np.testing.assert_array_equal(agent.std, expected.std)
    assert agent.metadata["task"] == "hard"


def test_a_file_says_its_activation_one_without_means_relu_and_another_is_refused_by_name(actor, agent_file, tmp_path):
    save_agent(tmp_path / "saved", actor, {})
    assert load_agent(tmp_path / "saved").metadata["activation"] == "relu"
    assert load_agent(agent_file()).activation == load_agent(agent_file(activation="relu")).activation == "relu"
    assert "the activation is 'selu', but this program knows relu, tanh" in refusal(agent_file(activation="selu"))


def test_finite_weights_whose_actions_would_not_be_are_refused(agent_file):
    values = tensors(3, 4, 2)
    values["layer0.weight"] = np.full_like(values["layer0.weight"], 1e38)
    assert "its weights are so large" in refusal(agent_file(values))


def test_loading_and_acting_import_neither_torch_nor_the_simulator(agent_file):
    program = (
        "import sys, numpy\n"
        "sys.modules |= dict.fromkeys(['torch', 'loco_mujoco', 'mushroom_rl'])\n"  # None there makes an import fail
        "import qi_ext\n"
        "print(qi_ext.load_agent(sys.argv[1]).act(numpy.zeros(3)).shape)\n"
        "print(sorted({'torch', 'loco_mujoco', 'mujoco'} & {name for name, module in sys.modules.items() if module}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, agent_file()],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("(2,)\n[]\n", "")


@pytest.mark.parametrize("name", ["nothing.safetensors", "", "x" * 400])
def test_a_path_that_is_no_file_is_refused(tmp_path, name):
    """A missing file, a directory, and a name too long for the system."""
    refusal(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100)], ids=["empty", "zip"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    assert "not a safetensors file" in refusal(tmp_path / "other")


def test_of_an_agent_of_the_libraries_it_says_how_to_make_one_of_ours(tmp_path):
    (tmp_path / "agent.msh").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "python -m patches.shrink" in refusal(tmp_path / "agent.msh")


def test_a_file_cut_short_is_refused(agent_file):
    path = agent_file()
    path.write_bytes(path.read_bytes()[:-4])
    assert "damaged" in refusal(path)


def test_another_format_version_is_refused_by_name(agent_file):
    assert repr("99") in refusal(agent_file(format_version="99"))


def test_tensors_without_metadata_are_refused(tmp_path):
    save_file(tensors(3, 4, 2), tmp_path / "agent.safetensors")
    assert "version" in refusal(tmp_path / "agent.safetensors")


@pytest.mark.parametrize("layers", ["", "3", "3,x,2", "0,2", "-3,2", "3," * 1000 + "2", "9" * 5000 + ",2"])
def test_layers_that_are_no_sizes_of_a_network_are_refused(agent_file, layers):
    refusal(agent_file(layers=layers))


FAULTS = {
    "missing": lambda tensor: None,
    "another shape": lambda tensor: tensor[..., :-1].copy(),
    "not a number": lambda tensor: np.full_like(tensor, np.nan),
    "infinite": lambda tensor: np.full_like(tensor, np.inf),
    "doubles": lambda tensor: tensor.astype(np.float64),
}


@pytest.mark.parametrize(("name", "fault"), [*(("layer0.weight", fault) for fault in FAULTS), ("log_std", "missing")])
def test_a_wrong_tensor_is_refused_by_name(agent_file, name, fault):
    values = tensors(3, 4, 2)
    wrong = FAULTS[fault](values.pop(name))
    assert name in refusal(agent_file(values if wrong is None else values | {name: wrong}))


def test_a_number_format_that_numpy_does_not_know_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    path = tmp_path / "agent.safetensors"
    values = {name: torch.from_numpy(value).to(torch.bfloat16) for name, value in tensors(3, 4, 2).items()}
    save_torch(values, path, metadata={"format_version": "1", "layers": "3,4,2"})
    refusal(path)


def test_of_a_run_directory_the_agent_is_named(tmp_path):
    assert str(tmp_path / "agent.safetensors") in refusal(tmp_path)
