"""An agent beside the trot controller and chance, and what is measured on them."""

from functools import partial

from qi_ext.evaluation.distance import StateDistance
from qi_ext.evaluation.episodes import evaluate
from qi_ext.evaluation.gait import Contacts, Gait
from qi_ext.evaluation.motion import Motion
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController


def compare(sampler, actor, episodes, seed, step=0, progress=lambda n: None, beside=None, measures=()):
    """Evaluate `actor` deterministic and stochastic, the trot controller (`expert`) and uniform torques (`random`).

    beside: another `Actor`, evaluated deterministic. measures: as `evaluate` takes them; uniform torques are not measured.
    Returns {name: result of `evaluate`}. progress(n) is called as n of the |names| episodes |directions| episodes are done.
    """
    controllers = {"deterministic": PolicyController(actor, deterministic=True), "stochastic": PolicyController(actor)}
    if beside is not None:
        controllers["beside"] = PolicyController(beside, deterministic=True)
    controllers |= {"expert": ExpertController(), "random": RandomController()}
    measured = dict.fromkeys(controllers, measures) | {"random": ()}
    return {
        name: evaluate(sampler, controller, episodes, seed, step, progress, measures=measured[name])
        for name, controller in controllers.items()
    }


def gait_measures(environment, seed, step=0):
    """What `gait_table` shows, for `compare`: `Motion`, `Gait` and `StateDistance` in a `QuadrupedDirection`."""
    distance = StateDistance(environment.demonstrations, seed, step)
    return Motion, partial(Gait, Contacts(environment.model)), distance
