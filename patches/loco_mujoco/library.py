"""loco-mujoco, the library that the modules beside this one register their patches with."""

from patches.library import Library
from patches.mushroom_rl.library import IMPORTS

LIBRARY = Library("loco_mujoco", "loco-mujoco", versions=("0.4.1",), imports=IMPORTS)
