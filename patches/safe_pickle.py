"""Read pickles and files of torch.save without running code that they bring: a list says what they may find and call."""

import io
import pickle
import types
from functools import cache


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

    def demand_call(self, found, where):
        """Raise `Refused` unless the object `found` may be called."""
        if not self.may_call(found):
            name = f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', repr(found))}"
            raise Refused(f"{where}: calls {name}, which a file may name but not call")


class _Unpickler(pickle._Unpickler):
    """Python's own, with its opcodes that find, call and fill objects checked; the one in C lets only names be checked."""

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
        # Filling a class, function or module would change it for the whole process.
        if isinstance(self.stack[-2], type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
            raise Refused(f"{self._where}: changes {self.stack[-2]!r}")
        super().load_build()

    dispatch[pickle.REDUCE[0]] = _checked_reduce
    dispatch[pickle.BUILD[0]] = _checked_build


def load_pickle(data, names, where):
    """Return the object in `data`, bytes of a pickle. names: a `Names`. where: name of the file, for `Refused`."""
    return _Unpickler(io.BytesIO(data), names, where).load()


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
        names.demand_call(found, where)
    # torch asks for the type of an array's dtype too, which the file does not name.
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
    """Objects that pickled numpy arrays, dtypes and scalars ask for, {full name: object}."""
    import numpy as np

    core = np._core if hasattr(np, "_core") else np.core
    result = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    for name in ("numpy._core", "numpy.core"):  # numpy 2, and numpy 1
        result[f"{name}.multiarray._reconstruct"] = core.multiarray._reconstruct
        result[f"{name}.multiarray.scalar"] = core.multiarray.scalar
        result[f"{name}.numeric._frombuffer"] = core.numeric._frombuffer
    return result
