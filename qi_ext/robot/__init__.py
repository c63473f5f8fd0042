"""The Unitree A1 as numbers: layout, limits, joint addresses, mirror image, frames and commands. Numpy only."""
