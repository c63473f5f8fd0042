"""Learning algorithms, by the names that --algorithm takes. A new one is a line in ALGORITHMS."""

import importlib
from dataclasses import dataclass

from qi_ext.training.settings import Vail
from qi_ext.utils.settings import Settings


@dataclass(frozen=True)
class Algorithm:
    """builder: "module:name" of what makes its learner, called with (mdp_info, demonstrations, config, seed, device); imported
    when the learner is built. settings: the class of its own group of settings, which the config has under the algorithm's
    name; None where it has none. description: for the help text."""

    builder: str
    settings: type[Settings] | None = None
    description: str = ""


ALGORITHMS = {
    "gail": Algorithm("qi_ext.learning.gail:GAIL"),
    "vail": Algorithm("qi_ext.learning.gail:VAIL", Vail, "with an information bottleneck"),
}

IMITATION_LIB_HAS = ("gail", "vail")


def learner_builder(config):
    """What makes the learner of a `Config`, called with (mdp_info, demonstrations, config, seed, device).

    Raises UserError where its backend is imitation_lib, and that is not installed.
    """
    if config.run.backend == "imitation_lib":
        from qi_ext.learning.backends import agent_class

        return agent_class(config)
    module, _, name = ALGORITHMS[config.run.algorithm].builder.partition(":")
    return getattr(importlib.import_module(module), name)
