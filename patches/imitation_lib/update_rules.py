"""Patches of when the statistics of Standardizer change, and when they stand still."""

import numpy as np

from patches.imitation_lib import small
from patches.imitation_lib.blocks import Block, frozen
from patches.imitation_lib.library import LIBRARY


def _in_frozen(method, *arguments, **keywords):
    with frozen:
        return method(*arguments, **keywords)


def _probe_frozen():
    import mushroom_rl.core

    agent = small.gail(sw=small.Writer())
    core = mushroom_rl.core.Core(agent, small.Glider())
    core.learn(n_steps=32, n_steps_per_fit=16, quiet=True)
    before = agent._trpo_standardizer._count.copy()
    core.evaluate(n_episodes=1, quiet=True)
    counted = float((agent._trpo_standardizer._count - before)[0])
    return f"evaluating added {counted:g} samples to the statistics" if counted else _during_policy_step(agent)


def _during_policy_step(agent):
    dataset, counts = small.dataset(), []
    gradient = agent._conjugate_gradient

    def counting(*arguments):
        counts.append(agent._trpo_standardizer._count.copy())
        step = gradient(*arguments)
        counts.append(agent._trpo_standardizer._count.copy())
        return step

    agent._conjugate_gradient = counting
    agent.fit(dataset)
    return "" if np.array_equal(*counts) else f"conjugate gradient added {float((counts[1] - counts[0])[0]):g} samples"


@LIBRARY.patch(
    "frozen-statistics",
    target="imitation_lib.utils.networks:Standardizer, mushroom_rl.core:Core.evaluate",
    sees="evaluating changes the policy; every step of conjugate gradient, of the line search and of logging adds the "
    "whole batch to the statistics, and the trust region is measured between two different normalizations",
    remedy="statistics stand still in Core.evaluate, in conjugate gradient and the line search, in logging, and in networks "
    "in eval mode",
    changes_results="yes: the trust region is measured in one normalization",
    probe=_probe_frozen,
)
def _frozen_statistics(edits):
    import mushroom_rl.core
    from imitation_lib.imitation import GAIL_TRPO, VAIL_TRPO
    from imitation_lib.utils import Standardizer

    @edits.wrap(Standardizer, "update_mean_std")
    def update_mean_std(original, self, x):
        if self.training and not frozen:
            original(self, x)

    edits.wrap(mushroom_rl.core.Core, "evaluate")(_in_frozen)
    for name in ("_conjugate_gradient", "_line_search", "_logging_sw", "_discriminator_logging"):
        edits.wrap(GAIL_TRPO, name)(_in_frozen)
    edits.wrap(VAIL_TRPO, "_discriminator_logging")(_in_frozen)


def _probe_update_rule():
    agent = small.gail()
    observations = np.array([sample[0] for sample in small.dataset()])
    agent.draw_action(observations[0])
    before = float(np.ravel(agent._trpo_standardizer._count)[0])
    agent.fit(small.dataset())
    counted = float(agent._trpo_standardizer._count[0]) - before
    extra = counted - len(observations)
    acting = "" if before < 1.0 else "acting adds to the statistics; "
    return "" if not extra and not acting else f"{acting}a batch of {len(observations)} is counted as {counted:g}"


@LIBRARY.patch(
    "statistics-once-per-batch",
    target="imitation_lib.utils.networks:Standardizer, imitation_lib.imitation:GAIL_TRPO.fit",
    sees="acting, values, rewards and the critic's epochs all add to the statistics; a batch counts many times",
    remedy="a batch is added once, after the policy step; the discriminator's statistics once a fit of it; only those of "
    "the trpo_standardizer and D_standardizer that the agent was given",
    changes_results="yes",
    default=False,
    probe=_probe_update_rule,
)
def _statistics_once_per_batch(edits):
    from imitation_lib.imitation import GAIL_TRPO
    from imitation_lib.utils import Standardizer, networks

    rule = _UpdateRule()

    @edits.wrap(networks.Standardizerv2, "forward")
    @edits.wrap(Standardizer, "forward")
    def forward(original, self, inputs):
        with rule.forward_pass:
            return original(self, inputs)

    @edits.wrap(Standardizer, "update_mean_std")
    def update_mean_std(original, self, x):
        if rule.counts(self):
            original(self, x)

    @edits.wrap(GAIL_TRPO, "fit")
    def fit(original, self, *arguments, **keywords):
        rule.begin_fit(waiting=self._trpo_standardizer)
        try:
            return original(self, *arguments, **keywords)
        finally:
            rule.end_fit()

    @edits.wrap(GAIL_TRPO, "_line_search")
    def line_search(original, self, *arguments):
        original(self, *arguments)
        rule.waiting = None


class _UpdateRule:
    """Rule that says which calls of update_mean_std count."""

    def __init__(self):
        self.forward_pass, self.seen, self.waiting = Block(), None, None

    def begin_fit(self, waiting):
        """Begin a fit of the agent. waiting: the standardizer that is not updated before the policy step is over."""
        self.seen, self.waiting = [], waiting

    def end_fit(self):
        self.seen = self.waiting = None

    def counts(self, standardizer):
        if self.forward_pass or standardizer is self.waiting:
            return False
        if self.seen is None:  # an explicit call, outside of fit
            return True
        first = not any(standardizer is other for other in self.seen)
        self.seen.append(standardizer)
        return first
