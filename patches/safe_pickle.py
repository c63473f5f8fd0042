"""Read pickles without running code that they bring: a list says what they may find and call.

Nor do they take more memory or time than their own size accounts for: few bytes can ask for a large array, or for a key that is
hashed for ever.
"""

import io
import pickle
import types
from functools import cache

_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, range)


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
        if not is_bounded(found, arguments) or not self.may_call_with(found, arguments):
            self._refuse_call(found, where)

    def _refuse_call(self, found, where):
        name = f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', type(found).__name__)}"
        raise Refused(f"{where}: calls {name}, which a file may name but not call")


class Unpickler(pickle._Unpickler):
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

    def _checked_append(self):
        self._refuse_shared(self.stack[-2])
        super().load_append()

    def _checked_appends(self):
        self._refuse_shared(self.metastack[-1][-1])
        super().load_appends()

    def _checked_setitem(self):
        self._refuse_shared(self.stack[-3])
        self._demand_keys(self.stack[-2:-1])
        super().load_setitem()

    def _checked_setitems(self):
        self._refuse_shared(self.metastack[-1][-1])
        self._demand_keys(self.stack[::2])
        super().load_setitems()

    def _checked_dict(self):
        self._demand_keys(self.stack[::2])
        super().load_dict()

    def _checked_additems(self):
        self._refuse_shared(self.metastack[-1][-1])
        self._demand_keys(self.stack)
        super().load_additems()

    def _checked_frozenset(self):
        self._demand_keys(self.stack)
        super().load_frozenset()

    def _demand_keys(self, keys):
        for key in keys:
            if not _is_cheap(key):
                raise Refused(f"{self._where}: has a {type(key).__name__} of others as a key")

    def _refuse_shared(self, target):
        # Changing a class, function or module would change it for the whole process; in Python 3.13.0, `list.append(1)` even
        # ends in a segmentation fault.
        if isinstance(target, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
            raise Refused(f"{self._where}: changes {target!r}")

    def _checked_build(self):
        self._refuse_shared(self.stack[-2])
        super().load_build()

    dispatch[pickle.REDUCE[0]] = _checked_reduce
    dispatch[pickle.APPEND[0]] = _checked_append
    dispatch[pickle.APPENDS[0]] = _checked_appends
    dispatch[pickle.BUILD[0]] = _checked_build
    dispatch[pickle.NEWOBJ[0]] = _checked_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = _checked_newobj_ex
    dispatch[pickle.BYTEARRAY8[0]] = _checked_bytearray8
    dispatch[pickle.SETITEM[0]] = _checked_setitem
    dispatch[pickle.SETITEMS[0]] = _checked_setitems
    dispatch[pickle.DICT[0]] = _checked_dict
    dispatch[pickle.ADDITEMS[0]] = _checked_additems
    dispatch[pickle.FROZENSET[0]] = _checked_frozenset


class Inert:
    """Stand-in for what torch or a class on the list would make: nothing happens to it."""

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    extend = add = update = append


def _is_cheap(key):
    """Return whether hashing a key takes no longer than its own length."""
    return not any(isinstance(each, tuple | frozenset) for each in (key if isinstance(key, tuple | frozenset) else (key,)))


def is_bounded(found, arguments):
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
        return all(isinstance(each, Inert | dict) or all(map(_is_cheap, each)) for each in arguments)
    return True


def load_pickle(data, names, where):
    """Return the object in `data`, bytes of a pickle. names: a `Names`. where: name of the file, for `Refused`."""
    return Unpickler(data, names, where).load()


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
