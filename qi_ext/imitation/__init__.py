"""GAIL and VAIL on TRPO, behind mushroom-rl's Agent interface."""

from qi_ext.imitation.agents import GAIL, VAIL

__all__ = ["GAIL", "VAIL"]
