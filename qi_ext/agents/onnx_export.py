"""Export of an agent as one ONNX file, normalizer included, that runs on a robot without this project."""

import json

import numpy as np

from qi_ext import __version__
from qi_ext.robot import a1, mirror
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole

# Old on purpose: nothing here needs newer ones, and runtimes since onnxruntime 1.6 (end of 2020) read the file.
OPERATORS = {"relu": "Relu", "tanh": "Tanh"}  # of ONNX, by the activation of an `Actor`
OPSET = 13
IR_VERSION = 7

TOLERANCE = 1e-5
DOCUMENTATION = (
    "Policy of a Unitree A1. observation: (batch, 37), float32, not normalized: the normalizer is inside; trunk_tz is relative "
    "to a height of 0.43 m, trunk_list, trunk_tilt and trunk_rotation are roll, pitch and yaw, and the trunk's velocities are "
    "in the world frame. action: (batch, 12), float32, mean torques in units of "
    f"{a1.MAX_TORQUE:g} Nm, not clipped: clip them to [-1, 1], as the actuators of the simulation do. The metadata name every "
    "entry and its unit."
)


def export_onnx(actor, path):
    """Write the deterministic policy of `actor`, an `Actor` of the A1, as one ONNX file at `path`, whole or not at all.

    Input `observation`, (batch, 37), raw; output `action`, (batch, 12), equal to `actor.act(observation)`, not clipped; both
    float32, batch of any size. The metadata are the actor's, and with them `control_rate_hz`, `action_clip` and, as JSON lists
    with one string for each entry, `observation_names`, `observation_units`, `action_names` and `action_units`.

    Returns the largest difference between the file's actions and the actor's, or None where onnxruntime is not installed;
    where actions exceed 1, it is relative to the largest of the twelve. Raises UserError where the actor is not for the A1,
    onnx is not installed or `path` cannot be written; FloatingPointError, writing nothing, where it is above 1e-5.
    """
    shape = (len(actor.observation_mean), len(actor.std))
    if shape != (a1.N_OBSERVATIONS, a1.N_ACTIONS):
        raise UserError(
            f"the agent has {shape[0]} observations and {shape[1]} actions, but the A1 has "
            f"{a1.N_OBSERVATIONS} and {a1.N_ACTIONS}"
        )
    content = _model(actor).SerializeToString()
    difference = _largest_difference(actor, content)
    if difference is not None and not difference <= TOLERANCE:
        raise FloatingPointError(f"cannot write {path}: its actions would differ from the agent's by {difference:.1e}")
    write_whole(path, content)
    return difference


def _model(actor):
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise UserError("onnx is not installed; pip install onnx onnxruntime") from None

    constants = {"observation_mean": actor.observation_mean, "observation_inverse_std": actor.observation_inverse_std}
    for i, (weight, bias) in enumerate(actor.layers):
        constants |= {f"layer{i}.weight": weight, f"layer{i}.bias": bias}
    if actor.symmetry == "none":
        nodes = _network(helper, actor, "observation", "action")
    else:
        nodes = _image(helper, "observation", "observation", "image", constants)
        nodes += _network(helper, actor, "observation", "own", "own.")
        nodes += _network(helper, actor, "image", "of_image", "image.")
        nodes += _image(helper, "action", "of_image", "mirrored_back", constants)
        nodes.append(helper.make_node("Mean", ["own", "mirrored_back"], ["action"]))
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", a1.N_OBSERVATIONS])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", a1.N_ACTIONS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="qi_ext",
        producer_version=__version__,
        doc_string=DOCUMENTATION,
    )
    # Sorted, because safetensors gives metadata in any order, and the same agent makes the same file.
    helper.set_model_props(model, dict(sorted((actor.metadata | _interface()).items())))
    onnx.checker.check_model(model, full_check=True)
    return model


def _network(helper, actor, x, y, prefix=""):
    """Return nodes for y, the network's output for raw observations x. prefix: of the names of values in between."""
    nodes = [
        helper.make_node("Sub", [x, "observation_mean"], [f"{prefix}centered"]),
        helper.make_node("Mul", [f"{prefix}centered", "observation_inverse_std"], [f"{prefix}normalized"]),
    ]
    x = f"{prefix}normalized"
    for i in range(len(actor.layers)):
        last = i == len(actor.layers) - 1
        linear = y if last else f"{prefix}layer{i}.linear"
        nodes.append(helper.make_node("Gemm", [x, f"layer{i}.weight", f"layer{i}.bias"], [linear]))
        if not last:
            x = f"{prefix}layer{i}"
            nodes.append(helper.make_node(OPERATORS[actor.activation], [linear], [x]))
    return nodes


def _image(helper, kind, x, y, constants):
    """Return nodes for y, the mirror image of x; put their constants into `constants`. kind: observation or action."""
    order, sign = {
        "observation": (mirror.OBSERVATION_ORDER, mirror.OBSERVATION_SIGN),
        "action": (mirror.ACTION_ORDER, mirror.ACTION_SIGN),
    }[kind]
    constants |= {f"{kind}_order": order, f"{kind}_sign": sign}
    return [
        helper.make_node("Gather", [x, f"{kind}_order"], [f"{y}.other_side"], axis=1),
        helper.make_node("Mul", [f"{y}.other_side", f"{kind}_sign"], [y]),
    ]


def _interface():
    """Return names and units of observation and action, {str: str}."""
    table = a1.observation_table()
    return {
        "observation_names": json.dumps([what if joint == "-" else f"{what} {joint}" for _, what, joint, _ in table]),
        "observation_units": json.dumps([unit for *_, unit in table]),
        "action_names": json.dumps([f"torque {actuator}" for actuator in a1.ACTUATORS]),
        "action_units": json.dumps([f"{a1.MAX_TORQUE:g} Nm"] * a1.N_ACTIONS),
        "action_clip": "[-1, 1], by the actuators; not in this file",
        "control_rate_hz": f"{1.0 / a1.CONTROL_DT:g}",
    }


def _largest_difference(actor, content):
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    # A pool of threads would print warnings where the processors are restricted, and the work is small.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # Wider than in training, scaled entry by entry, so that every entry matters whatever its unit.
    normalized = 3.0 * np.random.default_rng(0).standard_normal((1000, a1.N_OBSERVATIONS))
    scale = np.where(actor.observation_inverse_std == 0.0, 1.0, actor.observation_inverse_std)
    observations = (actor.observation_mean + normalized / scale).astype(np.float32)
    (actions,) = session.run(["action"], {"observation": observations})
    expected = actor.act(observations)
    return float(np.max(np.abs(actions - expected) / np.abs(expected).max(axis=1, keepdims=True, initial=1.0)))
