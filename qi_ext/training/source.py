"""Where the rollouts of a run come from, as its config says."""

from typing import Any

import torch

from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.sampling.source import RolloutSource
from qi_ext.training.config import Config
from qi_ext.training.settings import Sampling
from qi_ext.utils.display import say

__all__ = ["evaluation_settings", "make_source", "require_physics"]


def require_physics(config: Config) -> None:
    """Raise UserError where the config's physics cannot be had."""
    if config.warp is not None:
        from qi_ext.sampling.warp.physics import require_warp

        require_warp()


def make_source(
    config: Config, environment: Any, device: torch.device, disturbances: TrainingDisturbances, make: Any = None
) -> RolloutSource:
    """Return the source of a run. device: the learner's, on which MuJoCo Warp steps the envs, too.

    make: called as `PoolSource` is, to give another source than the config's.
    """
    rest: dict[str, Any] = {"seed": config.run.seed, "disturbances": disturbances}
    if make is not None or config.warp is None:
        return (make or PoolSource)(environment, **dict(config.sampling), **rest)
    from qi_ext.sampling.warp.source import WarpSource

    say(f"MuJoCo Warp on {device}; the first time, its kernels are compiled for minutes")
    if device.type == "cpu":
        say("  without a GPU it is far slower than MuJoCo: for trials only")
    sizes = {name: getattr(config.sampling, name) for name in ("n_envs", "lanes_per_block")}
    return WarpSource(environment, **sizes, **rest, **dict(config.warp), device=device)


def evaluation_settings(config: Config) -> dict[str, Any]:
    """The settings of the pool that evaluates a run's agent: those of its own pool, if it has one."""
    settings = dict(config.sampling)
    # On a GPU, blocks are large; in a pool, each is a task of a worker.
    return settings if config.warp is None else settings | {"lanes_per_block": Sampling().lanes_per_block}
