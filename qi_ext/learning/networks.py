"""Multilayer perceptrons and the running normalizer of their inputs."""

import math

import torch
from torch import nn

MIN_STD = 0.01  # so that what hardly changes is not blown up
CONSTANT_STD = 1e-6  # what changes by less never does, such as a fixed command's speed, and is not looked at


def seeded_generator(seed):
    """A torch generator of its own for a `numpy.random.SeedSequence`."""
    return torch.Generator().manual_seed(int(seed.generate_state(1)[0]))


class MLP(nn.Sequential):
    """Linear layers with ReLU between them; sizes: inputs, hidden, ..., outputs."""

    def __init__(self, sizes, generator, output_gain=1.0):
        """generator: torch generator that the initial weights (orthogonal, Saxe et al. 2014) are drawn from."""
        modules = []
        for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            # skip_init: the constructor's own initialisation would draw from torch's global generator.
            linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
            last = i == len(sizes) - 2
            nn.init.orthogonal_(linear.weight, gain=output_gain if last else math.sqrt(2.0), generator=generator)
            nn.init.zeros_(linear.bias)
            modules += [linear] if last else [linear, nn.ReLU()]
        super().__init__(*modules)

    @property
    def linears(self):
        return [module for module in self if isinstance(module, nn.Linear)]

    def layers(self):
        """[(weight (out, in), bias (out,)), ...]."""
        return [(linear.weight, linear.bias) for linear in self.linears]

    @torch.no_grad()
    def keep_function(self, mean, inverse_std, normalizer):
        """Undo in the first layer what a change of input statistics, from `mean` and `inverse_std`, did to the function.

        W ((x - m) i) + b = W' ((x - m') i') + b' with W' = W i / i' and b' = b + W (m' - m) i: the network is the same
        function of x as before, if the normalizer does not clip. Without this every new batch of falls would change a policy
        that walks, by more than any trust region allows. Of a feature that is not looked at (i' = 0) W' is W.
        """
        first = self.linears[0]
        weight = first.weight.double()
        first.bias.copy_(first.bias.double() + weight @ ((normalizer.mean - mean) * inverse_std))
        changed = normalizer.inverse_std
        first.weight.copy_(weight * torch.where(changed > 0.0, inverse_std / changed, 1.0))


def forward_pass(layers, x):
    """What an `MLP` with these layers, [(weight, bias), ...], makes of x, (n, k)."""
    for weight, bias in layers[:-1]:
        x = torch.addmm(bias, x, weight.T).relu()
    weight, bias = layers[-1]
    return torch.addmm(bias, x, weight.T)


class Normalizer(nn.Module):
    """Normalizes by the mean and standard deviation of all samples it was given by `update`, and by nothing else.

    The statistics are float64 buffers, merged batch by batch (Chan et al. 1979); before the first update it is the identity.
    """

    def __init__(self, size, clip=math.inf):
        """clip: bound on the normalized values."""
        super().__init__()
        self.clip = clip
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))

    @torch.no_grad()
    def update(self, samples):
        """Merge the statistics of samples, (n, size), which must be finite: looking would mean waiting for a GPU."""
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
        """1 / standard deviation, (size,), float64; 0 for features that never change."""
        std = self.variance.sqrt()
        return torch.where(std > CONSTANT_STD, 1.0 / std.clamp_min(MIN_STD), 0.0)

    def forward(self, x):
        """x, (..., size), float32; returns the same shape."""
        return ((x - self.mean.float()) * self.inverse_std.float()).clamp(-self.clip, self.clip)
