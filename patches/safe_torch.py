"""Read files of torch.save without running code that they bring, in memory and time that their own size accounts for."""

import _compat_pickle
import io
import pickle
import zipfile

from patches.safe_pickle import Inert, Refused, Unpickler, is_bounded

# Torch's own functions and classes that a file of torch.save may call, beside those of `Names`.
_TORCH_CALLS = (
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *("torch._utils._rebuild_parameter_with_state", "torch.Size", "torch.device", "torch.nn.parameter.Parameter"),
    *("collections.OrderedDict", "collections.Counter", "collections.defaultdict", "builtins.set", "_codecs.encode"),
)
_STORAGE_BYTES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1}
_STORAGE_BYTES |= {"Bool": 1, "Untyped": 1, "ComplexDouble": 16, "ComplexFloat": 8, "QInt32": 4, "QInt8": 1, "QUInt8": 1}


class _Global(Inert):
    """Stand-in for an object that a file of torch.save names."""

    def __init__(self, full_name):
        self.full_name = full_name

    __hash__ = object.__hash__


class _Rehearsal(Unpickler):
    """Reads a pickle of torch.save as torch would, calling nothing, and refuses what torch would not bound.

    sizes: {key: bytes} of the storages in the file, or their sum where they are not told apart.
    """

    dispatch = dict(Unpickler.dispatch)

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
        elif found.full_name not in _TORCH_CALLS or not is_bounded(found, arguments):
            raise Refused(f"{self._where}: calls {found.full_name!a:.100}, which a file may name but not call")

    def _rehearsed_call(self, new=False):
        self.demand_call(*self.stack[-2:], new)
        del self.stack[-2:]
        self.append(Inert())

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
        return Inert()

    dispatch[pickle.REDUCE[0]] = _rehearsed_call
    dispatch[pickle.NEWOBJ[0]] = _rehearsed_newobj
    dispatch[pickle.BUILD[0]] = _rehearsed_build


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
