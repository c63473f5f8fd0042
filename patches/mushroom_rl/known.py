"""List of the classes and functions that agents saved by mushroom-rl may hold."""

import collections
import importlib
from functools import cache

from patches.safe_pickle import Names, array_names
from patches.safe_torch import load_torch

_BUILTINS = ("list", "dict", "tuple", "set", "frozenset", "slice", "range", "complex", "int", "float", "bool", "str", "object")
_CONTAINERS = ("OrderedDict", "deque")
_TORCH = ("Size", "device", "float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
_REBUILD = ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state")
_FUNCTIONS = (
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "nll_loss", "cross_entropy", "binary_cross_entropy"),
    *("binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "soft_margin_loss"),
    *("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "tanh", "sigmoid"),
)
_MODULES = (
    *(f"mushroom_rl.{part}." for part in ("algorithms", "approximators", "distributions", "features", "policy")),
    *(f"mushroom_rl.core.{part}." for part in ("agent", "environment", "serialization")),
    *(f"mushroom_rl.utils.{part}." for part in ("eligibility_trace", "optimizers", "parameters", "preprocessors")),
    *(f"mushroom_rl.utils.{part}." for part in ("replay_memory", "running_stats", "spaces", "table", "variance_parameters")),
    *(f"imitation_lib.{part}." for part in ("imitation", "utils")),
)


class SavedAgents(Names):
    """List of: the classes of mushroom-rl and imitation-lib that agents consist of, by the module that defines them; modules
    and optimizers of torch; losses and activations of torch.nn.functional; arrays and containers; and the classes that
    torch.serialization.add_safe_globals was given.
    """

    def find(self, full_name):
        found = _added().get(full_name, _fixed().get(full_name))
        return _of_libraries(full_name) if found is None else found

    def may_call(self, found):
        """Refuse constructors of agents and their parts, which would build and run what the file gives them."""
        import torch

        ours = isinstance(found, type) and f"{found.__module__}.".startswith(_MODULES)
        return callable(found) and (not ours or issubclass(found, torch.nn.Module) or found in _added().values())

    def may_call_with(self, found, arguments):
        """Refuse arguments of torch's modules and optimizers, which are made empty and then filled."""
        import torch

        of_torch = isinstance(found, type) and issubclass(found, torch.nn.Module | torch.optim.Optimizer)
        return not (of_torch and arguments) or found in _added().values()


def _added():
    import torch

    pairs = (item if isinstance(item, tuple) else (item, "") for item in torch.serialization.get_safe_globals())
    return {name or f"{found.__module__}.{found.__qualname__}": found for found, name in pairs}


@cache
def _fixed():
    import builtins

    import torch

    result = array_names() | {f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS}
    result |= {f"collections.{name}": getattr(collections, name) for name in _CONTAINERS}
    result["collections.defaultdict"] = _dictionary
    result |= {f"torch.{name}": getattr(torch, name) for name in _TORCH}
    result |= {f"torch._utils.{name}": getattr(torch._utils, name) for name in _REBUILD}
    result["torch.nn.parameter.Parameter"] = torch.nn.Parameter
    result["torch.storage._load_from_bytes"] = _storage
    result |= {f"torch.nn.functional.{name}": getattr(torch.nn.functional, name) for name in _FUNCTIONS}
    for namespace, base in ((torch.nn, torch.nn.Module), (torch.optim, torch.optim.Optimizer)):
        classes = [value for value in vars(namespace).values() if isinstance(value, type) and issubclass(value, base)]
        result |= {f"{value.__module__}.{value.__qualname__}": value for value in classes}
    return result


def _of_libraries(full_name):
    """Class that a module of the libraries defines itself, None for anything that the module has imported."""
    module, _, name = full_name.rpartition(".")
    if not f"{module}.".startswith(_MODULES):
        return None
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:  # the library is not installed
            raise
        return None
    return found if isinstance(found, type) and found.__module__ == module else None


def _dictionary(*_factory):
    """Replacement of defaultdict, which torch refuses to fill, and whose factory the file would choose."""
    return {}


def _storage(data):
    """Replacement of torch.storage._load_from_bytes, which lets a nested file run code."""
    return load_torch(data, SavedAgents(), "tensor in a pickle")
