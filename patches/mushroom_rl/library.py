"""The library that the modules beside this one register their patches with."""

from patches.library import Library

LIBRARY = Library("mushroom_rl", "mushroom-rl", versions=("1.10.1",))
