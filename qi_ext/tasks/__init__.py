"""The direction-conditioned quadruped. Importing this package registers it with loco-mujoco, mushroom-rl and Gymnasium.

Each registration waits until its library is imported, so that the pool's workers, which need the tasks alone, import neither.
"""

from wrapt import register_post_import_hook

register_post_import_hook("qi_ext.tasks.registration:register_with_loco_mujoco", "loco_mujoco")
register_post_import_hook("qi_ext.tasks.registration:register_with_gymnasium", "gymnasium")

__all__ = ["QuadrupedDirection"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qi_ext.tasks.quadruped import QuadrupedDirection

    return QuadrupedDirection
