"""Patch of random numbers: each environment has a generator of its own."""

from contextlib import contextmanager

import numpy as np

from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.synthetic import a1

_ATTRIBUTE = "_own_random_numbers"


class _Stream:
    """State of a generator, which takes the place of that of numpy's global one while it is drawn from."""

    def __init__(self):
        self._state = None
        self._open = False

    def seed(self, seed):
        """Seed it, as np.random.seed seeds the global generator, with the same errors."""
        if self._open:  # the environment seeds itself in its reset
            np.random.seed(seed)  # noqa: NPY002
        else:
            self._state = np.random.RandomState(seed).get_state()  # noqa: NPY002

    @contextmanager
    def drawn_from(self):
        if self._open:
            yield
            return
        if self._state is None:
            # As late as possible: np.random.seed() anywhere before the first episode decides it, as it does without the patch.
            self.seed(np.random.randint(2**32, dtype=np.uint32))  # noqa: NPY002
        outside = np.random.get_state()  # noqa: NPY002
        np.random.set_state(self._state)  # noqa: NPY002
        self._open = True
        try:
            yield
        finally:
            self._open = False
            self._state = np.random.get_state()  # noqa: NPY002
            np.random.set_state(outside)  # noqa: NPY002


def _stream(owner):
    if _ATTRIBUTE not in vars(owner):
        setattr(owner, _ATTRIBUTE, _Stream())
    return vars(owner)[_ATTRIBUTE]


def _probe():
    first, second = a1(n_trajectories=5), a1(n_trajectories=5)
    faults = []

    def episodes(environment, others=()):
        environment.seed(3)
        observations = []
        for _ in range(4):
            observations.append(environment.reset())
            for other in others:
                other.reset()
        return np.array(observations)

    if not np.array_equal(episodes(first), episodes(first, others=[second])):
        faults.append("a second environment changes a seeded one's episodes")
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.uniform()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    episodes(first)
    if np.random.uniform() != expected:  # noqa: NPY002
        faults.append("seed() and reset() change numpy's global generator")
    return "; ".join(faults)


@LIBRARY.patch(
    "own-generators",
    target="loco_mujoco.environments.base:LocoEnv.reset, seed; loco_mujoco.utils.trajectory:Trajectory.reset_trajectory",
    sees="env.seed(s) reseeds numpy's global generator, and resets draw from it: two environments, or an environment and the "
    "rest of a program, disturb each other, and a seeded run cannot be repeated",
    remedy="resets draw from a generator of the environment's own, which env.seed(s) seeds; one that is never seeded takes its "
    "seed from numpy's global generator at its first reset, so that np.random.seed() still makes a script repeatable",
    changes_results="episodes start from other samples (the same distribution); after env.seed(s) from those of upstream after "
    "np.random.seed(s). np.random.seed() after the first reset no longer changes an environment's episodes",
    probe=_probe,
)
def _install(edits):
    from loco_mujoco.environments.base import LocoEnv
    from loco_mujoco.utils.trajectory import Trajectory

    @edits.wrap(LocoEnv, "reset")
    def reset(original, self, *arguments, **keywords):
        if type(self).seed is not LocoEnv.seed:  # its class has a generator of its own already
            return original(self, *arguments, **keywords)
        with _stream(self).drawn_from():
            return original(self, *arguments, **keywords)

    @edits.wrap(LocoEnv, "seed")
    def seed(original, self, seed):
        _stream(self).seed(seed)

    @edits.wrap(LocoEnv, "load_trajectory")
    def load_trajectory(original, self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        # A trajectory may be reset by itself, and then draws from its environment's generator.
        setattr(self.trajectories, _ATTRIBUTE, _stream(self))

    @edits.wrap(Trajectory, "reset_trajectory")
    def reset_trajectory(original, self, *arguments, **keywords):
        if _ATTRIBUTE not in vars(self):  # it belongs to no environment
            return original(self, *arguments, **keywords)
        with _stream(self).drawn_from():
            return original(self, *arguments, **keywords)
