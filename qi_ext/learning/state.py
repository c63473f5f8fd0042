"""All that learning goes on from, as named numpy arrays, and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mushroom_rl.core import Agent
from torch import nn

from qi_ext.utils.generators import pack_generator, unpack_generator

ADAM = {"step", "exp_avg", "exp_avg_sq"}


class StatefulAgent(Agent, ABC):
    """An agent that is saved as the arrays of its parts, and whose policy has `sync` and `save_agent`."""

    def __init__(self, mdp_info: Any, policy: Any, metadata: dict[str, str] | None) -> None:
        """metadata: {str: str} or None, written by `save`."""
        super().__init__(mdp_info, policy)
        self.metadata = dict(metadata or {})

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """Return all that learning goes on from, by name, as `arrays_of` takes it."""

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all that learning goes on from, as `load_state` takes it: {"part/key": numpy array}."""
        return arrays_of(self.parts())

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from `state()` of an agent of the same sizes on whatever device; the policy acts so at once.

        Raises ValueError, naming what does not fit, where `arrays` are of another agent; this one may then be half loaded.
        """
        load_arrays(self.parts(), arrays)
        self.policy.sync()

    def save(self, path: str | Path, full_save: bool = False) -> None:
        """Write the acting policy for `qi_ext.load_agent`, without pickle, whatever `full_save`."""
        self.policy.save_agent(path, self.metadata)


def arrays_of(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return copies of all of parts, {name: part}, as {"name/key": numpy array}.

    A part is a numpy array, a numpy or torch generator, a parameter, an optimizer, or has a `state_dict` of tensors.
    """
    return {f"{name}/{key}": value for name, part in parts.items() for key, value in _read(part).items()}


def load_arrays(parts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Put into parts, {name: part}, in place, what `arrays_of` gave of parts of the same sizes on whatever device.

    Raises ValueError, naming what does not fit, where `arrays` are of other parts; some may then be loaded.
    """
    found = {name: {} for name in parts}
    for path, value in arrays.items():
        name, _, key = path.partition("/")
        if name not in found:
            raise ValueError(f"{name} is of another agent")
        found[name][key] = value
    for name, part in parts.items():
        try:
            _write(part, found[name])
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{name} does not fit ({' '.join(str(error).split())})") from None


def _read(part: Any) -> dict[str, np.ndarray]:
    if isinstance(part, np.ndarray):
        return {"value": part.copy()}
    if isinstance(part, np.random.Generator):
        return {"state": pack_generator(part)}
    if isinstance(part, torch.Generator):
        return {"state": part.get_state().numpy().copy()}
    if isinstance(part, nn.Parameter):
        return {"value": to_array(part)}
    if isinstance(part, torch.optim.Optimizer):
        states = part.state_dict()["state"]  # empty before the first step
        return {f"{index}.{key}": to_array(value) for index, values in states.items() for key, value in values.items()}
    return {key: to_array(value) for key, value in part.state_dict().items()}


def _write(part: Any, arrays: dict[str, np.ndarray]) -> None:
    if isinstance(part, np.ndarray):
        _require_shape("value", arrays["value"], part.shape)
        part[...] = arrays["value"]
        return
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = unpack_generator(arrays["state"]).bit_generator.state
        return
    # Copies, because optimizers go on in the tensors that they are given.
    tensors = {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
    if isinstance(part, torch.Generator):
        part.set_state(tensors["state"])
    elif isinstance(part, nn.Parameter):
        _require_shape("value", tensors["value"], part.shape)
        part.data.copy_(tensors["value"])
    elif isinstance(part, torch.optim.Optimizer):
        parameters = part.param_groups[0]["params"]
        states = {}
        for key, value in tensors.items():
            index, _, name = key.partition(".")
            _require_shape(key, value, () if name == "step" else parameters[int(index)].shape)
            states.setdefault(int(index), {})[name] = value
        # Empty before the first step; else whatever Adam, the only one here, has of each parameter.
        if states and (len(states) != len(parameters) or any(each.keys() != ADAM for each in states.values())):
            raise KeyError(f"of each parameter must have {', '.join(sorted(ADAM))}")
        part.load_state_dict(part.state_dict() | {"state": states})
    else:
        part.load_state_dict(tensors)


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Copy a tensor, of any device, to numpy."""
    return tensor.detach().cpu().numpy().copy()


def _require_shape(name: str, tensor: Any, shape: Sequence[int]) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(shape)}")
