"""A run between two updates as a `Checkpoint`, and back; and what an agent's file says of the run it comes from."""

import importlib.metadata

import numpy as np

from qi_ext.demonstrations import resolved_name
from qi_ext.training.checkpoints import Checkpoint
from qi_ext.training.config import given_settings
from qi_ext.utils.errors import UserError

VERSIONS = ("torch", "mujoco", "numpy", "loco-mujoco", "mushroom-rl")


def snapshot(config, agent, core, counter, demonstrations_hash, seconds):
    """The `Checkpoint` of a run as it is. demonstrations_hash: of their content. seconds: of training so far.

    Raises FloatingPointError where what was learned is not finite.
    """
    learned = agent.state()
    bad = [name for name, array in learned.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise FloatingPointError(f"training: {', '.join(bad)} not finite; the last checkpoint is good")
    counted, counts = counter.state()
    parts = {"agent": learned, "lanes": core.path.lanes.arrays(), "episodes": counted}
    arrays = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
    data = {
        "step": counter.steps,
        "score": counter.recent_return(),
        "config": given_settings(config),
        "counts": counts,
        "n_episodes": core.n_episodes,
        "seconds": seconds,
        "demonstrations_hash": demonstrations_hash,
        "versions": _versions(),
    }
    return Checkpoint(counter.steps, arrays, data)


def put_back(checkpoint, config, agent, core, counter, demonstrations_hash):
    """Make a run what it was at `checkpoint`; returns the seconds of training until then.

    Raises UserError where the demonstrations are others, or the checkpoint is of another program.
    """
    data = checkpoint.data
    parts = {"agent": {}, "lanes": {}, "episodes": {}}
    try:
        if data["demonstrations_hash"] != demonstrations_hash:
            raise UserError(
                f"--demonstrations: {config.demonstrations} has changed since the run began (content {demonstrations_hash}, "
                f"then {data['demonstrations_hash']}); give the file that it began with"
            )
        for name, array in checkpoint.arrays.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = array
        agent.load_state(parts["agent"])
        core.restore(parts["lanes"], checkpoint.step, int(data["n_episodes"]))
        counter.restore(parts["episodes"], data["counts"])
        return float(data["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--resume: the checkpoint of step {checkpoint.step} does not fit this program: {error}") from None


def agent_metadata(config, step, demonstrations_hash, source):
    """What the file of an agent says of its run, {str: str}.

    demonstrations_hash: of those that episodes start from. source: of those that are learned from.
    """
    return {
        "task": config.task,
        "algorithm": config.algorithm,
        "step": str(step),
        "seed": str(config.seed),
        "n_directions": str(config.n_directions),
        "speed": str(config.speed),
        "lanes_per_block": str(config.lanes_per_block),
        "demonstrations": resolved_name(config.demonstrations),
        "demonstrations_hash": demonstrations_hash,
        "demonstrations_source": source,
        "versions": _versions(),
    }


def _versions():
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
