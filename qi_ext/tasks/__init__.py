"""The direction-conditioned quadruped. Importing this package registers it with loco-mujoco, mushroom-rl and Gymnasium."""

import gymnasium

from qi_ext.tasks.quadruped import QuadrupedDirection

QuadrupedDirection.register()
if "QuadrupedDirection-v0" not in gymnasium.registry:
    gymnasium.register("QuadrupedDirection-v0", entry_point="qi_ext.tasks.gymnasium_env:QuadrupedDirectionEnv")

__all__ = ["QuadrupedDirection"]
