"""Sampling: many envs stepped at once in a pool of processes, with the same numbers for any number of workers.

Importing this package imports neither torch nor loco_mujoco, because the pool's workers import it.
"""

from qi_ext.utils.references import lazy_attributes

_MODULES = {
    "EpisodeSource": "episode_source",
    "ParallelCore": "parallel_core",
    "Pool": "pool",
    "PoolSource": "pool_source",
    "RolloutSource": "source",
    "Rollouts": "rollouts",
}
__all__ = list(_MODULES)
__getattr__ = lazy_attributes(__name__, _MODULES)
