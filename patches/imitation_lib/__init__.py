"""Patches of imitation-lib: the way of GAIL and VAIL on TRPO, from building an agent to loading it elsewhere."""

# Each registers its patches; what is installed last is asked first.
from patches.imitation_lib import statistics, update_rules, networks, losses, agents, curves, saving  # noqa: F401, I001
from patches.imitation_lib.library import LIBRARY

__all__ = ["LIBRARY"]
