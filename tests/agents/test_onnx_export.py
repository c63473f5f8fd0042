"""The ONNX file beside the agent it was made from, both run."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from qi_ext.agents.acting import Actor
from qi_ext.agents.onnx_export import export_onnx
from qi_ext.demonstrations import load_demonstrations
from qi_ext.robot import a1
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError


@pytest.fixture(scope="module")
def demonstrated():
    """Observations of the trot in each of the 8 directions, (4400, 37)."""
    return load_demonstrations("trot", task_commands("hard")).states[::10].astype(np.float32)


@pytest.fixture(scope="module")
def make_actor(demonstrated):
    """make_actor(*hidden): an A1 policy with a normalizer of demonstrated statistics and torques of the order of 1."""

    def make(*hidden, n_observations=37, symmetry="none", activation="relu", **metadata):
        random = np.random.default_rng(0)
        sizes = [n_observations, *hidden, 12]
        layers = [
            (
                random.normal(0.0, n_in**-0.5, (n_out, n_in)).astype(np.float32),
                random.normal(0.0, 0.1, n_out).astype(np.float32),
            )
            for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True)
        ]
        inverse_std = 1.0 / np.maximum(demonstrated.std(axis=0), 0.01)
        statistics = (demonstrated.mean(axis=0)[:n_observations], inverse_std[:n_observations])
        return Actor(layers, *statistics, np.zeros(12, dtype=np.float32), metadata, symmetry, activation)

    return make


@pytest.fixture
def exported(tmp_path):
    """exported(actor): a function that runs the file of `actor` in onnxruntime."""

    def run(actor):
        export_onnx(actor, tmp_path / "walk.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "walk.onnx", providers=["CPUExecutionProvider"])
        return lambda observations: session.run(["action"], {"observation": observations})[0]

    return run


@pytest.mark.parametrize(
    ("hidden", "options"),
    [((), {}), ((512, 256), {}), ((16,), {"symmetry": "mirror"}), ((16, 16), {"activation": "tanh"})],
    ids=str,
)
def test_demonstrated_observations_give_the_agents_actions(make_actor, exported, demonstrated, hidden, options):
    actor = make_actor(*hidden, **options)
    actions = exported(actor)(demonstrated)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, actor.act(demonstrated), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e6])
def test_observations_of_any_size_give_the_agents_actions_not_clipped(make_actor, exported, size):
    actor = make_actor(16)
    observations = np.random.default_rng(0).uniform(-size, size, (100, 37)).astype(np.float32)
    expected = actor.act(observations)
    largest = np.abs(expected).max()
    assert largest > 1.0 or not size
    np.testing.assert_allclose(exported(actor)(observations), expected, rtol=0.0, atol=1e-5 * max(1.0, largest))


def test_an_observation_that_is_not_a_number_does_not_become_a_torque(make_actor, exported, demonstrated):
    observations = demonstrated[:2].copy()
    observations[1, 5] = np.nan
    actions = exported(make_actor())(observations)
    assert np.all(np.isfinite(actions[0]))
    assert np.all(np.isnan(actions[1]))


def test_the_file_stands_alone_and_runtimes_of_2020_read_it(make_actor, tmp_path):
    export_onnx(make_actor(512, 256), tmp_path / "walk.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["walk.onnx"]
    model = onnx.load(tmp_path / "walk.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (7, [("", 13)])
    assert (tmp_path / "walk.onnx").stat().st_size < 1_000_000


def test_names_units_and_origin_are_in_the_file(make_actor, exported, tmp_path):
    exported(make_actor(16, task="hard", algorithm="vail", step="200000"))
    session = onnxruntime.InferenceSession(tmp_path / "walk.onnx", providers=["CPUExecutionProvider"])
    ports = [(port.name, port.type, port.shape) for port in (*session.get_inputs(), *session.get_outputs())]
    assert ports == [("observation", "tensor(float)", ["batch", 37]), ("action", "tensor(float)", ["batch", 12])]
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["task"], metadata["algorithm"], metadata["step"]) == ("hard", "vail", "200000")
    assert metadata["control_rate_hz"] == "100"
    assert metadata["action_clip"].startswith("[-1, 1]")
    lists = {name: json.loads(value) for name, value in metadata.items() if name.endswith(("_names", "_units"))}
    lengths = {"observation_names": 37, "observation_units": 37, "action_names": 12, "action_units": 12}
    assert {name: len(value) for name, value in lists.items()} == lengths
    assert lists["observation_names"][a1.YAW] == "position trunk_rotation"
    assert lists["observation_names"][a1.TRUNK_VX] == "velocity trunk_tx"
    assert lists["observation_names"][36] == "commanded speed"
    assert (lists["observation_units"][a1.YAW], lists["observation_units"][a1.TRUNK_VX]) == ("rad", "m/s")
    assert (lists["action_names"][0], lists["action_units"][0]) == ("torque FR_hip", "34 Nm")


def test_the_same_agent_makes_the_same_bytes(make_actor, tmp_path):
    export_onnx(make_actor(16, task="hard", step="1"), tmp_path / "a.onnx")
    export_onnx(make_actor(16, step="1", task="hard"), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_largest_difference_is_returned_relative_to_huge_torques(make_actor, tmp_path):
    actor = make_actor(512, 256)
    layers = [(30.0 * weight.T, bias) for weight, bias in actor.layers]
    huge = Actor(layers, actor.observation_mean, actor.observation_inverse_std, np.zeros(12, dtype=np.float32))
    for each in (actor, huge):
        assert 0.0 <= export_onnx(each, tmp_path / "walk.onnx") < 1e-5


def test_a_file_that_would_not_act_as_the_agent_is_not_written(make_actor, tmp_path, monkeypatch):
    actor = make_actor(16)
    monkeypatch.setattr(actor, "mean", lambda observations: Actor.mean(actor, observations) + 1e-3)
    (tmp_path / "walk.onnx").write_bytes(b"older")
    with pytest.raises(FloatingPointError, match="walk.onnx"):
        export_onnx(actor, tmp_path / "walk.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["walk.onnx"]
    assert (tmp_path / "walk.onnx").read_bytes() == b"older"


def test_without_onnx_it_says_what_to_install_and_writes_nothing(make_actor, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)  # makes an import fail
    with pytest.raises(UserError, match="^onnx is not installed; pip install onnx"):
        export_onnx(make_actor(16), tmp_path / "walk.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_agent_of_another_robot_is_refused(make_actor, tmp_path):
    with pytest.raises(UserError, match="^the agent has 36 observations and 12 actions"):
        export_onnx(make_actor(16, n_observations=36), tmp_path / "walk.onnx")
    assert list(tmp_path.iterdir()) == []
