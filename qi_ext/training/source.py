"""Where the rollouts of a run come from, as its config says."""

from collections.abc import Callable
from typing import Any

import torch

from qi_ext.sampling.pool_source import PoolSource
from qi_ext.sampling.source import RolloutSource
from qi_ext.training.config import Config
from qi_ext.training.settings import Sampling

__all__ = ["pool_settings", "require_physics", "source_of"]


def require_physics(config: Config) -> None:
    """Raise UserError where the config's physics cannot be had."""
    if config.warp is not None:
        from qi_ext.sampling.warp.physics import require_warp

        require_warp()


def source_of(config: Config, device: torch.device) -> tuple[Callable[..., RolloutSource], dict[str, Any]]:
    """Return the class of a run's source, and the settings that it takes beside environment, seed and disturbances.

    device: the learner's, on which MuJoCo Warp steps the envs, too.
    """
    if config.warp is None:
        return PoolSource, pool_settings(config)
    from qi_ext.sampling.warp.source import WarpSource  # which imports MuJoCo Warp only as it is built

    of_both = {name: getattr(config.sampling, name) for name in ("n_envs", "lanes_per_block")}
    return WarpSource, of_both | dict(config.warp) | {"device": device}


def pool_settings(config: Config) -> dict[str, Any]:
    """The settings that `PoolSource` takes, beside environment, seed and disturbances: of the run, or of its evaluation."""
    settings = {name: value for name, value in config.sampling if name != "physics"}
    # On a GPU, blocks are large; in a pool, each is a task of a worker.
    return settings if config.warp is None else settings | {"lanes_per_block": Sampling().lanes_per_block}
