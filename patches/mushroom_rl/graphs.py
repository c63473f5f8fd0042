"""Patch of what is computed without a backward pass: no graph is recorded for one."""

from patches.mushroom_rl.library import LIBRARY
from patches.mushroom_rl.samples import small_agent, small_dataset


def _probe_no_grad():
    import numpy as np
    import torch

    agent = small_agent()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        agent._V(np.zeros((4, 3), dtype=np.float32))
    if kept:
        return f"predicting an array keeps {len(kept)} tensors for a backward pass"
    losses, dists = [], []
    agent._compute_loss = _recording(losses, agent._compute_loss)
    agent._conjugate_gradient = lambda g, obs, dist: dists.append(dist.loc) or g.numpy()
    agent.fit(small_dataset())
    if any(loss.requires_grad for loss in losses[1:]):  # the first is the one to differentiate
        return "the line search records graphs"
    return "the old policy's distribution records a graph" if dists[0].requires_grad else ""


def _recording(values, function):
    def call(*arguments):
        values.append(function(*arguments))
        return values[-1]

    return call


@LIBRARY.patch(
    "no-grad",
    target="mushroom_rl.approximators.parametric.torch_approximator:TorchApproximator.predict",
    sees="predicting arrays, the line search, the old policy, entropies and logs record graphs that no backward pass uses: it "
    "costs time and memory",
    remedy="they run without gradients; results stay the same, bit for bit",
    probe=_probe_no_grad,
)
def _no_grad(edits):
    import torch
    from mushroom_rl.algorithms.actor_critic import PPO, TRPO
    from mushroom_rl.algorithms.actor_critic.deep_actor_critic import trpo
    from mushroom_rl.approximators.parametric import TorchApproximator
    from mushroom_rl.policy import TorchPolicy

    @edits.wrap(TorchApproximator, "predict")
    def predict(original, self, *arguments, output_tensor=False, **keywords):
        if output_tensor:
            return original(self, *arguments, output_tensor=True, **keywords)
        try:
            with torch.no_grad():
                return original(self, *arguments, **keywords)
        except RuntimeError as error:
            # The network differentiates in its own forward pass.
            if "does not require grad" not in str(error):
                raise
        return original(self, *arguments, **keywords)

    @edits.wrap(TRPO, "_log_info")
    @edits.wrap(PPO, "_log_info")
    @edits.wrap(TorchPolicy, "entropy")
    def without_gradients(original, *arguments, **keywords):
        with torch.no_grad():
            return original(*arguments, **keywords)

    # The line search runs without gradients, except in this product, which is a derivative.
    @edits.wrap(TRPO, "_fisher_vector_product")
    def with_gradients(original, *arguments, **keywords):
        with torch.enable_grad():
            return original(*arguments, **keywords)

    @edits.wrap(TRPO, "_line_search")
    def line_search(original, self, *arguments, **keywords):
        # A subclass may need gradients in its own loss.
        parts = ("_compute_loss", "_compute_kl", "_fisher_vector_product")
        plain = all(getattr(type(self), name) is getattr(TRPO, name) for name in parts)
        try:
            with torch.set_grad_enabled(not plain):
                return original(self, *arguments, **keywords)
        finally:
            _thaw(self)

    edits.replace(trpo, "deepcopy", _frozen_copy)


def _frozen_copy(policy):
    """Copy of TRPO's policy, without gradients until the line search is over."""
    from copy import deepcopy

    old = deepcopy(policy)
    for parameter in old.parameters():
        parameter.requires_grad_(False)
    return old


def _thaw(agent):
    if agent._old_policy is not None:
        for old, new in zip(agent._old_policy.parameters(), agent.policy.parameters(), strict=True):
            old.requires_grad_(new.requires_grad)
