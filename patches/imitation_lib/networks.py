"""Patches of networks and of their initial weights."""

import inspect

import numpy as np

from patches.imitation_lib import small
from patches.imitation_lib.blocks import Block
from patches.imitation_lib.library import LIBRARY
from patches.library import crash

_NETWORKS = "imitation_lib.utils.networks:"


def _probe_one_column():
    import torch
    from imitation_lib.utils import FullyConnectedNetwork, VariationalNet

    plain = FullyConnectedNetwork((1,), (2,), [4], ["relu", "identity"])
    encoder = FullyConnectedNetwork((1,), (4,), [], ["relu"])
    decoder = FullyConnectedNetwork((3,), (1,), [], ["identity"])
    variational = VariationalNet((1,), (1,), 3, encoder, decoder, use_actions=False)
    return crash(plain, torch.zeros(5, 1)) or crash(variational, torch.zeros(5, 1))


@LIBRARY.patch(
    "one-observation",
    target=_NETWORKS + "FullyConnectedNetwork, VariationalNet",
    sees="networks of a single input end in an error about shapes",
    remedy="keeps the column that torch.squeeze would drop",
    probe=_probe_one_column,
)
def _one_observation(edits):
    from imitation_lib.utils import FullyConnectedNetwork, VariationalNet

    @edits.wrap(VariationalNet, "forward")
    @edits.wrap(FullyConnectedNetwork, "forward")
    def forward(original, self, *inputs, **keywords):
        if len(inputs) == 1 and inputs[0].ndim == 2 and inputs[0].shape[1] == 1:
            inputs = (inputs[0].unsqueeze(1),)  # the original squeezes this one
        return original(self, *inputs, **keywords)


def _probe_normc():
    import torch
    from imitation_lib.utils import FullyConnectedNetwork, NormcInitializer

    torch.manual_seed(0)
    network = FullyConnectedNetwork((8,), (6,), [], ["identity"], initializers=[NormcInitializer(0.01)])
    norms = network._linears[0].weight.norm(dim=1)
    if not torch.allclose(norms, torch.full((6,), 0.01)):
        return f"rows asked to have norm 0.01 have {norms.min():.2g} to {norms.max():.2g}"
    return "" if not network._linears[0].bias.any() else "biases are not 0"


@LIBRARY.patch(
    "normc",
    target=_NETWORKS + "NormcInitializer, FullyConnectedNetwork, VariationalNet",
    sees="the std given to NormcInitializer has no effect; first policies and codes are far from 0; biases are random",
    remedy="each output's weights have norm std (as in OpenAI baselines' normc_initializer), biases are 0",
    changes_results="yes",
    default=False,
    probe=_probe_normc,
)
def _normc(edits):
    import torch
    from imitation_lib.utils import FullyConnectedNetwork, NormcInitializer, VariationalNet

    def call(self, tensor):
        with torch.no_grad():
            tensor.normal_()
            return tensor.mul_(self._std / tensor.norm(dim=1, keepdim=True))

    @edits.wrap(FullyConnectedNetwork, "__init__")
    def fully_connected(original, self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        if inspect.signature(original).bind(self, *arguments, **keywords).arguments.get("initializers") is not None:
            for linear in self._linears:
                torch.nn.init.zeros_(linear.bias)

    @edits.wrap(VariationalNet, "__init__")
    def variational(original, self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        for linear in (self.mu_out, self.logvar_out):
            torch.nn.init.zeros_(linear.bias)

    edits.replace(NormcInitializer, "__call__", call)


def _probe_states_only():
    import torch
    from imitation_lib.utils import DiscriminatorNetwork

    judge = DiscriminatorNetwork((3,), (1,), [4], ["tanh", "identity"])
    return crash(judge, torch.zeros(5, 3))


@LIBRARY.patch(
    "states-only",
    target=_NETWORKS + "DiscriminatorNetwork, VariationalNet",
    sees="unless told otherwise, discriminators expect actions: one of states ends in an error, a variational one takes "
    "next states for actions and does not normalize them",
    remedy="use_actions is False unless it is given",
    changes_results="yes, where use_actions is not given",
    default=False,
    probe=_probe_states_only,
)
def _states_only(edits):
    from imitation_lib.utils import DiscriminatorNetwork, VariationalNet

    @edits.wrap(VariationalNet, "__init__")
    @edits.wrap(DiscriminatorNetwork, "__init__")
    def __init__(original, *arguments, **keywords):
        if "use_actions" not in inspect.signature(original).bind_partial(*arguments, **keywords).arguments:
            keywords["use_actions"] = False
        original(*arguments, **keywords)


def _probe_mean_code():
    agent = small.vail()
    agent._D.model.network._stand = None  # calls change its statistics, which is another fault
    rows = [np.array([sample[i] for sample in small.dataset()], np.float32) for i in (0, 1, 3)]
    first, second = agent.make_discrim_reward(*rows), agent.make_discrim_reward(*rows)
    spread = float(np.abs(first - second).max())
    return "" if spread == 0.0 else f"the same transitions are rewarded twice, and differ by up to {spread:.2g}"


@LIBRARY.patch(
    "mean-code",
    target="imitation_lib.imitation:VAIL_TRPO.discrim_output",
    sees="VAIL's rewards are of sampled codes: noise several times as large as what they say",
    remedy="rewards and logged outputs are of the mean code (Peng et al. 2019, section 4); the discriminator's fit samples on",
    changes_results="yes",
    default=False,
    probe=_probe_mean_code,
)
def _mean_code(edits):
    from imitation_lib.imitation import VAIL_TRPO
    from imitation_lib.utils import networks

    output = Block()

    @edits.wrap_everywhere(networks, "reparameterize")
    def reparameterize(sample, mu, logvar):
        return mu if output else sample(mu, logvar)

    @edits.wrap(VAIL_TRPO, "discrim_output")
    def discrim_output(original, self, *inputs, **keywords):
        with output:
            return original(self, *inputs, **keywords)
