"""Patches of loco-mujoco 0.4.1."""

from patches.loco_mujoco import (  # noqa: F401  (each registers its patches)
    download,
    generators,
    gymnasium_interface,
    missing_sets,
    numpy_2,
    randomization,
    trajectories,
)
from patches.loco_mujoco.library import LIBRARY

__all__ = ["LIBRARY"]
