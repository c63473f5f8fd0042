"""Convert an agent that imitation-lib saved to one of ours, without imitation-lib.

    python -m patches.shrink agent_epoch_423_J_991.255877.msh

writes agent_epoch_423_J_991.255877.safetensors, under 1 MB, for launchers/evaluate.py and qi_ext.load_agent. The agent must be
a GAIL_TRPO or VAIL_TRPO of the Unitree A1 (37 observations, 12 actions) with a GaussianTorchPolicy and ReLU layers. The file
may come from a stranger: no code in it is run, and its demonstrations are not read.
"""

from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from patches.safe_pickle import Names, Refused, array_names, load_pickle
from patches.safe_torch import load_torch
from qi_ext.agents.acting import Actor, save_agent
from qi_ext.robot import a1
from qi_ext.tasks.directions import TASKS
from qi_ext.utils.command_line import Parser, run_command
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.reading import NoSuchFile, open_regular, open_zip

ALGORITHMS = {"imitation_lib.imitation.gail_TRPO.GAIL": "gail", "imitation_lib.imitation.vail_TRPO.VAIL": "vail"}
POLICY = "mushroom_rl.policy.torch_policy.GaussianTorchPolicy"
NETWORK = "imitation_lib.utils.networks.FullyConnectedNetwork"
STANDARDIZERS = ("imitation_lib.utils.networks.Standardizer", "imitation_lib.utils.networks.Standardizerv2")
LAYERS, LAYER = "torch.nn.modules.container.ModuleList", "torch.nn.modules.linear.Linear"
RELU, IDENTITY = "torch.nn.modules.activation.ReLU", "torch.nn.modules.linear.Identity"
PLACE_OF_NETWORK = "policy.mushroom/_mu.mushroom/_impl.mushroom/model.mushroom/network.torch"

_MAX_CONFIG, _MAX_NETWORK, _MAX_AGENT = 2**18, 2**26, 2**34  # bytes; the last of all, demonstrations included
_STD_FLOOR = 0.1  # of imitation-lib's Standardizer
_PRIOR = 1e-2  # its first count and sum of squares


class Thing:
    """Stand-in for an object in the file, with the name of its class and its state, and no behaviour."""

    name = "?"
    state = None

    def __setstate__(self, state):
        self.state = state


class _Things(Names):
    """List of what an agent may hold: arrays, and known classes, each replaced by a subclass of `Thing`."""

    hint = "only GAIL_TRPO and VAIL_TRPO agents with a GaussianTorchPolicy, FullyConnectedNetwork and ReLU can be read"

    def find(self, full_name):
        return array_names().get(full_name, _stand_ins().get(full_name))

    def may_call(self, found):
        return True


@cache
def _stand_ins():
    names = (*ALGORITHMS, POLICY, NETWORK, *STANDARDIZERS, LAYERS, LAYER, RELU, IDENTITY)
    return {name: type(name.rpartition(".")[2], (Thing,), {"name": name}) for name in names} | {"builtins.list": list}


def shrink(path, task=""):
    """Return the agent in the file at `path` as an `Actor`, and its metadata, {str: str}.

    task: simple or hard; where it is "", it follows from the agent's statistics of the commanded direction. Raises UserError
    for a file that is missing, damaged, or not such an agent.
    """
    path = Path(path)
    try:
        with open_regular(path):
            pass
    except NoSuchFile:
        raise UserError(f"agent: no such file: {path}; give an .msh file that mushroom-rl's Agent.save wrote") from None
    except UserError as error:
        raise UserError(f"agent: {error}; give an .msh file that mushroom-rl's Agent.save wrote") from None
    with _reading(path), open_zip(path, _MAX_AGENT) as archive:
        algorithm = ALGORITHMS.get(_type_of(archive, path, "config"))
        if algorithm is None:
            raise UserError(f"agent: {path}: is no agent of imitation-lib's GAIL_TRPO or VAIL_TRPO")
        if _type_of(archive, path, "policy.mushroom/config") != POLICY:
            raise UserError(f"agent: {path}: its policy is no GaussianTorchPolicy")
        _demand_plain_observations(archive, path)
        log_std = _tensor(archive, path, "policy.mushroom/_log_sigma.torch")
        network = _state(_tensor(archive, path, PLACE_OF_NETWORK), NETWORK)
        layers = _layers(network)
        mean, std, seen = _statistics(network["_modules"].get("_stand", network.get("_stand")))
        log_std = _array(log_std, (a1.N_ACTIONS,), "log_sigma")
    task = task or _task(path, seen)
    actor = Actor(layers, mean.astype(np.float32), (1.0 / std).astype(np.float32), log_std)
    origin = f"{path.name}, {algorithm.upper()}_TRPO of imitation-lib; its steps, seed and demonstrations are not known"
    return actor, {"task": task, "algorithm": algorithm, "origin": origin} | _speed(seen)


