"""The library that these patches are for; a module of its own so that each of them can name it."""

from patches.library import Library
from patches.mushroom_rl.library import IMPORTS

LIBRARY = Library("loco_mujoco", "loco-mujoco", versions=("0.4.1",), imports=IMPORTS)
