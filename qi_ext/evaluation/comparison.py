"""The evaluation of an agent beside the trot controller and random torques."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qi_ext.agents.acting import Actor
from qi_ext.evaluation.distance import StateDistance
from qi_ext.evaluation.episodes import evaluate
from qi_ext.evaluation.gait import Contacts, Gait
from qi_ext.evaluation.motion import Motion
from qi_ext.sampling.controllers import Controller, ExpertController, PolicyController, RandomController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.utils.display import Display

if TYPE_CHECKING:
    from qi_ext.tasks.quadruped import QuadrupedDirection  # loco_mujoco, which takes a second

__all__ = ["compare", "evaluate_agent", "gait_measures"]


def evaluate_agent(
    source: PoolSource, actor: Actor, episodes: int, seed: int, step: int = 0, beside: Actor | None = None
) -> dict:
    """Evaluate an agent as a training run does at its end: `compare` with `gait_measures`, its progress shown.

    source: a `PoolSource` of the `QuadrupedDirection` that the agent was trained in. actor: the agent, an `Actor`.
    episodes: per direction and policy, at least 1. seed, step: of the training run; they key the episodes.
    beside: another `Actor`, or None. Returns plain data, as `compare` does. Raises SamplingError.
    """
    environment = source.environment
    n_episodes = len(controllers(actor, beside)) * episodes * len(environment.commands)
    with Display("evaluating", n_episodes, "episodes") as display:
        return compare(source, actor, episodes, seed, step, display.advance, beside, gait_measures(environment, seed, step))


def compare(
    source: PoolSource,
    actor: Actor,
    episodes: int,
    seed: int,
    step: int = 0,
    progress: Callable[[int], Any] = lambda n: None,
    beside: Actor | None = None,
    measures: Sequence[Callable] = (),
) -> dict:
    """Evaluate `actor` deterministic and stochastic, the trot controller (`expert`) and uniform torques (`random`).

    beside: another `Actor`, evaluated deterministic, or None. The other arguments: as in `evaluate`; uniform torques are not
    measured. Returns {name: result of `evaluate`}. Raises SamplingError.
    """
    return {
        name: evaluate(source, controller, episodes, seed, step, progress, measures=() if name == "random" else measures)
        for name, controller in controllers(actor, beside).items()
    }


def gait_measures(environment: "QuadrupedDirection", seed: int, step: int = 0) -> Sequence[Callable]:
    """The measures of `evaluate` that `gait_table` shows: `Motion`, `Gait` and `StateDistance` in a `QuadrupedDirection`."""
    distance = StateDistance(environment.demonstrations, seed, step)
    return Motion, partial(Gait, Contacts(environment.model)), distance


def controllers(actor: Actor, beside: Actor | None) -> dict[str, Controller]:
    """The policies of an evaluation, {name: controller}; beside: another `Actor`, or None."""
    found: dict[str, Controller] = {
        "deterministic": PolicyController(actor, deterministic=True),
        "stochastic": PolicyController(actor),
    }
    if beside is not None:
        found["beside"] = PolicyController(beside, deterministic=True)
    return found | {"expert": ExpertController(), "random": RandomController()}
