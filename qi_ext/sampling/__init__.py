"""Sampling: many envs stepped at once in a pool of processes, with the same numbers for any number of workers.

Importing this package imports neither torch nor loco_mujoco, because the pool's workers import it.
"""

import importlib

_MODULES = {
    "EpisodeSource": "episode_source",
    "ParallelCore": "parallel_core",
    "Pool": "pool",
    "PoolSource": "pool_source",
    "RolloutSource": "source",
    "Rollouts": "rollouts",
}
__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
