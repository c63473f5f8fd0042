"""Patch of saving and loading: a module that several parts of an agent share is one module again after loading."""

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from patches.mushroom_rl.library import LIBRARY
from patches.mushroom_rl.loading import read_stored
from patches.mushroom_rl.samples import small_agent

ENTRY = "shared_modules.json"  # [[path, path, ...], ...]: the places of each module that has several


def _probe_shared_modules():
    import torch
    from mushroom_rl.core import Agent
    from torch import nn

    agent = small_agent(body=nn.BatchNorm1d(3))
    known = [nn.Sequential, nn.BatchNorm1d, nn.Tanh, nn.Linear, torch.optim.Adam, defaultdict, dict]
    with tempfile.TemporaryDirectory() as directory, torch.serialization.safe_globals(known):
        path = Path(directory) / "agent.msh"
        agent.save(path, full_save=True)
        loaded = Agent.load(path)
    policy, critic = loaded.policy._mu.model.network, loaded._V.model
    if policy[0] is not critic.network[0]:
        return "policy and critic shared a layer when saved, and have one each when loaded"
    fitted = critic._optimizer.param_groups[0]["params"]
    same = all(a is b for a, b in zip(fitted, critic.network.parameters(), strict=True))
    return "" if same else "the optimizer fits other parameters than those of the network"


@LIBRARY.patch(
    "shared-modules",
    target="mushroom_rl.core.serialization:Serializable.save",
    sees="a module that policy, critic and agent share, such as imitation-lib's Standardizer, is several copies after "
    "loading: if training goes on, one of them is updated, and another acts",
    remedy="the file also says which modules are one, and loading ties them again; files that do not say so load as before, "
    "and mushroom-rl without the patch reads files that do",
    probe=_probe_shared_modules,
)
def _shared_modules(edits):
    from mushroom_rl.core import Serializable

    @edits.wrap(Serializable, "save")
    def save(original, self, path, *arguments, **keywords):
        original(self, path, *arguments, **keywords)
        groups = _shared(self)
        if groups:
            # `open`, as for the other entries, stores no time: the same agent gives the same file.
            with ZipFile(path, "a") as zip_file, zip_file.open(ENTRY, "w") as file:
                file.write(json.dumps(groups).encode())

    @edits.wrap(Serializable, "load")
    def load(original, cls, path):
        loaded = original(cls, path)
        with ZipFile(path) as zip_file:
            groups = read_stored(zip_file, ENTRY) if ENTRY in zip_file.namelist() else b"[]"
        try:
            _tie(loaded, _list_of_lists(json.loads(groups)))
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}: {ENTRY} does not fit the agent ({error}); take the entry out to load without it"
            ) from None
        return loaded


def _list_of_lists(groups):
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        raise TypeError("it is no list of lists")
    if not all(isinstance(path, str) for group in groups for path in group):
        raise TypeError("a place is no text")
    return groups


@dataclass(frozen=True)
class _Place:
    """Attribute that holds a module: `name` of `owner`, which is a module or a part of the agent."""

    owner: object
    name: str
    module: object


def _shared(agent):
    by_identity = defaultdict(list)
    for path, place in _places(agent):
        by_identity[id(place.module)].append(path)
    return [paths for paths in by_identity.values() if len(paths) > 1]


def _tie(agent, groups):
    """Put the first module of each group in the place of the others. Places that were not saved are passed over."""
    places = dict(_places(agent))
    successors = {}  # {id of a parameter: the parameter that replaces it}
    for paths in groups:
        first, *others = [places[path] for path in paths if path in places] or [None]
        for place in others:
            if type(place.module) is not type(first.module):
                raise TypeError(f"{type(place.module).__name__} is no {type(first.module).__name__}")
            pairs = zip(place.module.parameters(), first.module.parameters(), strict=False)
            successors |= {id(old): new for old, new in pairs if old is not new}
            setattr(place.owner, place.name, first.module)
    for optimizer in _optimizers(agent) if successors else ():
        for group in optimizer.param_groups:
            group["params"] = [successors.get(id(parameter), parameter) for parameter in group["params"]]
        state = {successors.get(id(parameter), parameter): value for parameter, value in optimizer.state.items()}
        optimizer.state = defaultdict(dict, state)


def _places(agent):
    """Yield (path, `_Place`) of every module that is saved. A path is like "/policy/_mu/_impl/model/network:encoder.0"."""
    import torch

    for part, path in _parts(agent, ""):
        for name in part._save_attributes:
            value = getattr(part, name, None)
            if not isinstance(value, torch.nn.Module):
                continue
            yield f"{path}/{name}", _Place(part, name, value)
            for inner, module in value.named_modules(remove_duplicate=False):
                if inner:
                    parent, _, last = inner.rpartition(".")
                    yield f"{path}/{name}:{inner}", _Place(value.get_submodule(parent), last, module)


def _optimizers(agent):
    import torch

    values = [getattr(part, name, None) for part, _ in _parts(agent, "") for name in part._save_attributes]
    return [value for value in values if isinstance(value, torch.optim.Optimizer)]


def _parts(part, path):
    """Yield (part, path) of the agent and of its parts that mushroom-rl saves one by one."""
    if not hasattr(part, "_save_attributes"):
        return
    yield part, path
    for name, method in part._save_attributes.items():
        if method.removesuffix("!") == "mushroom":
            value = getattr(part, name, None)
            elements = [(f"/{i}", element) for i, element in enumerate(value)] if isinstance(value, list) else [("", value)]
            for suffix, element in elements:
                yield from _parts(element, f"{path}/{name}{suffix}")
