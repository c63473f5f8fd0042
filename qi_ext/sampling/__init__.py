"""Sampling: many robots stepped at once in a pool of processes, with the same numbers for any number of workers.

Importing this package imports neither torch nor loco_mujoco, because the pool's workers import it.
"""

_HOMES = {"ParallelCore": "parallel_core", "Pool": "pool", "Rollouts": "rollouts"}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
