"""Patches of the discriminators' losses."""

import numpy as np

from patches.imitation_lib.library import LIBRARY
from patches.library import crash

_LOSSES = "imitation_lib.utils.math:"


def _logits(rows=4, columns=1):
    import torch

    generator = np.random.default_rng(0)
    logits = torch.tensor(generator.normal(size=(rows, columns)), dtype=torch.float32, requires_grad=True)
    return logits, torch.tensor(generator.integers(2, size=(rows, columns)), dtype=torch.float32)


def _probe_gail_loss():
    import torch
    from imitation_lib.utils import GailDiscriminatorLoss

    logits, targets = _logits()
    weight = torch.tensor([3.0])
    plain, weighted = GailDiscriminatorLoss(entcoeff=0.0), GailDiscriminatorLoss(entcoeff=0.0, pos_weight=weight)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
    if not torch.isclose(weighted(logits, targets), expected):
        return "pos_weight changes nothing" if weighted(logits, targets) == plain(logits, targets) else "pos_weight is wrong"
    shape = tuple(GailDiscriminatorLoss(reduction="none")(logits, targets).shape)
    return "" if shape == (4, 1) else f"reduction='none' gives shape {shape}"


@LIBRARY.patch(
    "gail-loss",
    target=_LOSSES + "GailDiscriminatorLoss.forward",
    sees="weight, pos_weight and reduction of the loss are taken and ignored",
    remedy="the cross entropy is torch's, with all of them; the entropy is reduced in the same way",
    changes_results="in the last bits; by more where weight, pos_weight or reduction is given",
    probe=_probe_gail_loss,
)
def _gail_loss(edits):
    import torch
    from imitation_lib.utils import GailDiscriminatorLoss

    reduce = {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}

    def forward(self, input, target):
        # The loss stays on the CPU when the networks go to a GPU, and is used on both: for logging on the CPU.
        weight, pos_weight = (value if value is None else value.to(input.device) for value in (self.weight, self.pos_weight))
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
            input, target, weight, pos_weight=pos_weight, reduction=self.reduction
        )
        return cross_entropy - self.entcoeff * reduce[self.reduction](self.logit_bernoulli_entropy(input))

    edits.replace(GailDiscriminatorLoss, "forward", forward)


def _vdb(**keywords):
    from imitation_lib.utils import VDBLoss

    return VDBLoss(info_constraint=0.5, lr_beta=0.01, **keywords)


def _variational():
    import torch

    logits, targets = _logits()
    mu = torch.ones(4, 3, requires_grad=True)
    return (logits, mu, torch.zeros(4, 3)), targets


def _probe_bernoulli():
    outputs, targets = _variational()
    loss = _vdb(use_bernoulli_ent=True, entcoeff=0.1)(outputs, targets)
    if loss.ndim:
        return f"the loss has shape {tuple(loss.shape)}: {crash(loss.backward)}"
    loss_without = _vdb()(outputs, targets)
    entropy = _vdb().logit_bernoulli_entropy(outputs[0]).mean()
    return "" if abs(float(loss_without - 0.1 * entropy - loss)) < 1e-6 else "the entropy has the wrong sign or weight"


@LIBRARY.patch(
    "bernoulli-entropy",
    target=_LOSSES + "VDBLoss.forward",
    sees="with use_bernoulli_ent=True the loss is no scalar, and backward raises",
    remedy="subtracts entcoeff times the mean entropy, as GAIL's loss does",
    probe=_probe_bernoulli,
)
def _bernoulli_entropy(edits):
    from imitation_lib.utils import VDBLoss

    @edits.wrap(VDBLoss, "forward")
    def forward(original, self, input, target):
        wanted, self._use_bernoulli_ent = self._use_bernoulli_ent, False
        try:
            loss = original(self, input, target)
        finally:
            self._use_bernoulli_ent = wanted
        return loss - self.entcoeff * self.logit_bernoulli_entropy(input[0]).mean() if wanted else loss


def _probe_beta():
    import torch

    outputs, targets = _variational()
    loss = _vdb()
    loss(outputs, targets)
    if isinstance(loss._beta, torch.Tensor):
        return f"beta has become a tensor on {loss._beta.device}"
    before = loss._beta
    with torch.no_grad():
        loss(tuple(output.detach() for output in outputs), targets)
    return "" if loss._beta == before else "looking at the loss changes beta"


@LIBRARY.patch(
    "beta",
    target=_LOSSES + "VDBLoss._update_beta",
    sees="VAIL's beta becomes a tensor of the GPU, is saved as one, and changes when the loss is merely looked at",
    remedy="beta is a number, and changes where the loss is for learning",
    changes_results="in the last bits",
    probe=_probe_beta,
)
def _beta(edits):
    from imitation_lib.utils import VDBLoss

    def _update_beta(self, bottleneck_loss):
        if bottleneck_loss.requires_grad:
            self._beta = max(0.0, float(self._beta) + self._lr_beta * bottleneck_loss.item())

    edits.replace(VDBLoss, "_update_beta", _update_beta)
