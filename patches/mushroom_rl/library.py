"""mushroom-rl, the library that the modules beside this one register their patches with."""

from patches.library import Library

# The other libraries import this one.
IMPORTS = ("cv2", "dm_control.suite", "scipy.stats", "sklearn.utils.extmath", "torch")
LIBRARY = Library("mushroom_rl", "mushroom-rl", versions=("1.10.1",), imports=IMPORTS)
