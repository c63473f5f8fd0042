"""A task whose commanded speed changes within an episode: `hard`, at 0.5, 0.3 and 0.7 m/s in turn, a second each."""

import numpy as np

from qi_ext.tasks.directions import DirectionTask

SPEEDS = (0.5, 0.3, 0.7)  # m/s
STEPS_EACH = 100


class ChangingSpeed(DirectionTask):
    """Walk in the commanded direction, at the commanded speed of the moment."""

    def advance(self, command, step, generator):
        cosine, sine, _ = command
        return np.array([cosine, sine, SPEEDS[step // STEPS_EACH % len(SPEEDS)]])
