"""Read pickles and files of torch.save without running code that they bring: a list says what they may find and call.

Nor do they take more memory or time than their own size accounts for: few bytes can ask for a large array, or for a key that is
hashed for ever.
"""

import _compat_pickle
import io
import pickle
import types
import zipfile
from functools import cache

_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, range)
# Torch's own functions and classes that a file of torch.save may call, beside those of `Names`.
_TORCH_CALLS = (
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *("torch._utils._rebuild_parameter_with_state", "torch.Size", "torch.device", "torch.nn.parameter.Parameter"),
    *("collections.OrderedDict", "collections.Counter", "collections.defaultdict", "builtins.set", "_codecs.encode"),
)
_STORAGE_BYTES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1}
_STORAGE_BYTES |= {"Bool": 1, "Untyped": 1, "ComplexDouble": 16, "ComplexFloat": 8, "QInt32": 4, "QInt8": 1, "QUInt8": 1}


class Refused(pickle.UnpicklingError):
    """Raised where a file asks for an object that is not on the list; the message is one line that names the object."""


class Names:
    """Interface of a list of the objects that a file may ask for. hint: advice for a name that is not on it."""

    hint = "where you trust it, allow it with torch.serialization.add_safe_globals([{name}])"

    def find(self, full_name):
        """Return the object of this name, "module.name", None where it is not on the list."""
        raise NotImplementedError

    def may_call(self, found):
        """True where a file may call the object, a function or a class, with arguments of the file's choice."""
        raise NotImplementedError

    def demand(self, full_name, where):
        """Return the object of this name, or raise `Refused`. where: the name of the file."""
        found = self.find(full_name)
        if found is None:
            hint = self.hint.format(name=full_name.rpartition(".")[2])
            raise Refused(f"{where}: asks for {full_name!a}, which is not on the list of known classes; {hint}")
        return found

    def may_call_with(self, found, arguments):
        """True where it may be called with these arguments, as far as memory goes."""
        return True

    def demand_call(self, found, where):
        """Raise `Refused` unless the object `found` may be called."""
        if not self.may_call(found):
            self._refuse_call(found, where)

    def demand_bounded(self, found, arguments, where):
        """Raise `Refused` where calling or making `found` with these arguments takes memory of the file's choice."""
        if not _is_bounded(found, arguments) or not self.may_call_with(found, arguments):
            self._refuse_call(found, where)

    def _refuse_call(self, found, where):
        name = f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', type(found).__name__)}"
        raise Refused(f"{where}: calls {name}, which a file may name but not call")


