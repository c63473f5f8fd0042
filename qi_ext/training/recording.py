"""The recording that a run learns from: it is there, it is right, and where its actions come from."""

import os

from qi_ext.demonstrations.examination import examine_all
from qi_ext.demonstrations.loading import is_embedded, is_path, paths
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_name


def require_recording(start):
    """Raise UserError where the recording cannot be, or is not where it was when the run began: no other takes its place."""
    name = start.config.task.demonstrations
    if not is_path(name):
        return
    missing = [path for path in paths(name) if not os.path.exists(path)]
    if start.checkpoint is not None and missing:
        raise UserError(
            f"--demonstrations: no such file: {missing[0]}, with which the run in {start.directory.path} began; if it was "
            "moved, say where it is: --demonstrations NEW_PATH; another recording needs a new run"
        )
    for path in paths(name):
        require_name(path, "demonstrations")


def examined(config, demonstrations, model):
    """Return all `Measure`s of a recording from outside, a list; of an embedded set none. Raises UserError where it is wrong.

    model: the task's `mujoco.MjModel`.
    """
    name = config.task.demonstrations
    if is_embedded(name):
        return []
    warm_start = config.warm_start
    cloned = warm_start.warm_start and warm_start.warm_start_actions != "inferred"
    measures, fault = examine_all(demonstrations, model, cloned or config.discriminator.discriminator_input == "action")
    if fault is not None:
        raise UserError(f"demonstrations: {name}: {fault}")
    return measures


def clones_inferred(config, demonstrations):
    """Return whether a warm start clones actions that are inferred from states."""
    recorded = config.warm_start.warm_start_actions != "inferred" and demonstrations.actions is not None
    return config.warm_start.warm_start > 0 and not recorded
