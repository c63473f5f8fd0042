"""Evaluation: what an agent does in each direction, beside the trot controller and random torques."""

from qi_ext.evaluation.comparison import compare, evaluate_agent, gait_measures
from qi_ext.evaluation.episodes import evaluate
from qi_ext.evaluation.evaluated_agent import EvaluatedAgent, load_evaluated_agent
from qi_ext.evaluation.recorded_episodes import RecordedEpisode, record_episodes
from qi_ext.evaluation.robustness import compare_robustness, conditions, evaluate_robustness

__all__ = [
    "EvaluatedAgent",
    "RecordedEpisode",
    "compare",
    "compare_robustness",
    "conditions",
    "evaluate",
    "evaluate_agent",
    "evaluate_robustness",
    "gait_measures",
    "load_evaluated_agent",
    "record_episodes",
]
