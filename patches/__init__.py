"""Patches of faults in imitation-lib, mushroom-rl, loco-mujoco and experiment-launcher, for code that uses them as they are.

    import patches

    patches.apply()

above a training script is all it takes; `python -m patches` lists the patches, and patches/README.md says what each is for.
Importing this package changes nothing, and imports none of the libraries.
"""

from patches.registry import applied, apply, libraries, revert, set_applied

__all__ = ["applied", "apply", "libraries", "revert", "set_applied"]
