"""Evaluation: what an agent does in each direction, beside the expert and chance."""

from qi_ext.evaluation.comparison import compare, gait_measures
from qi_ext.evaluation.episodes import evaluate
from qi_ext.evaluation.robustness import compare_robustness, conditions

__all__ = [
    "compare",
    "compare_robustness",
    "conditions",
    "evaluate",
    "gait_measures",
]
