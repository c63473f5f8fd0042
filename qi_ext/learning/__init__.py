"""GAIL and VAIL on TRPO, behind mushroom-rl's Agent interface. Importing this package alone does not import torch."""

__all__ = ["GAIL", "VAIL"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qi_ext.learning import gail

    return getattr(gail, name)
