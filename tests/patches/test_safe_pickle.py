"""Pickles and tensor files are read, and nothing in them is run."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from mushroom_rl.core import Agent

from patches.mushroom_rl.known import SavedAgents
from patches.safe_pickle import Refused, load_pickle
from patches.safe_torch import load_torch


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


class Layer(torch.nn.Linear):
    """A class of the user's own."""


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


def read_torch(data):
    return load_torch(data, SavedAgents(), "here")


@pytest.fixture
def witness(tmp_path):
    """A directory that the evil files of a test would make."""
    path = tmp_path / "made"
    yield str(path)
    assert not path.exists()


def test_no_function_outside_the_list_is_called(witness):
    for data in (
        pickle.dumps(Call(os.mkdir, witness)),
        calling("builtins", "eval", f"__import__('os').mkdir({witness!r})"),
        calling("builtins", "getattr", [], "append"),
        calling("os", "system", f"mkdir {witness}"),
        calling("functools", "partial", os.path.join, witness),
        calling("torch.serialization", "load", witness),
        calling("numpy", "load", witness),
        calling("copyreg", "__newobj__", witness),
        pickle.PROTO + b"\x02cos\nmkdir\n(X" + len(witness).to_bytes(4, "little") + witness.encode() + b"tR.",
        b"(S" + repr(witness).encode() + b"\nios\nmkdir\n.",  # protocol 0, INST
        b"(cos\nmkdir\nS" + repr(witness).encode() + b"\no.",  # protocol 1, OBJ
        # What known modules import is not found through them.
        calling("mushroom_rl.core.serialization", "torch.load", witness),
        calling("mushroom_rl.core.serialization", "Path", witness),
        calling("mushroom_rl.core.serialization.pickle", "loads", witness),
        calling("mushroom_rl.core.environment", "Environment.make", witness),
        calling("mushroom_rl.core.logger.logger", "Logger", witness),
        calling("torch.nn", "modules.module.torch.load", witness),
        calling("numpy", "ndarray.tofile", witness),
        calling("collections", "_sys.exit", witness),
        calling("imitation_lib", "os", witness),
    ):
        with pytest.raises(Refused, match="^here: asks for '.*which is not on the list") as refused:
            read(data)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("end", [pickle.REDUCE, pickle.POP + pickle.EMPTY_TUPLE + pickle.REDUCE])
def test_constructors_of_agents_are_not_called(end):
    with pytest.raises(Refused, match=r"^here: calls mushroom_rl\.core\.agent\.Agent, which a file may name but not call"):
        read(calling("mushroom_rl.core.agent", "Agent", None, None, end=end))


@pytest.mark.parametrize(
    "filling",
    [
        pickle.dumps((None, {"fit": 1}), protocol=4)[2:-1] + pickle.BUILD,
        # Python 3.13.0 ends with a segmentation fault at a `list.append(None)` in a line that has appended to lists.
        pickle.NONE + pickle.APPEND,
        pickle.MARK + pickle.NONE + pickle.APPENDS,
        pickle.NONE + pickle.NONE + pickle.SETITEM,
        pickle.MARK + pickle.NONE + pickle.NONE + pickle.SETITEMS,
        pickle.MARK + pickle.NONE + pickle.ADDITEMS,
    ],
    ids=["BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"],
)
def test_classes_are_not_changed(filling):
    with pytest.raises(Refused, match="^here: changes <class"):
        read(pickle.dumps(Agent, protocol=4)[:-1] + filling + pickle.STOP)
    assert callable(Agent.fit)


def test_tensor_files_run_no_code_nor_do_those_within_pickles(witness):
    evil = torch_bytes({"a": [Call(os.mkdir, witness)]})
    with pytest.raises(Refused, match=r"^here: asks for '(posix|nt)\.mkdir'"):
        read_torch(evil)
    with pytest.raises(Refused, match=r"^tensor in a pickle: asks for '(posix|nt)\.mkdir'"):
        read(calling("torch.storage", "_load_from_bytes", evil))
    with pytest.raises(Refused, match="may name but not call"):
        read_torch(torch_bytes(Call(Agent, None, None)))


