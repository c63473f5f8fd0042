"""Learning algorithms, by the names that --algorithm takes. A new one is a line in ALGORITHMS."""

from dataclasses import dataclass

from qi_ext.training.settings import Vail
from qi_ext.utils.settings import Settings

__all__ = ["ALGORITHMS", "Algorithm"]


@dataclass(frozen=True)
class Algorithm:
    """An adversarial algorithm, which is what its discriminator is.

    discriminator: a subclass of `qi_ext.learning.Discriminator`, or "module:class", imported when the learner is built.
    settings: the group of settings that the class takes beside those of all, as keywords; the config has it under the
    algorithm's name. None where it takes none. description: for the help text.
    """

    discriminator: str | type
    settings: type[Settings] | None = None
    description: str = ""


ALGORITHMS = {
    "gail": Algorithm("qi_ext.learning.discriminators:GAIL"),
    "vail": Algorithm("qi_ext.learning.discriminators:VAIL", Vail, "with an information bottleneck"),
}

IMITATION_LIB_HAS = ("gail", "vail")
