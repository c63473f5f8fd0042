"""Patches of saving, copying and loading agents."""

import contextlib
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np

from patches.imitation_lib import small
from patches.imitation_lib.library import LIBRARY
from patches.library import crash

_GAIL = "imitation_lib.imitation:GAIL_TRPO"
_SAVER = "imitation_lib.utils.training:BestAgentSaver"


def _probe_writer():
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder, contextlib.closing(SummaryWriter(folder)) as writer:
        return crash(pickle.dumps, small.gail(sw=writer))


@LIBRARY.patch(
    "picklable",
    target=_GAIL + ".__getstate__",
    sees="an agent with a writer cannot be pickled, so it can be sent to no other process",
    remedy="pickles and copies leave the writer out",
    probe=_probe_writer,
)
def _picklable(edits):
    from imitation_lib.imitation import GAIL_TRPO

    edits.replace(GAIL_TRPO, "__getstate__", lambda self: self.__dict__ | {"_sw": None})


def _probe_save_attributes():
    agent = small.gail()
    wrong = [name for name in agent._save_attributes if not hasattr(agent, name)]
    return f"{', '.join(wrong)} is saved and is no attribute" if wrong else ""


@LIBRARY.patch(
    "save-attributes",
    target=_GAIL + ".__init__",
    sees="an attribute _train_n_th_epoch is saved that there is not; loaded agents have it, None",
    remedy="leaves it out",
    probe=_probe_save_attributes,
)
def _save_attributes(edits):
    from imitation_lib.imitation import GAIL_TRPO

    @edits.wrap(GAIL_TRPO, "__init__")
    def __init__(original, self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        self._save_attributes.pop("_train_n_th_epoch", None)


def _probe_one_standardizer():
    from mushroom_rl.core import Agent

    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # torch 2.6 and later refuse to load agents, which is another fault
    with tempfile.TemporaryDirectory() as folder:
        small.gail().save(Path(folder) / "agent.msh")
        agent = Agent.load(Path(folder) / "agent.msh")
    agent._trpo_standardizer.update_mean_std(np.full((8, small.N_OBSERVATIONS), 5.0, np.float32))
    wrong = [name for name, network in _networks(agent).items() if network._stand is not agent._trpo_standardizer]
    return f"after loading, {' and '.join(wrong)} normalize with copies of their own" if wrong else ""


def _networks(agent):
    found = {
        "policy": getattr(agent.policy, "_mu", None),
        "critic": agent._V,
    }  # policies of discrete actions have no _mu
    return {name: regressor.model.network for name, regressor in found.items() if regressor is not None}


@LIBRARY.patch(
    "one-standardizer",
    target=_GAIL + "._post_load",
    sees="in a loaded agent policy, critic and agent have each their own statistics; training on updates only some",
    remedy="networks that were saved with equal statistics share one Standardizer again; also of files saved without patches",
    changes_results="of training that goes on from a file",
    probe=_probe_one_standardizer,
)
def _one_standardizer(edits):
    from imitation_lib.imitation import GAIL_TRPO

    @edits.wrap(GAIL_TRPO, "_post_load")
    def _post_load(original, self):
        original(self)
        for network in _networks(self).values():
            _share(network, self._trpo_standardizer)
        _share(self._D.model.network, self._D_standardizer)


def _share(network, standardizer):
    from imitation_lib.utils import Standardizer

    found = getattr(network, "_stand", None)
    if found is standardizer or not (isinstance(found, Standardizer) and type(found) is type(standardizer)):
        return
    if all(np.array_equal(getattr(found, name), getattr(standardizer, name)) for name in ("_sum", "_sumsq", "_count")):
        network._stand = standardizer


def _probe_best():
    from imitation_lib.utils import BestAgentSaver

    agent = small.gail(demonstrations=small.demonstrations(rows=20_000))
    with tempfile.TemporaryDirectory() as folder:
        saver = BestAgentSaver(folder, n_epochs_save=10)
        for score in (1.0, 3.0, 2.0):
            saver.save(agent, score)
        files = list(Path(folder).iterdir())
        if not files:
            return "the run ends, and the best agent of the last epochs is not on disk"
        return "" if files[0].stat().st_size < 1e5 else "the file holds the demonstrations"


@LIBRARY.patch(
    "best-agent",
    target=_SAVER,
    sees="the best agent since the last save is lost when the run ends or is killed; each file holds all "
    "demonstrations and the old policy, over 100 MB",
    remedy="writes the best agent at once, in place of the one before, until its n epochs are over; GAIL's and VAIL's "
    "demonstrations and old policy are left out (agent.load_demonstrations gives them back to go on training)",
    probe=_probe_best,
)
def _best_agent(edits):
    from imitation_lib.imitation import GAIL_TRPO
    from imitation_lib.utils import BestAgentSaver

    def save(self, agent, J):
        if self.n_epochs_save == -1:
            return
        if self.best_J_since_last_save < J:
            path = Path(self.save_path) / f"agent_epoch_{self.epoch_counter}_J_{J:f}.msh"
            write(agent, path, set() if self.save_replay_memory else {"_replay_memory"})
            before = vars(self).get("_written")
            self._written, self.best_J_since_last_save = path, J
            if before not in (None, path):
                before.unlink(missing_ok=True)
        if self.epoch_counter >= self.last_save + self.n_epochs_save:
            self.save_curr_best_agent()
        self.epoch_counter += 1

    def save_curr_best_agent(self):
        """Leave the best agent where it is written already, and look for the next one."""
        if vars(self).get("_written") is not None:
            self._written, self.best_J_since_last_save, self.last_save = None, -np.inf, self.epoch_counter

    def save_agent(self, agent, J):
        write(agent, Path(self.save_path) / f"agent_J_{J:f}.msh", set())

    def write(agent, path, left_out):
        if isinstance(agent, GAIL_TRPO):
            left_out = left_out | {"_demonstrations", "_old_policy"}
        there = {name: getattr(agent, name) for name in left_out if hasattr(agent, name)}
        partial = path.with_name(path.name + ".part")
        try:
            for name in there:
                setattr(agent, name, None)
            agent.save(partial, full_save=True)
            os.replace(partial, path)
        finally:
            for name, value in there.items():
                setattr(agent, name, value)
            partial.unlink(missing_ok=True)

    edits.replace(BestAgentSaver, "save", save)
    edits.replace(BestAgentSaver, "save_curr_best_agent", save_curr_best_agent)
    edits.replace(BestAgentSaver, "save_agent", save_agent)
