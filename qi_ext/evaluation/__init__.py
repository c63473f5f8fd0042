"""Evaluation: what an agent does in each direction, beside the expert and chance."""

from qi_ext.evaluation.episodes import evaluate
from qi_ext.evaluation.report import compare, table

__all__ = ["compare", "evaluate", "table"]
