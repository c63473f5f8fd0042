"""Metadata of an agent's file, about the run that it comes from."""

from importlib.metadata import version

from qi_ext.demonstrations import resolved_name
from qi_ext.training.checkpoints import library_versions
from qi_ext.training.settings import Task
from qi_ext.training.source import evaluation_settings
from qi_ext.utils.settings import shown


def agent_metadata(config, step, demonstrations_hash, source):
    """Return the metadata, {str: str}.

    demonstrations_hash: of the demonstrations that episodes start from. source: of those that are learned from.
    """
    return {
        "algorithm": config.run.algorithm,
        "step": str(step),
        "seed": str(config.run.seed),
        **{name: shown(value) for name, value in config.task.of_commands.items() if value != []},
        **{name: shown(value) for name, value in config.task.of_recording.items() if value != Task.model_fields[name].default},
        **({"physics": f"mujoco-warp {version('mujoco-warp')}"} if config.warp is not None else {}),
        "lanes_per_block": str(evaluation_settings(config)["lanes_per_block"]),
        "demonstrations": resolved_name(config.task.demonstrations),
        "demonstrations_hash": demonstrations_hash,
        "demonstrations_source": source,
        "versions": library_versions(),
    }
