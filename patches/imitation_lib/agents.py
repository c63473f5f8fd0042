"""Patches of GAIL and VAIL agents: how they are built, rewarded and fitted."""

import inspect
import warnings

import numpy as np

from patches.imitation_lib import small
from patches.imitation_lib.library import LIBRARY
from patches.library import crash

_GAIL = "imitation_lib.imitation:GAIL_TRPO"

INFO_CONSTRAINT, LR_BETA = 1.0, 1e-5  # as published for UnitreeA1.simple, loco-mujoco's examples/imitation_learning/confs.yaml


def _change_keywords(edits, change):
    """Build agents with the keywords that change(self, keywords) returns; positional arguments become keywords first."""
    from imitation_lib.imitation import GAIL_TRPO

    @edits.wrap(GAIL_TRPO, "__init__")
    def __init__(original, self, *arguments, **keywords):
        keywords = dict(inspect.signature(original).bind(self, *arguments, **keywords).arguments)
        del keywords["self"]
        original(self, **change(self, keywords))


def _probe_loss():
    from imitation_lib.imitation import GAIL_TRPO, VAIL_TRPO

    given = small.pieces()
    first = GAIL_TRPO(**given)
    if "loss" in given["discriminator_params"]:
        return "the loss of an agent is put into the caller's discriminator_params, for the next agent to share"
    if first._loss is GAIL_TRPO(**small.pieces())._loss:
        return "agents built without a loss share one"
    return crash(VAIL_TRPO(**small.pieces("vail")).fit, small.dataset())


@LIBRARY.patch(
    "own-loss",
    target=_GAIL + ".__init__",
    sees="agents share their loss, and with it beta; VAIL without a loss ends in a TypeError at its first fit; "
    "the caller's discriminator_params are changed",
    remedy=f"an agent without a loss gets its own, VAIL VDBLoss({INFO_CONSTRAINT:g}, {LR_BETA:g}), as published for "
    "UnitreeA1.simple; parameters are copied",
    probe=_probe_loss,
)
def _own_loss(edits):
    from imitation_lib.imitation import VAIL_TRPO
    from imitation_lib.utils import GailDiscriminatorLoss, VDBLoss

    def change(agent, keywords):
        parameters = dict(keywords["discriminator_params"])
        if "loss" not in keywords:
            own = VDBLoss(INFO_CONSTRAINT, LR_BETA) if isinstance(agent, VAIL_TRPO) else GailDiscriminatorLoss()
            keywords["loss"] = parameters.get("loss", own)
        return keywords | {"discriminator_params": parameters}

    _change_keywords(edits, change)


def _probe_critic_epochs():
    return crash(small.gail(critic_fit_params={}).fit, small.dataset())


@LIBRARY.patch(
    "critic-epochs",
    target=_GAIL + ".__init__",
    sees="critic_fit_params without n_epochs end in a KeyError at the first fit of an agent with a standardizer",
    remedy="one epoch, which is what mushroom-rl's fit does without n_epochs",
    probe=_probe_critic_epochs,
)
def _critic_epochs(edits):
    def change(agent, keywords):
        parameters = keywords.get("critic_fit_params")
        # Without a standardizer, mushroom-rl's own fit takes them: n_epochs is optional, and others may stop it early.
        if parameters is None or keywords.get("trpo_standardizer") is None:
            return keywords
        return keywords | {"critic_fit_params": {"n_epochs": 1, **parameters}}

    _change_keywords(edits, change)


def _probe_without_demonstrations():
    seen = crash(lambda: small.gail(demonstrations=None, env_reward_frac=1.0).fit(small.dataset()))
    if seen:
        return seen
    agent = small.gail()
    agent._demonstrations = None  # as in an agent that was saved without them
    message = crash(agent.fit, small.dataset())
    return "" if "load_demonstrations" in message else f"after loading: {message}"


@LIBRARY.patch(
    "without-demonstrations",
    target=_GAIL,
    sees="demonstrations=None with env_reward_frac=1.0, which is allowed, ends in a TypeError; so does training "
    "a loaded agent that was saved without its demonstrations",
    remedy="trains on the environment's reward alone; where demonstrations are needed, says how to give them",
    probe=_probe_without_demonstrations,
)
def _without_demonstrations(edits):
    from imitation_lib.imitation import GAIL_TRPO

    def change(agent, keywords):
        if keywords.get("demonstrations") is not None or keywords.get("env_reward_frac", 0.0) != 1.0:
            return keywords
        info = keywords["mdp_info"]
        columns = {"states": info.observation_space, "next_states": info.observation_space, "actions": info.action_space}
        return keywords | {"demonstrations": {key: np.empty((0, *space.shape)) for key, space in columns.items()}}

    def without(agent):
        return agent._demonstrations is None or not len(agent._demonstrations["states"])

    @edits.wrap(GAIL_TRPO, "fit")
    def fit(original, self, dataset, **info):
        if without(self) and self._env_reward_frac < 1.0:
            raise ValueError(
                f"{type(self).__name__}: the agent has no demonstrations, because it was saved without; "
                "give it some with agent.load_demonstrations(mdp.create_dataset())"
            )
        original(self, dataset, **info)

    @edits.wrap(GAIL_TRPO, "_fit_discriminator")
    def fit_discriminator(original, self, *arguments):
        if not without(self):
            original(self, *arguments)

    _change_keywords(edits, change)


