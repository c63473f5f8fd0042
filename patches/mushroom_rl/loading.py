"""Patch of loading: saved agents load with torch 2.6 and later, and no code in the file is run."""

import tempfile
from collections import defaultdict
from pathlib import Path
from zipfile import ZIP_STORED

from patches.library import crash
from patches.mushroom_rl.known import SavedAgents
from patches.mushroom_rl.library import LIBRARY
from patches.mushroom_rl.samples import small_agent
from patches.safe_pickle import Refused, load_pickle
from patches.safe_torch import load_torch


def _probe_safe_load():
    from mushroom_rl.core import Agent

    agent = small_agent()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "agent.msh"
        agent.save(path, full_save=True)
        loaded = []
        seen = crash(lambda: loaded.append(Agent.load(path)))
    if loaded and not (loaded[0].policy.get_weights() == agent.policy.get_weights()).all():
        return "the loaded policy has other weights"
    return seen


@LIBRARY.patch(
    "safe-load",
    target="mushroom_rl.core.serialization:Serializable.load",
    sees="with torch 2.6 or later, no agent with a network loads: UnpicklingError (Weights only load failed); "
    "with older ones, opening a file runs whatever code is in it",
    remedy="networks, optimizers and pickled attributes are read against a list of known classes; another class is refused by "
    "name, and allowed with torch.serialization.add_safe_globals([TheClass])",
    probe=_probe_safe_load,
)
def _safe_load(edits):
    from mushroom_rl.core import Serializable

    edits.replace(Serializable, "_load_torch", staticmethod(_read_torch))
    edits.replace(Serializable, "_load_pickle", staticmethod(_read_pickle))


def _read_pickle(zip_file, name):
    return load_pickle(read_stored(zip_file, name), SavedAgents(), _where(zip_file, name))


def _read_torch(zip_file, name):
    import torch

    value = load_torch(read_stored(zip_file, name), SavedAgents(), _where(zip_file, name))
    if isinstance(value, torch.optim.Optimizer):
        # Optimizers rely on a defaultdict; see `_dictionary` in known.py.
        value.state = defaultdict(dict, value.state)
    return value


def read_stored(zip_file, name):
    """Return a member of the archive; one that is compressed, which `save` never does, could unpack to any size."""
    member = zip_file.getinfo(name)
    if member.compress_type != ZIP_STORED:
        raise Refused(f"{_where(zip_file, name)}: is compressed, which Agent.save never does")
    return zip_file.read(member)


def _where(zip_file, name):
    return f"{zip_file.filename}: {name}"
