"""Patches of the curves that agents write to TensorBoard."""

import contextlib

from patches.imitation_lib import small
from patches.imitation_lib.library import LIBRARY
from patches.library import crash

_LOGGING = "imitation_lib.imitation:GAIL_TRPO._logging_sw"
_OF_EPISODES = ("EpTrueRewMean", "EpRewMean", "EpLenMean")


@contextlib.contextmanager
def _writing_through(agent, add_scalar):
    """Context in which each scalar that the agent writes goes to add_scalar(write, tag, step); write(step) writes it.

    Everything else goes to the agent's writer, as a subclass may use its other methods.
    """
    writer = agent._sw

    class Through:
        def __getattr__(self, name):
            return getattr(writer, name)

        def add_scalar(self, tag, scalar_value, global_step=None, *more, **keywords):
            add_scalar(lambda step: writer.add_scalar(tag, scalar_value, step, *more, **keywords), tag, global_step)

    agent._sw = Through()
    try:
        yield
    finally:
        agent._sw = writer


def _probe_trained_loss():
    agent = small.vail(sw=small.Writer())
    agent.fit(small.dataset())
    logged, used = agent._sw.scalars["Beta"][-1][1], float(agent._D.model._loss._beta)
    return "" if abs(logged - used) < 1e-9 else f"beta is {used:.4f}, and logged as {logged:.4f}"


@LIBRARY.patch(
    "logged-loss",
    target="imitation_lib.imitation:GAIL_TRPO.__init__, _post_load",
    sees="VAIL's beta is logged as 0.1 for ever, and the losses with it, because a copy of the loss is trained",
    remedy="the loss that is logged, and saved, is the one that is trained",
    probe=_probe_trained_loss,
)
def _logged_loss(edits):
    from imitation_lib.imitation import GAIL_TRPO

    @edits.wrap(GAIL_TRPO, "_post_load")
    @edits.wrap(GAIL_TRPO, "__init__")
    def with_one_loss(original, self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        self._loss = self._D.model._loss


def _probe_no_episode():
    agent = small.gail(sw=small.Writer())
    seen = crash(agent.fit, small.dataset(episode=0))
    return seen or ("" if "vf_loss" in agent._sw.scalars else "the values' loss is not logged")


@LIBRARY.patch(
    "no-episode",
    target=_LOGGING,
    sees="a batch in which no episode ends is an error: cannot convert float NaN to integer",
    remedy="logs what there is, and nothing of episodes",
    probe=_probe_no_episode,
)
def _no_episode(edits):
    from imitation_lib.imitation import GAIL_TRPO

    def add_scalar(write, tag, step):
        if tag not in _OF_EPISODES:
            write(step)

    @edits.wrap(GAIL_TRPO, "_logging_sw")
    def _logging_sw(original, self, dataset, new_data_set, *arguments):
        if self._sw is None or any(sample[-1] for sample in dataset):
            return original(self, dataset, new_data_set, *arguments)
        # As if the last episode ended here; the figures of episodes, wrong then, are not logged.
        closed = [[*samples[:-1], (*samples[-1][:-1], True)] for samples in (dataset, new_data_set)]
        with _writing_through(self, add_scalar):
            return original(self, *closed, *arguments)


def _probe_steps():
    agent = small.gail(sw=small.Writer(), train_D_n_th_epoch=2)
    for _ in range(6):
        agent.fit(small.dataset())
    found = {tag: [step for step, _ in points] for tag, points in agent._sw.scalars.items()}
    wrong = [tag for tag, steps in found.items() if steps != [2, 4, 6]]
    return f"updates 2, 4 and 6 are logged as {found[wrong[0]]}" if wrong else ""


@LIBRARY.patch(
    "log-steps",
    target="imitation_lib.imitation:GAIL_TRPO._logging_sw, _discriminator_logging, VAIL_TRPO._discriminator_logging",
    sees="curves are drawn over a third of the updates' numbers, however often is logged",
    remedy="the step of a value is the number of its update",
    probe=_probe_steps,
)
def _log_steps(edits):
    from imitation_lib.imitation import GAIL_TRPO, VAIL_TRPO

    @edits.wrap(VAIL_TRPO, "_discriminator_logging")
    @edits.wrap(GAIL_TRPO, "_discriminator_logging")
    @edits.wrap(GAIL_TRPO, "_logging_sw")
    def log(original, self, *arguments):
        if self._sw is None:
            return original(self, *arguments)
        third = self._iter // 3
        with _writing_through(self, lambda write, tag, step: write(self._iter if step == third else step)):
            return original(self, *arguments)
