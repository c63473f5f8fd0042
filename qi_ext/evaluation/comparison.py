"""The evaluation of an agent beside the trot controller and random torques."""

from functools import partial

from qi_ext.evaluation.distance import StateDistance
from qi_ext.evaluation.episodes import evaluate
from qi_ext.evaluation.gait import Contacts, Gait
from qi_ext.evaluation.motion import Motion
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.utils.display import Display


def evaluate_agent(source, actor, episodes, seed, step=0, beside=None):
    """Evaluate an agent as a training run does at its end: `compare` with `gait_measures`, its progress shown.

    source: a `PoolSource` of the `QuadrupedDirection` that the agent was trained in. actor: the agent, an `Actor`.
    episodes: per direction and policy, at least 1. seed, step: of the training run; they key the episodes.
    beside: another `Actor`, or None. Returns plain data, as `compare` does. Raises SamplingError.
    """
    environment = source.environment
    n_episodes = len(controllers(actor, beside)) * episodes * len(environment.commands)
    with Display("evaluating", n_episodes, "episodes") as display:
        return compare(source, actor, episodes, seed, step, display.advance, beside, gait_measures(environment, seed, step))


def compare(source, actor, episodes, seed, step=0, progress=lambda n: None, beside=None, measures=()):
    """Evaluate `actor` deterministic and stochastic, the trot controller (`expert`) and uniform torques (`random`).

    beside: another `Actor`, evaluated deterministic, or None. The other arguments: as in `evaluate`; uniform torques are not
    measured. Returns {name: result of `evaluate`}. Raises SamplingError.
    """
    return {
        name: evaluate(source, controller, episodes, seed, step, progress, measures=() if name == "random" else measures)
        for name, controller in controllers(actor, beside).items()
    }


def gait_measures(environment, seed, step=0):
    """The measures of `evaluate` that `gait_table` shows: `Motion`, `Gait` and `StateDistance` in a `QuadrupedDirection`."""
    distance = StateDistance(environment.demonstrations, seed, step)
    return Motion, partial(Gait, Contacts(environment.model)), distance


def controllers(actor, beside):
    """The policies of an evaluation, {name: controller}; beside: another `Actor`, or None."""
    found = {"deterministic": PolicyController(actor, deterministic=True), "stochastic": PolicyController(actor)}
    if beside is not None:
        found["beside"] = PolicyController(beside, deterministic=True)
    return found | {"expert": ExpertController(), "random": RandomController()}
