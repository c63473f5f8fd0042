"""Quadruped imitation extensions: loco-mujoco's A1 walks in commanded directions, learned by GAIL and VAIL on TRPO.

Importing this package imports neither torch nor loco_mujoco.
"""

from qi_ext.acting import load_agent

__version__ = "0.1.0"
__all__ = ["load_agent", "__version__"]
