"""Demonstrations: the trot expert, recording, reading, checking and writing, and the embedded sets."""

from qi_ext.demonstrations.dataset import Demonstrations
from qi_ext.demonstrations.loading import load_demonstrations, resolved_name

__all__ = ["Demonstrations", "load_demonstrations", "resolved_name"]
