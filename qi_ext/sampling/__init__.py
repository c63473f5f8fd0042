"""Sampling: many envs stepped at once in a pool of processes, with the same numbers for any number of workers.

Importing this package imports neither torch nor loco_mujoco, because the pool's workers import it.
"""

from typing import TYPE_CHECKING

from qi_ext.utils.references import lazy_attributes

if TYPE_CHECKING:
    from qi_ext.sampling.episode_source import EpisodeSource as EpisodeSource
    from qi_ext.sampling.parallel_core import ParallelCore as ParallelCore
    from qi_ext.sampling.pool import Pool as Pool
    from qi_ext.sampling.pool_source import PoolSource as PoolSource
    from qi_ext.sampling.rollouts import Rollouts as Rollouts
    from qi_ext.sampling.source import RolloutSource as RolloutSource
    from qi_ext.sampling.vector_env import QuadrupedDirectionVectorEnv as QuadrupedDirectionVectorEnv

_MODULES = {
    "EpisodeSource": "episode_source",
    "ParallelCore": "parallel_core",
    "QuadrupedDirectionVectorEnv": "vector_env",
    "Pool": "pool",
    "PoolSource": "pool_source",
    "RolloutSource": "source",
    "Rollouts": "rollouts",
}
__all__ = list(_MODULES)
__getattr__ = lazy_attributes(__name__, _MODULES)
