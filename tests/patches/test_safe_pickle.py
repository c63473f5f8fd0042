import collections
import io
import os
import pickle

import numpy as np
import pytest
import torch

from patches.mushroom_rl.known import SavedAgents
from patches.safe_pickle import Refused, load_pickle, load_torch


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


class Outside:
    pass


class Layer(torch.nn.Linear):
    pass


def calling(module, name, *arguments, end=pickle.REDUCE):
    """A pickle that calls `name` of `module`, dotted or not, whether or not there is one."""
    text = b"".join(pickle.SHORT_BINUNICODE + bytes([len(part)]) + part.encode() for part in (module, name))
    given = pickle.dumps(arguments, protocol=4)[2:-1]
    return pickle.PROTO + b"\x04" + text + pickle.STACK_GLOBAL + given + end + pickle.STOP


def torch_bytes(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def read(data):
    return load_pickle(data, SavedAgents(), "here")


@pytest.fixture
def witness(tmp_path):
    """A directory that the evil files of a test would make."""
    path = tmp_path / "made"
    yield str(path)
    assert not path.exists()


def test_no_function_outside_the_list_is_called(witness):
    source = f"__import__('os').mkdir({witness!r})"
    for data in (
        pickle.dumps(Call(os.mkdir, witness)),
        calling("builtins", "eval", source),
        calling("builtins", "exec", source),
        calling("builtins", "getattr", [], "append"),
        calling("builtins", "__import__", "os"),
        calling("os", "system", f"mkdir {witness}"),
        calling("functools", "partial", os.path.join, witness),
        calling("operator", "attrgetter", "system"),
        calling("torch", "load", witness),
        calling("torch.serialization", "load", witness),
        calling("torch.hub", "load", witness),
        calling("numpy", "load", witness),
        calling("copyreg", "__newobj__", witness),
        pickle.PROTO + b"\x02cos\nmkdir\n(X" + len(witness).to_bytes(4, "little") + witness.encode() + b"tR.",
        b"(S" + repr(witness).encode() + b"\nios\nmkdir\n.",  # protocol 0, INST
        b"(cos\nmkdir\nS" + repr(witness).encode() + b"\no.",  # protocol 1, OBJ
    ):
        with pytest.raises(Refused, match="^here: asks for '") as refused:
            read(data)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("mushroom_rl.core.serialization", "torch.load"),
        ("mushroom_rl.core.serialization", "pickle.loads"),
        ("mushroom_rl.core.serialization", "Path.mkdir"),
        ("mushroom_rl.core.serialization", "Path"),
        ("mushroom_rl.core.serialization.pickle", "loads"),
        ("mushroom_rl.core.serialization", "Serializable.load"),
        ("mushroom_rl.core.environment", "Environment.make"),
        ("mushroom_rl.core.logger.logger", "Logger"),
        ("mushroom_rl.utils.record", "VideoRecorder"),
        ("mushroom_rl.environments.generators.simple_chain", "generate_simple_chain"),
        ("torch.nn", "modules.module.torch.load"),
        ("torch.nn.functional", "torch.load"),
        ("numpy", "ndarray.tofile"),
        ("collections", "_sys.exit"),
        ("imitation_lib", "os"),
    ],
)
def test_what_known_modules_import_is_not_found_through_them(module, name, witness):
    with pytest.raises(Refused, match=r"which is not on the list"):
        read(calling(module, name, witness))


@pytest.mark.parametrize("end", [pickle.REDUCE, pickle.POP + pickle.EMPTY_TUPLE + pickle.REDUCE])
def test_constructors_of_agents_are_not_called(end):
    with pytest.raises(Refused, match=r"^here: calls mushroom_rl\.core\.agent\.Agent, which a file may name but not call"):
        read(calling("mushroom_rl.core.agent", "Agent", None, None, end=end))