def _type_of(archive, path, member):
    """Name of the class of a part of the agent, from its config."""
    kind = load_pickle(_read(archive, member, _MAX_CONFIG), _Things(), f"{path}: {member}")["type"]
    return getattr(kind, "name", kind.__name__)


def _demand_plain_observations(archive, path):
    """Raise UserError where the agent changes observations on their way to the policy."""
    members = archive.namelist()
    if "phi.pickle" in members:
        raise UserError(f"agent: {path}: its policy sees features of the observations, which an agent of ours does not")
    config = "_preprocessors.mushroom/config"
    if config in members:
        held = load_pickle(_read(archive, config, _MAX_CONFIG), _Things(), f"{path}: {config}")
        if held["primitive_dictionary"]["len"]:
            raise UserError(f"agent: {path}: has preprocessors of observations, which an agent of ours has not")


def _tensor(archive, path, member):
    """Read a member that torch.save wrote, refused where it is compressed, as it could be a zip bomb."""
    return load_torch(_read(archive, member, _MAX_NETWORK), _Things(), f"{path}: {member}", map_location="cpu")


def _read(archive, member, limit):
    try:
        entry = archive.getinfo(member)
    except KeyError:
        raise ValueError(f"there is no {member} in it; it is damaged, or no agent that Agent.save wrote") from None
    if entry.file_size > limit:
        raise ValueError(f"{member} has {entry.file_size:,} bytes, more than the {limit:,} that it can have")
    return archive.read(entry)


def _state(thing, *names):
    """Attributes of a `Thing`, {name: value}; raises ValueError where it is of none of these classes."""
    found = thing.name if isinstance(thing, Thing) else type(thing).__name__
    if found not in names or not isinstance(thing.state, dict):
        raise ValueError(f"{found} stands where a {' or '.join(name.rpartition('.')[2] for name in names)} should")
    return thing.state


def _layers(network):
    """Layers of a network, [(weight (out, in), bias (out,)), ...], float32."""
    modules = network["_modules"]
    activations = [getattr(each, "name", "?") for each in _state(modules["_activations"], LAYERS)["_modules"].values()]
    linears = [_state(each, LAYER)["_parameters"] for each in _state(modules["_linears"], LAYERS)["_modules"].values()]
    if not linears or activations != [RELU] * (len(linears) - 1) + [IDENTITY]:
        found = ", ".join(name.rpartition(".")[2] for name in activations)
        raise ValueError(f"its activations are {found or 'none'}; an agent of ours has ReLU, and none after the last layer")
    sizes = [a1.N_OBSERVATIONS, *(len(each["bias"]) for each in linears)]
    if sizes[-1] != a1.N_ACTIONS:
        raise ValueError(f"it has {sizes[-1]} actions, not the {a1.N_ACTIONS} of the Unitree A1")
    return [
        (_array(each["weight"], (n_out, n_in), f"weight {i}"), _array(each["bias"], (n_out,), f"bias {i}"))
        for i, (each, n_in, n_out) in enumerate(zip(linears, sizes[:-1], sizes[1:], strict=True))
    ]


