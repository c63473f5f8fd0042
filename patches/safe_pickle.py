"""Reads pickles and files of torch.save without running code that they bring: they find and call only what a list names."""

import io
import pickle
import types
from functools import cache


class Refused(pickle.UnpicklingError):
    """A file asks for an object that is not on the list. The message is one line that names it."""


class Names:
    """What a file may ask for; subclasses say. hint: what to do about a name that is not on the list."""

    hint = "where you trust it, allow it with torch.serialization.add_safe_globals([{name}])"

    def find(self, full_name):
        """The object of this name, "module.name", or None where a file may not have it."""
        raise NotImplementedError

    def may_call(self, found):
        """Whether a file may call it with arguments of the file's choice, constructors included."""
        raise NotImplementedError

    def demand(self, full_name, where):
        """`find`, or `Refused`, which names `where` the file asks."""
        found = self.find(full_name)
        if found is None:
            hint = self.hint.format(name=full_name.rpartition(".")[2])
            raise Refused(f"{where}: asks for {full_name!a}, which is not on the list of known classes; {hint}")
        return found

    def demand_call(self, found, where):
        """Raise `Refused` unless `found` may be called."""
        if not self.may_call(found):
            name = f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', repr(found))}"
            raise Refused(f"{where}: calls {name}, which a file may name but not call")


class _Unpickler(pickle._Unpickler):
    """Python's own, for its opcodes that find, call and fill objects; the one in C cannot tell making from calling."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file, names, where):
        super().__init__(file)
        self._names = names
        self._where = where

    def find_class(self, module, name):
        return self._names.demand(f"{module}.{name}", self._where)

    def get_extension(self, code):
        raise Refused(f"{self._where}: asks for extension {code} of copyreg")

    def _instantiate(self, klass, args):
        self._names.demand_call(klass, self._where)
        super()._instantiate(klass, args)

    def _checked_reduce(self):
        self._names.demand_call(self.stack[-2], self._where)
        super().load_reduce()

    def _checked_build(self):
        # The state of a class or function would change it for the whole process.
        if isinstance(self.stack[-2], type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
            raise Refused(f"{self._where}: changes {self.stack[-2]!r}")
        super().load_build()

    dispatch[pickle.REDUCE[0]] = _checked_reduce
    dispatch[pickle.BUILD[0]] = _checked_build


def load_pickle(data, names, where):
    """The object in `data`, bytes of a pickle. names: a `Names`. where: what `Refused` calls the file."""
    return _Unpickler(io.BytesIO(data), names, where).load()


def load_torch(data, names, where, map_location=None):
    """The object in `data`, bytes of a file of torch.save; as `load_pickle` otherwise. map_location: of torch.load."""
    import numpy as np
    import torch

    try:
        asked = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    except ValueError:  # the format of torch before 1.6, which weights_only reads by torch's own list
        asked = []
    allowed = [(names.demand(name, where), name) for name in asked]
    for found, _ in allowed:
        names.demand_call(found, where)
    # The type of an array's dtype is nowhere named in the file, yet torch asks for it.
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"}
    allowed += [(dtype, f"{dtype.__module__}.{dtype.__name__}") for dtype in dtypes]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(io.BytesIO(data), weights_only=True, map_location=map_location)
    except pickle.UnpicklingError as error:
        told = str(error).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise Refused(f"{where}: {told or error}") from None


@cache
def array_names():
    """What pickled numpy arrays, dtypes and scalars ask for, {full name: object}."""
    import numpy as np

    core = np._core if hasattr(np, "_core") else np.core
    result = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    for name in ("numpy._core", "numpy.core"):  # of numpy 2, and of those before
        result[f"{name}.multiarray._reconstruct"] = core.multiarray._reconstruct
        result[f"{name}.multiarray.scalar"] = core.multiarray.scalar
        result[f"{name}.numeric._frombuffer"] = core.numeric._frombuffer
    return result