def test_classes_are_not_changed():
    from mushroom_rl.core import Agent

    data = (
        pickle.dumps(Agent, protocol=4)[:-1] + pickle.dumps((None, {"fit": 1}), protocol=4)[2:-1] + pickle.BUILD + pickle.STOP
    )
    with pytest.raises(Refused, match="^here: changes <class"):
        read(data)
    assert callable(Agent.fit)


def test_tensor_files_run_no_code(witness):
    for data in (torch_bytes(Call(os.mkdir, witness)), torch_bytes({"a": [Call(os.system, f"mkdir {witness}")]})):
        with pytest.raises(Refused, match=r"^here: asks for 'posix\.|^here: asks for 'nt\."):
            load_torch(data, SavedAgents(), "here")


def test_nor_do_tensor_files_within_pickles(witness):
    data = calling("torch.storage", "_load_from_bytes", torch_bytes(Call(os.mkdir, witness)))
    with pytest.raises(Refused, match=r"^tensor in a pickle: asks for '(posix|nt)\.mkdir'"):
        read(data)


def test_agents_within_tensor_files_are_refused():
    from mushroom_rl.core import Agent

    with pytest.raises(Refused, match="may name but not call"):
        load_torch(torch_bytes(Call(Agent, None, None)), SavedAgents(), "here")


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back(protocol):
    value = {
        "float": np.linspace(0.0, 1.0, 7).reshape(7, 1),
        "mask": np.array([True, False]),
        "indices": np.arange(5),
        "fortran": np.asfortranarray(np.ones((2, 3), dtype=np.float32)),
        "scalar": np.float64(0.25),
        "dtype": np.dtype("<i4"),
        "ordered": collections.OrderedDict(a=1),
        "set": {1, 2},
        "loss": torch.nn.functional.mse_loss,
        "range": range(3),
    }
    found = read(pickle.dumps(value, protocol=protocol))
    for name in ("float", "mask", "indices", "fortran"):
        assert found[name].dtype == value[name].dtype
        np.testing.assert_array_equal(found[name], value[name])
    rest = value.keys() - {"float", "mask", "indices", "fortran"}
    assert {name: found[name] for name in rest} == {name: value[name] for name in rest}


def test_tensors_come_back_from_pickles_and_tensor_files():
    value = {"tensor": torch.arange(6.0).view(2, 3), "parameter": torch.nn.Parameter(torch.ones(2)), "int": torch.tensor([1])}
    for found in (read(pickle.dumps(value)), load_torch(torch_bytes(value), SavedAgents(), "here")):
        assert found.keys() == value.keys()
        assert all(torch.equal(found[name], value[name]) and type(found[name]) is type(value[name]) for name in value)


def test_arrays_come_back_from_tensor_files():
    value = {"double": np.arange(3.0), "single": np.ones(2, np.float32), "count": np.int64(3), "mask": np.array([True])}
    found = load_torch(torch_bytes(value), SavedAgents(), "here")
    assert {name: (array.tolist(), array.dtype) for name, array in found.items()} == {
        name: (array.tolist(), array.dtype) for name, array in value.items()
    }


def test_a_class_of_the_users_is_refused_by_name_and_can_be_allowed():
    layer = Layer(2, 1)
    pickled, saved = pickle.dumps(layer), torch_bytes(layer)
    for load, data in ((load_pickle, pickled), (load_torch, saved)):
        with pytest.raises(
            Refused, match=r"^agent: asks for '.*Layer', .* torch\.serialization\.add_safe_globals\(\[Layer\]\)$"
        ):
            load(data, SavedAgents(), "agent")
        with torch.serialization.safe_globals([Layer]):
            assert torch.equal(load(data, SavedAgents(), "agent").weight, layer.weight)
        with torch.serialization.safe_globals([(Layer, f"{Layer.__module__}.Layer")]):
            assert torch.equal(load(data, SavedAgents(), "agent").weight, layer.weight)


def test_reading_leaves_torchs_list_as_it_was():
    before = set(torch.serialization.get_safe_globals())
    load_torch(torch_bytes(torch.nn.Linear(2, 1)), SavedAgents(), "here")
    assert set(torch.serialization.get_safe_globals()) == before