def _statistics(standardizer):
    """Mean and std of the observations, (37,) each, and (mean, variance) of the commands seen, (3,) each, or None."""
    n = a1.N_OBSERVATIONS
    if standardizer is None:
        return np.zeros(n), np.ones(n), None
    state = _state(standardizer, *STANDARDIZERS)
    mean, std = _statistic(state, "mean"), _statistic(state, "std")
    if (std <= 0.0).any():
        raise ValueError("the standard deviations of its observations are not positive")
    if np.size(state["mean"]) == 1:
        return mean, std, None
    count = _statistic(state, "_count")[a1.GOAL] - _PRIOR
    if (count <= 0.0).any():
        raise ValueError("its statistics of observations are of no observations")
    average = _statistic(state, "_sum")[a1.GOAL] / count
    return mean, std, (average, (_statistic(state, "_sumsq")[a1.GOAL] - _PRIOR) / count - average**2)


def _statistic(state, name):
    """One statistic of a Standardizer, stored as one number or 37, as (37,), float64."""
    value, n = state[name], a1.N_OBSERVATIONS
    if np.size(value) not in (1, n):
        raise ValueError(f"{name} of its observations is of {np.size(value)}, not {n}")
    values = np.broadcast_to(np.asarray(value, dtype=np.float64), (n,))
    if not np.isfinite(values).all():
        raise ValueError(f"{name} of its observations is not finite")
    return values


def _array(value, shape, name):
    # Only contiguous tensors: with strides of 0, a few bytes in the file could take any amount of memory.
    if tuple(value.shape) != shape or not value.is_contiguous():
        raise ValueError(f"{name} has the shape {tuple(value.shape)}, not {shape}")
    array = value.detach().numpy().astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")
    return array


def _task(path, seen):
    if seen is None:
        raise UserError(f"agent: {path}: does not say which task it was trained on; add --task simple or --task hard")
    # The commanded direction's cosine and sine: constant in `simple`, and of variance 1/2 over all directions.
    return "hard" if (seen[1][:2] > _STD_FLOOR**2).any() else "simple"


def _speed(seen):
    """Metadata of the commanded speed, {} where the agent has seen several or none."""
    if seen is None or not 0.0 < seen[0][2] < 10.0 or seen[1][2] > _STD_FLOOR**2:
        return {}
    return {"speed": f"{seen[0][2]:.2f}"}


@contextmanager
def _reading(path):
    """Turn any exception in reading a file, which may hold anything, into a UserError of one line."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if str(error).startswith("agent: ") else f"agent: {error}") from None
    except Refused as error:
        raise UserError(f"agent: {error}") from None
    except Exception as error:
        ours = type(error) is ValueError
        told = str(error) if ours else f"the file is damaged, or no agent ({type(error).__name__}: {error})"
        raise UserError(f"agent: {path}: {' '.join(told.split())[:300]}") from None


def main(arguments=None):
    """Run the command: read the agent, write ours, print a line. Raises UserError for the user's mistakes."""
    parser = Parser("python -m patches.shrink", __doc__)
    parser.usage = "%(prog)s AGENT.msh [--option value ...]"
    parser.add_argument("agent", type=str, help="an agent that mushroom-rl's Agent.save wrote", metavar="AGENT.msh")
    text = "where to write the agent [AGENT.safetensors, beside AGENT.msh]"
    parser.add_argument("--output", type=str, default="", help=text, metavar="FILE")
    text = f"task it was trained on, {' or '.join(TASKS)} [as its statistics of the commanded direction say]"
    parser.add_argument("--task", type=str, default="", help=text, metavar="X")
    options = parser.parse_args(arguments)
    if options.task not in ("", *TASKS):
        raise UserError(f"--task: unknown task {options.task!r}; choose one of {', '.join(TASKS)}")
    actor, metadata = shrink(options.agent, options.task)
    output = Path(options.output or Path(options.agent).with_suffix(".safetensors"))
    require_output(output, "--output")
    if output.exists() and output.samefile(options.agent):
        raise UserError(f"--output: {output} is the agent itself; name another file")
    save_agent(output, actor, metadata)
    size = output.stat().st_size / 1e6
    print(f"{output}: {metadata['algorithm']} on {metadata['task']}, {size:.1f} MB; {metadata['origin']}")


if __name__ == "__main__":
    run_command("python -m patches.shrink", main)
