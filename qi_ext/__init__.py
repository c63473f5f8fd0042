"""Quadruped imitation extensions: loco-mujoco's A1 walks in commanded directions, learned by GAIL and VAIL on TRPO.

Importing this package imports neither torch nor loco_mujoco.
"""

import warnings

from qi_ext.agents.acting import load_agent
from qi_ext.utils import drawing_on_demand

drawing_on_demand.install()

# The window library complains on every machine without a screen.
warnings.filterwarnings("ignore", message=".*DISPLAY environment variable is missing", module="glfw")

__version__ = "0.2.0"
__all__ = ["load_agent", "__version__"]