@pytest.mark.parametrize("protocol", [3, pickle.HIGHEST_PROTOCOL])
def test_arrays_tensors_and_containers_come_back(protocol):
    arrays = {
        "float": np.linspace(0.0, 1.0, 7).reshape(7, 1),
        "mask": np.array([True, False]),
        "fortran": np.asfortranarray(np.ones((2, 3), dtype=np.float32)),
        "scalar": np.float64(0.25),
        "count": np.int64(3),
    }
    tensors = {"tensor": torch.arange(6.0).view(2, 3), "parameter": torch.nn.Parameter(torch.ones(2))}
    others = {
        "dtype": np.dtype("<i4"),
        "ordered": collections.OrderedDict(a=1),
        "set": {1, 2},
        "loss": torch.nn.functional.mse_loss,
        "range": range(3),
    }
    read_back = read(pickle.dumps(arrays | tensors | others, protocol=protocol))
    assert {name: read_back[name] for name in others} == others
    for found in (read_back, read_torch(torch_bytes(arrays | tensors))):
        for name, value in arrays.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
        for name, value in tensors.items():
            assert type(found[name]) is type(value)
            assert torch.equal(found[name], value)


LARGE = 5 * 10**9


@pytest.mark.parametrize(
    "data",
    [
        pickle.PROTO + b"\x05" + pickle.BYTEARRAY8 + LARGE.to_bytes(8, "little") + pickle.STOP,
        calling("numpy", "ndarray", (LARGE,)),
        calling("numpy", "ndarray", (LARGE,), end=pickle.NEWOBJ),
        calling("builtins", "list", range(LARGE)),
        calling("torch.nn.modules.linear", "Linear", 10**5, 10**5),
        pickle.PROTO + b"\x04})" + (pickle.DUP + pickle.TUPLE2) * 60 + b"Ns.",  # a key that is hashed for ever
    ],
    ids=["bytearray", "array", "new array", "range", "module", "key"],
)
def test_few_bytes_ask_for_no_more_than_they_hold(data):
    with pytest.raises((Refused, EOFError)):
        read(data)


@pytest.mark.parametrize(
    ("module", "name", "end"),
    [
        ("builtins", "bytearray", pickle.REDUCE),
        ("torch", "FloatTensor", pickle.REDUCE),
        ("torch", "FloatStorage", pickle.REDUCE),
        ("torch.storage", "UntypedStorage", pickle.NEWOBJ),
    ],
)
def test_few_bytes_of_a_tensor_file_ask_for_no_more_than_they_hold(module, name, end):
    given = pickle.dumps((LARGE,), protocol=2)[2:-1]
    data = pickle.PROTO + b"\x02c" + f"{module}\n{name}\n".encode() + given + end + pickle.STOP
    with pytest.raises(Refused, match=f"calls '{module}.{name}', which a file may name but not call"):
        read_torch(with_pickle(data))


def test_a_tensor_that_is_larger_than_its_bytes_is_refused():
    good = torch_bytes(torch.arange(4.0))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    with pytest.raises(Refused, match="a tensor is said to be larger than what there is of it"):
        read_torch(with_pickle(pickled.replace(b"K\x04t", b"K\x40t", 1), good))


def with_pickle(data, good=None):
    """A file of torch.save with another pickle in it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good or torch_bytes([1]))) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, data if name.endswith("data.pkl") else source.read(name))
    return target.getvalue()


def test_a_class_of_the_users_is_refused_by_name_and_can_be_allowed():
    layer, before = Layer(2, 1), set(torch.serialization.get_safe_globals())
    for load, data in ((read, pickle.dumps(layer)), (read_torch, torch_bytes(layer))):
        with pytest.raises(Refused, match=r"^here: asks for '.*Layer', .* torch\.serialization\.add_safe_globals\(\[Layer\]\)"):
            load(data)
        for allowed in (Layer, (Layer, f"{Layer.__module__}.Layer")):
            with torch.serialization.safe_globals([allowed]):
                assert torch.equal(load(data).weight, layer.weight)
    assert set(torch.serialization.get_safe_globals()) == before
