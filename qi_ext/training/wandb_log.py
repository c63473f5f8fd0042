"""Figures of a run in Weights & Biases."""

import importlib.util
import secrets
import shutil

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole
from qi_ext.utils.reading import read_text


def require_wandb(config):
    """Raise UserError where wandb is asked for and not installed."""
    # A folder of that name, which wandb leaves where it ran, has no origin.
    if config.run.wandb and getattr(importlib.util.find_spec("wandb"), "origin", None) is None:
        raise UserError("--wandb: wandb is not installed; pip install wandb, or leave the option out")


def open_wandb(directory, settings, resumed):
    """Open wandb's run for the run in `directory`; the same one, by the id kept there, where it is resumed.

    settings: {name: value}. Raises UserError, leaving nothing new in `directory`, where wandb refuses.
    """
    import wandb

    path = directory / "wandb_id"
    known = resumed and path.exists()
    identity = read_text(path, 1000).strip() if known else secrets.token_hex(8)
    name = f"{settings['task']}-{settings['algorithm']}-{settings['seed']}"
    before = set(directory.iterdir())
    try:
        run = wandb.init(project=settings["wandb"], dir=directory, id=identity, name=name, config=settings, resume="allow")
    except wandb.Error as error:
        for left in set(directory.iterdir()) - before:
            shutil.rmtree(left, ignore_errors=True)
        raise UserError(f'--wandb: {" ".join(str(error).split())}; or --wandb "" to do without') from None
    if not known:
        write_whole(path, identity)
    # wandb's own counter never goes back to the step that a run goes on from.
    run.define_metric("*", step_metric="step")
    return run
