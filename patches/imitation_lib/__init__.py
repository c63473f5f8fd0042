"""Patches of imitation-lib: GAIL and VAIL on TRPO, from building an agent to loading it elsewhere."""

# Each registers its patches, in this order: a later one wraps an earlier one.
from patches.imitation_lib import statistics, update_rules, networks, losses, agents, curves, saving  # noqa: F401, I001
from patches.imitation_lib.library import LIBRARY

__all__ = ["LIBRARY"]
