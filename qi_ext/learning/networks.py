"""Multilayer perceptrons, their activation, and the running normalizer of their inputs."""

import math

import torch
from torch import nn

MIN_STD = 0.01  # a feature that hardly changes is not blown up
CONSTANT_STD = 1e-6


def seeded_generator(seed):
    """Return a torch generator of its own for a `numpy.random.SeedSequence`."""
    return torch.Generator().manual_seed(int(seed.generate_state(1)[0]))


def adam(module, learning_rate):
    """Return Adam on a module's parameters, one kernel a step."""
    return torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)


class Activation(nn.ReLU):
    """ReLU, the activation between the layers of every network here."""

    NAME = "relu"  # in the files of agents, where `qi_ext.agents.acting` finds the same function in numpy

    @staticmethod
    def slope(outputs):
        """Derivative, 1 or 0, where the activation gave `outputs`; in their shape and dtype."""
        return (outputs > 0.0).to(outputs.dtype)


activate_in_place = Activation(inplace=True)


class MLP(nn.Sequential):
    """Linear layers with `Activation` between them; sizes: inputs, hidden, ..., outputs."""

    def __init__(self, sizes, generator, output_gain=1.0):
        """generator: torch generator that the initial weights (orthogonal, Saxe et al. 2014) are drawn from."""
        modules = []
        for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            # skip_init: the constructor's own initialisation would draw from torch's global generator.
            linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
            last = i == len(sizes) - 2
            nn.init.orthogonal_(linear.weight, gain=output_gain if last else math.sqrt(2.0), generator=generator)
            nn.init.zeros_(linear.bias)
            modules += [linear] if last else [linear, Activation()]
        super().__init__(*modules)

    @property
    def linears(self):
        return [module for module in self if isinstance(module, nn.Linear)]

    def layers(self):
        """Return [(weight (out, in), bias (out,)), ...]."""
        return [(linear.weight, linear.bias) for linear in self.linears]

    @torch.no_grad()
    def keep_function(self, mean, inverse_std, normalizer):
        """Undo in the first layer what a change of input statistics, from `mean` and `inverse_std`, did to the function.

        W ((x - m) i) + b = W' ((x - m') i') + b' with W' = W i / i' and b' = b + W (m' - m) i: the network is the same
        function of x as before, if the normalizer does not clip. Without this every new batch of falls would change a policy
        that walks, by more than any trust region allows. For a feature that is left out (i' = 0) W' is W.
        """
        first = self.linears[0]
        weight = first.weight.double()
        first.bias.copy_(first.bias.double() + weight @ ((normalizer.mean - mean) * inverse_std))
        changed = normalizer.inverse_std
        first.weight.copy_(weight * torch.where(changed > 0.0, inverse_std / changed, 1.0))


def forward_pass(layers, x):
    """Return the output of an `MLP` with the given layers, [(weight, bias), ...], for x, (n, k)."""
    for weight, bias in layers[:-1]:
        x = activate_in_place(torch.addmm(bias, x, weight.T))
    weight, bias = layers[-1]
    return torch.addmm(bias, x, weight.T)


class Normalizer(nn.Module):
    """Normalizes by the mean and standard deviation of all samples given to `update`.

    The statistics are float64 buffers, merged batch by batch (Chan et al. 1979); before the first update it is the identity.
    Features whose standard deviation is below 1e-6, such as a fixed command's speed, are left out: they become 0.
    """

    count: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, size, clip=math.inf):
        """clip: bound on the normalized values."""
        super().__init__()
        self.clip = clip
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))

    @torch.no_grad()
    def update(self, samples):
        """Merge the statistics of samples, (n, size), which must be finite: a check would wait for the GPU."""
        samples = samples.to(torch.float64)
        n = float(len(samples))
        total = self.count + n
        mean = samples.mean(dim=0)
        delta = mean - self.mean
        squares = self.variance * self.count + ((samples - mean) ** 2).sum(dim=0) + delta**2 * (self.count * n / total)
        self.mean += delta * (n / total)
        self.variance.copy_(squares / total)
        self.count.copy_(total)

    @property
    def inverse_std(self):
        """1 / standard deviation, (size,), float64; 0 for features that are left out."""
        std = self.variance.sqrt()
        return torch.where(std > CONSTANT_STD, 1.0 / std.clamp_min(MIN_STD), 0.0)

    def forward(self, x):
        """Return x, (..., size), float32, normalized, in the same shape."""
        return ((x - self.mean.float()) * self.inverse_std.float()).clamp(-self.clip, self.clip)
