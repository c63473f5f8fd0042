"""The entries of our environments in the registries of loco-mujoco, mushroom-rl and Gymnasium."""

import importlib

from qi_ext.robot import a1


def register_with_loco_mujoco(loco_mujoco):
    """Enter `QuadrupedDirection` in loco-mujoco's registry and mushroom-rl's; the module does so as it is imported."""
    importlib.import_module("qi_ext.tasks.quadruped")


def register_with_gymnasium(gymnasium):
    """Enter `QuadrupedDirection-v0` in Gymnasium's registry."""
    if "QuadrupedDirection-v0" not in gymnasium.registry:
        gymnasium.register(
            "QuadrupedDirection-v0",
            entry_point="qi_ext.tasks:QuadrupedDirectionEnv",
            vector_entry_point="qi_ext.sampling:QuadrupedDirectionVectorEnv",
            max_episode_steps=a1.HORIZON,
        )
