"""Patches of mushroom-rl 1.10.1."""

from patches.mushroom_rl import advantage, blow_up, graphs, loading, sharing, solver  # noqa: F401  (each registers its patches)
from patches.mushroom_rl.library import LIBRARY
from patches.mushroom_rl.location import map_location

__all__ = ["LIBRARY", "map_location"]
