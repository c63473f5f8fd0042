"""GAIL and VAIL on TRPO, behind mushroom-rl's Agent interface."""

from qi_ext.learning.gail import GAIL, VAIL

__all__ = ["GAIL", "VAIL"]
