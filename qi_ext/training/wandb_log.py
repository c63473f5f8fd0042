"""A run's figures in Weights & Biases, for those who ask for it."""

import importlib.util
import secrets
import shutil

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically


def require_wandb(config):
    """Raise UserError where wandb is asked for and not installed."""
    # A folder of that name, such as wandb leaves where it ran, has no origin.
    if config.wandb and getattr(importlib.util.find_spec("wandb"), "origin", None) is None:
        raise UserError("--wandb: wandb is not installed; pip install wandb, or leave the option out")


def open_wandb(directory, settings, resumed):
    """wandb's run for the run in `directory`, which it is told apart by for good; the same one where it is resumed.

    settings: {name: value}. Raises UserError, leaving nothing new in `directory`, where wandb does not let it.
    """
    import wandb

    path = directory / "wandb_id"
    known = resumed and path.exists()
    identity = path.read_text().strip() if known else secrets.token_hex(8)
    name = f"{settings['task']}-{settings['algorithm']}-{settings['seed']}"
    before = set(directory.iterdir())
    try:
        run = wandb.init(project=settings["wandb"], dir=directory, id=identity, name=name, config=settings, resume="allow")
    except wandb.Error as error:
        for left in set(directory.iterdir()) - before:
            shutil.rmtree(left, ignore_errors=True)
        raise UserError(f'--wandb: {" ".join(str(error).split())}; or --wandb "" to do without') from None
    if not known:
        with write_atomically(path) as file:
            file.write(identity.encode())
    # By a figure of its own, because wandb's own counter never goes back to where a run goes on from.
    run.define_metric("*", step_metric="step")
    return run