def _probe_few():
    return crash(small.gail(sw=small.Writer(), demonstrations=small.demonstrations(rows=5)).fit, small.dataset())


@LIBRARY.patch(
    "few-demonstrations",
    target=_GAIL + "._fit_discriminator",
    sees="with fewer demonstrated states than the batch has, and a writer, the first fit of the discriminator ends "
    "in an error about sizes",
    remedy="draws demonstrations with replacement until there are as many, so that both sides weigh the same",
    changes_results="where there are fewer demonstrations than samples in a batch",
    probe=_probe_few,
)
def _few_demonstrations(edits):
    from imitation_lib.imitation import GAIL_TRPO

    @edits.wrap(GAIL_TRPO, "_fit_discriminator")
    def _fit_discriminator(original, self, states, *arguments):
        mine = self._demonstrations
        if mine is None or not 0 < len(mine["states"]) < len(states):
            return original(self, states, *arguments)
        n = len(mine["states"])
        # From numpy's global generator, as everything in the library.
        rows = np.concatenate([np.arange(n), np.random.randint(n, size=len(states) - n)])  # noqa: NPY002
        columns = [key for key in ("states", "next_states", "actions") if key in mine]
        self._demonstrations = mine | {key: np.asarray(mine[key])[rows] for key in columns}
        try:
            return original(self, states, *arguments)
        finally:
            self._demonstrations = mine


def _probe_reward():
    agent = small.gail()
    logits = np.array([[-1000.0], [0.0], [1000.0]], np.float32)
    agent.discrim_output = lambda *inputs, **keywords: logits
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rewards = agent.make_discrim_reward(None, None, None)
    if caught:
        return str(caught[0].message)
    return "" if rewards[2] == 1000.0 else f"a logit of 1000 is rewarded with {rewards[2]:.2f}"


@LIBRARY.patch(
    "reward",
    target=_GAIL + ".make_discrim_reward",
    sees="'overflow encountered in exp', and rewards that go no higher than 18.42",
    remedy="softplus(logit), which is -log(1 - sigmoid(logit))",
    changes_results="by 1e-6 at logits of 2, 1e-3 at 10, 0.2 at 15, and more above",
    probe=_probe_reward,
)
def _reward(edits):
    from imitation_lib.imitation import GAIL_TRPO

    def make_discrim_reward(self, state, action, next_state, apply_mask=True):
        import torch

        with torch.no_grad():
            logits = self.discrim_output(state, next_state if self._use_next_state else action, apply_mask=apply_mask)
        return np.logaddexp(0.0, np.asarray(logits, np.float64)).reshape(len(logits)).astype(np.float32)

    edits.replace(GAIL_TRPO, "make_discrim_reward", make_discrim_reward)


def _probe_first_update():
    agent = small.gail(train_D_n_th_epoch=3)
    before = agent._D.model.get_weights()
    fitted = []
    for _ in range(6):
        agent.fit(small.dataset())
        fitted.append(not np.array_equal(before, agent._D.model.get_weights()))
        before = agent._D.model.get_weights()
    return "" if fitted[0] else f"the discriminator is fitted first in update {1 + fitted.index(True)}"


@LIBRARY.patch(
    "first-discriminator-update",
    target=_GAIL + "._fit_discriminator",
    sees="the policy learns from a random discriminator until its n-th update",
    remedy="the discriminator is fitted in updates 1, n + 1, 2 n + 1 ... in place of n, 2 n ...",
    changes_results="yes",
    default=False,
    probe=_probe_first_update,
)
def _first_discriminator_update(edits):
    from imitation_lib.imitation import GAIL_TRPO

    @edits.wrap(GAIL_TRPO, "_fit_discriminator")
    def _fit_discriminator(original, self, *arguments):
        n = self._train_D_n_th_epoch
        if (self._iter - 1) % n:
            return
        self._train_D_n_th_epoch = 1  # so that the original does not skip this update
        try:
            original(self, *arguments)
        finally:
            self._train_D_n_th_epoch = n