class _Unpickler(pickle._Unpickler):
    """Python's own, with its opcodes that find, call and fill objects checked; the one in C lets only names be checked."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, data, names, where):
        super().__init__(io.BytesIO(data))
        self._names = names
        self._where = where
        self._left = 4 * len(data) + 10_000  # lengths of arguments, which a call may copy

    def find_class(self, module, name):
        return self._names.demand(f"{module}.{name}", self._where)

    def get_extension(self, code):
        raise Refused(f"{self._where}: asks for extension {code} of copyreg")

    def demand_call(self, found, arguments, new=False):
        """Raise `Refused` unless `found` may be called. new: made by its `__new__` alone."""
        try:
            self._left -= sum(len(each) for each in arguments if isinstance(each, _SIZED))
        except (OverflowError, TypeError):
            self._left = -1
        if self._left < 0:
            raise Refused(f"{self._where}: asks for more memory than its size accounts for")
        if not new:
            self._names.demand_call(found, self._where)
        self._names.demand_bounded(found, arguments, self._where)

    def _instantiate(self, klass, args):
        self.demand_call(klass, args)
        super()._instantiate(klass, args)

    def _checked_reduce(self):
        self.demand_call(self.stack[-2], self.stack[-1])
        super().load_reduce()

    def _checked_newobj(self):
        self.demand_call(self.stack[-2], self.stack[-1], new=True)
        super().load_newobj()

    def _checked_newobj_ex(self):
        self.demand_call(self.stack[-3], (*self.stack[-2], *self.stack[-1].values()), new=True)
        super().load_newobj_ex()

    def _checked_bytearray8(self):
        # Python's own allocates it before it reads it.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _checked_setitem(self):
        self._demand_keys(self.stack[-2:-1])
        super().load_setitem()

    def _checked_setitems(self):
        self._demand_keys(self.stack[::2])
        super().load_setitems()

    def _checked_dict(self):
        self._demand_keys(self.stack[::2])
        super().load_dict()

    def _checked_additems(self):
        self._demand_keys(self.stack)
        super().load_additems()

    def _checked_frozenset(self):
        self._demand_keys(self.stack)
        super().load_frozenset()

    def _demand_keys(self, keys):
        for key in keys:
            if not _is_cheap(key):
                raise Refused(f"{self._where}: has a {type(key).__name__} of others as a key")

    def _checked_build(self):
        # Filling a class, function or module would change it for the whole process.
        if isinstance(self.stack[-2], type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
            raise Refused(f"{self._where}: changes {self.stack[-2]!r}")
        super().load_build()

    dispatch[pickle.REDUCE[0]] = _checked_reduce
    dispatch[pickle.BUILD[0]] = _checked_build
    dispatch[pickle.NEWOBJ[0]] = _checked_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = _checked_newobj_ex
    dispatch[pickle.BYTEARRAY8[0]] = _checked_bytearray8
    dispatch[pickle.SETITEM[0]] = _checked_setitem
    dispatch[pickle.SETITEMS[0]] = _checked_setitems
    dispatch[pickle.DICT[0]] = _checked_dict
    dispatch[pickle.ADDITEMS[0]] = _checked_additems
    dispatch[pickle.FROZENSET[0]] = _checked_frozenset


class _Inert:
    """Stand-in for what torch or a class on the list would make: nothing happens to it."""

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    extend = add = update = append


class _Global(_Inert):
    """Stand-in for an object that a file of torch.save names."""

    def __init__(self, full_name):
        self.full_name = full_name

    __hash__ = object.__hash__


class _Rehearsal(_Unpickler):
    """Reads a pickle of torch.save as torch would, calling nothing, and refuses what torch would not bound.

    sizes: {key: bytes} of the storages in the file, or their sum where they are not told apart.
    """

    dispatch = dict(_Unpickler.dispatch)

    def __init__(self, data, names, where, sizes):
        super().__init__(data, names, where)
        self._sizes = sizes

    def find_class(self, module, name):
        module, name = _compat_pickle.NAME_MAPPING.get(
            (module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        )
        return _Global(f"{module}.{name}")

    def demand_call(self, found, arguments, new=False):
        if not isinstance(found, _Global) or not isinstance(arguments, tuple):
            raise Refused(f"{self._where}: calls what it has made itself")
        known = self._names.find(found.full_name)
        if known is not None:
            super().demand_call(known, arguments, new)
        elif found.full_name not in _TORCH_CALLS or not _is_bounded(found, arguments):
            raise Refused(f"{self._where}: calls {found.full_name!a:.100}, which a file may name but not call")

    def _rehearsed_call(self, new=False):
        self.demand_call(*self.stack[-2:], new)
        del self.stack[-2:]
        self.append(_Inert())

    def _rehearsed_newobj(self):
        self._rehearsed_call(new=True)

    def _rehearsed_build(self):
        self.stack.pop()

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[1], _Global) or not isinstance(pid[4], int):
            raise Refused(f"{self._where}: refers to something that is no storage of torch")
        name = pid[1].full_name.rpartition(".")[2].removesuffix("Storage")
        size = self._sizes.get(str(pid[2]), -1) if isinstance(self._sizes, dict) else self._sizes
        if name not in _STORAGE_BYTES or not 0 <= pid[4] * _STORAGE_BYTES[name] <= size:
            raise Refused(f"{self._where}: a tensor is said to be larger than what there is of it")
        return _Inert()

    dispatch[pickle.REDUCE[0]] = _rehearsed_call
    dispatch[pickle.NEWOBJ[0]] = _rehearsed_newobj
    dispatch[pickle.BUILD[0]] = _rehearsed_build


def _is_cheap(key):
    """Return whether hashing a key takes no longer than its own length."""
    return not any(isinstance(each, tuple | frozenset) for each in (key if isinstance(key, tuple | frozenset) else (key,)))


def _is_bounded(found, arguments):
    """Return whether a call that pickled arrays, containers and text ask for makes nothing larger than its arguments."""
    import numpy as np

    core = array_names()
    if found is np.ndarray:
        return False
    if found is core["numpy.core.multiarray._reconstruct"]:
        return arguments[1:2] == ((0,),)
    if found is core["numpy.core.multiarray.scalar"]:
        return len(arguments) == 2
    if found is np.dtype:
        return isinstance(arguments[0], str) and len(arguments[0]) <= 20
    if getattr(found, "full_name", "") == "_codecs.encode":
        return arguments[1:] in (("latin1",), ("utf-8",))
    if any(found is each for each in (set, frozenset, dict)) or getattr(found, "full_name", "").startswith(
        ("builtins.set", "collections.")
    ):
        return all(isinstance(each, _Inert | dict) or all(map(_is_cheap, each)) for each in arguments)
    return True


def load_pickle(data, names, where):
    """Return the object in `data`, bytes of a pickle. names: a `Names`. where: name of the file, for `Refused`."""
    return _Unpickler(data, names, where).load()


def load_torch(data, names, where, map_location=None):
    """Return the object in `data`, bytes of a file of torch.save, as `load_pickle` does. map_location: that of torch.load."""
    import numpy as np
    import torch

    try:
        asked = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    except ValueError:  # the format of torch before 1.6, which weights_only reads by torch's own list
        asked = []
    allowed = [(names.demand(name, where), name) for name in asked]
    for found, _ in allowed:
        if not names.may_call(found):
            names.demand_call(found, where)
    _rehearse(data, names, where)
    # torch asks for the type of an array's dtype too, which the file does not name.
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"}
    allowed += [(dtype, f"{dtype.__module__}.{dtype.__name__}") for dtype in dtypes]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(io.BytesIO(data), weights_only=True, map_location=map_location)
    except pickle.UnpicklingError as error:
        told = str(error).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise Refused(f"{where}: {told or error}") from None


def _rehearse(data, names, where):
    """Raise `Refused` where loading `data` by torch would take more memory or time than its size accounts for."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        # Of torch before 1.6: number, version, system, object, and the keys of the storages, which follow.
        rehearsal = _Rehearsal(data, names, where, sizes=len(data))
        for _ in range(5):
            rehearsal.load()
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > len(data):
            raise Refused(f"{where}: is compressed, which torch.save never does")
        pickles = [member for member in members if member.filename.lower().endswith("data.pkl")]
        if len(pickles) != 1 or len({member.filename.lower() for member in members}) < len(members):
            raise Refused(f"{where}: has members of one name, or none that torch.save writes")
        folder = pickles[0].filename.removesuffix("data.pkl")
        sizes = {member.filename.removeprefix(f"{folder}data/"): member.file_size for member in members}
        _Rehearsal(archive.read(pickles[0]), names, where, sizes).load()


@cache
def array_names():
    """Objects that pickled numpy arrays, dtypes and scalars ask for, {full name: object}."""
    import numpy as np

    core = np._core if hasattr(np, "_core") else np.core
    result = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    for name in ("numpy._core", "numpy.core"):  # numpy 2, and numpy 1
        result[f"{name}.multiarray._reconstruct"] = core.multiarray._reconstruct
        result[f"{name}.multiarray.scalar"] = core.multiarray.scalar
        result[f"{name}.numeric._frombuffer"] = core.numeric._frombuffer
    return result
