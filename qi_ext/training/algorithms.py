"""Learning algorithms, by the names that --algorithm takes. A new one is a line in ALGORITHMS."""

import importlib
from dataclasses import dataclass

from qi_ext.training.settings import Vail
from qi_ext.utils.settings import Settings


@dataclass(frozen=True)
class Algorithm:
    """An adversarial algorithm, which is what its discriminator is.

    discriminator: "module:class", a `qi_ext.learning.Discriminator`, imported when the learner is built.
    settings: the group of settings that the class takes beside those of all, as keywords; the config has it under the
    algorithm's name. None where it takes none. description: for the help text.
    """

    discriminator: str
    settings: type[Settings] | None = None
    description: str = ""

    def load_discriminator(self):
        """Import and return the discriminator's class."""
        module, _, name = self.discriminator.partition(":")
        return getattr(importlib.import_module(module), name)


ALGORITHMS = {
    "gail": Algorithm("qi_ext.learning.discriminators:GAIL"),
    "vail": Algorithm("qi_ext.learning.discriminators:VAIL", Vail, "with an information bottleneck"),
}

IMITATION_LIB_HAS = ("gail", "vail")
