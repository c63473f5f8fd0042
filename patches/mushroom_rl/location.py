"""Patch of loading: agents load on a machine that lacks the device they were saved on, or on the device that is asked for."""

import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from patches.library import crash
from patches.mushroom_rl.library import LIBRARY
from patches.registry import applied

_loading = ContextVar("loading", default=False)
_chosen = ContextVar("chosen", default="")
_saving_as = ContextVar("saving_as", default=None)


@contextmanager
def map_location(device):
    """Context in which agents that are loaded come to `device`: "cpu", "cuda" or "cuda:N".

    Without it they come to the device they were saved on, or to the CPU where there is no CUDA. Raises ValueError for a device
    that is not here, RuntimeError where the patch mushroom_rl/map-location is not applied.
    """
    import torch

    if "mushroom_rl/map-location" not in applied():
        raise RuntimeError("map_location: has no effect without its patch; call patches.apply() first")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"map_location: {device!r} is not a device; choose cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda") or (chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"map_location: there is no device {device} here; choose cpu or one of torch.cuda's")
    with holding(_chosen, str(chosen)):
        yield


@contextmanager
def holding(variable, value):
    """Context in which a `ContextVar` has this value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _probe_map_location():
    import torch
    from mushroom_rl.approximators.parametric import TorchApproximator

    _register()
    # A bare tensor for a network is all that torch reads without the patch safe-load.
    approximator = TorchApproximator((1,), (1,), network=lambda *_, **__: torch.arange(3.0))
    approximator._use_cuda = True
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "approximator.msh"
        with holding(_saving_as, "cuda:99"):  # a device that no machine has
            approximator.save(path)
        loaded = []
        seen = crash(lambda: loaded.append(TorchApproximator.load(path)))
    if seen:
        return seen
    network, flag = loaded[0].network, loaded[0].use_cuda
    if not torch.equal(network.cpu(), torch.arange(3.0)):
        return f"loaded {network.tolist()} in place of [0, 1, 2]"
    right = flag == network.is_cuda == torch.cuda.is_available()
    return "" if right else f"use_cuda is {flag}, tensors are on {network.device}"


@LIBRARY.patch(
    "map-location",
    target="mushroom_rl.core.serialization:Serializable.load_zip",
    sees="an agent trained on a GPU cannot be opened without one (Attempting to deserialize object on a CUDA device), and "
    "would go on calling .cuda() if it could",
    remedy="tensors of a missing CUDA device come to one that is there, or to the CPU, or to the device that `with "
    "patches.mushroom_rl.map_location(device)` asks for; the use_cuda flags of what was loaded say so",
    probe=_probe_map_location,
)
def _map_location(edits):
    from mushroom_rl.core import Serializable

    _register()

    @edits.wrap(Serializable, "load_zip")
    def load_zip(original, cls, *arguments, **keywords):
        with holding(_loading, True):
            loaded = original(cls, *arguments, **keywords)
        _correct_flags(loaded)
        return loaded


@cache
def _register():
    """Tell torch where storages go. It has no way to undo that, so it is done once, and has no effect but in our loads."""
    import torch

    torch.serialization.register_package(5, lambda storage: _saving_as.get(), _place)  # before torch's own, at 10 and 20


def _place(storage, location):
    import torch

    if not _loading.get():
        return None
    chosen = _chosen.get()
    if not chosen:
        here = not location.startswith("cuda") or (torch.device(location).index or 0) < torch.cuda.device_count()
        if here:
            return None
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    return storage.to(device=torch.device(chosen))


def _correct_flags(loaded):
    """Set `_use_cuda` of an object and of the modules that it holds; its parts were loaded, and corrected, before it."""
    import torch
    from mushroom_rl.core import Serializable

    if not isinstance(loaded, Serializable):
        return
    chosen = _chosen.get()
    held = [value for value in vars(loaded).values() if isinstance(value, torch.nn.Module)]
    for part in [loaded, *(module for value in held for module in value.modules())]:
        if vars(part).get("_use_cuda") is not None:
            part._use_cuda = chosen.startswith("cuda") if chosen else part._use_cuda and torch.cuda.is_available()
