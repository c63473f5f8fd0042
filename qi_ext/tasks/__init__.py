"""The direction-conditioned quadruped. Importing this package registers it with loco-mujoco, mushroom-rl and Gymnasium.

Each registration waits until its library is imported, so that the pool's workers, which need the tasks alone, import neither.
"""

from typing import TYPE_CHECKING

from wrapt import register_post_import_hook

from qi_ext.utils.references import lazy_attributes

if TYPE_CHECKING:
    from qi_ext.tasks.gymnasium_env import QuadrupedDirectionEnv as QuadrupedDirectionEnv
    from qi_ext.tasks.quadruped import QuadrupedDirection as QuadrupedDirection

register_post_import_hook("qi_ext.tasks.registration:register_with_loco_mujoco", "loco_mujoco")
register_post_import_hook("qi_ext.tasks.registration:register_with_gymnasium", "gymnasium")

_MODULES = {"QuadrupedDirection": "quadruped", "QuadrupedDirectionEnv": "gymnasium_env"}
__all__ = list(_MODULES)
__getattr__ = lazy_attributes(__name__, _MODULES)
