"""The natural gradient step: Fisher products of a diagonal Gaussian, conjugate gradient, and the search along the step."""

import math

import torch

KL_TOLERANCE = 1.5  # a step may overshoot max_kl by this factor, as in mushroom-rl's TRPO
# Rows of a Fisher product done together on a CPU: they, and what is kept of them, stay in its cache. Even, for mirror images.
CPU_ROWS = 1024


class Linearized:
    """A policy's mean actions for some observations, (n, 37), and products with their Jacobian J by the network's weights.

    The forward pass is done once, here, and what it leaves is kept: a product costs no more than its arithmetic.
    """

    @torch.no_grad()
    def __init__(self, policy, observations):
        """`inputs`: what the network sees, (n, 37) or (2n, 37). `mean`: (n, 12)."""
        self._policy = policy
        self._parameters = list(policy.network.parameters())
        self._layers = [(weight.detach(), bias.detach()) for weight, bias in policy.network.layers()]
        self.inputs = policy.inputs(observations)
        rows = CPU_ROWS if observations.device.type == "cpu" else len(self.inputs)
        self._rows = rows
        self._chunks, outputs = [], []
        for x in self.inputs.split(rows):
            # The inputs of each layer, and where each hidden unit is active (1 or 0).
            inputs, active = [x], []
            for weight, bias in self._layers[:-1]:
                inputs.append(torch.addmm(bias, inputs[-1], weight.T).relu_())
                active.append((inputs[-1] > 0.0).to(x.dtype))
            weight, bias = self._layers[-1]
            outputs.append(torch.addmm(bias, inputs[-1], weight.T))
            self._chunks.append((inputs, active))
        self.mean = policy.mean_of(torch.cat(outputs))

    @torch.no_grad()
    def pulled_back(self, gradients):
        """J' u for u = gradients, (n, 12): flat, in the order of `policy.network.parameters()`."""
        result, sums = self._sums()
        gradients = self._policy.outputs_of(gradients)
        for gradient, (inputs, active) in zip(gradients.split(self._rows), self._chunks, strict=True):
            self._pull_back(gradient, inputs, active, sums)
        return result

    @torch.no_grad()
    def gauss_newton(self, vector, precision):
        """J' (precision * (J v)) for a flat vector v; precision: (12,)."""
        direction = as_layers(unflatten(vector, self._parameters))
        result, sums = self._sums()
        for inputs, active in self._chunks:
            # The tangent of each layer's output: d(W h + b) = V h + c + W dh.
            tangent = None
            for (weight, _), (along_weight, along_bias), x, gate in zip(
                self._layers, direction, inputs, [None, *active], strict=True
            ):
                moved = torch.addmm(along_bias, x, along_weight.T)
                tangent = moved if tangent is None else moved.addmm_(tangent.mul_(gate), weight.T)
            moved = self._policy.mean_of(tangent) * precision
            self._pull_back(self._policy.outputs_of(moved), inputs, active, sums)
        return result

    def _pull_back(self, gradient, inputs, active, sums):
        for i in reversed(range(len(self._layers))):
            sums[i][0].addmm_(gradient.T, inputs[i])
            sums[i][1].add_(gradient.sum(dim=0))
            if i:
                gradient = torch.mm(gradient, self._layers[i][0]).mul_(active[i - 1])

    def _sums(self):
        """A flat vector of zeros, and views of it, [(weight, bias), ...]."""
        result = torch.cat([torch.zeros_like(parameter).view(-1) for parameter in self._parameters])
        return result, as_layers(unflatten(result, self._parameters))


def gauss_newton_product(policy, linearized):
    """A function v -> F v, F the Fisher matrix of the policy at its present weights, averaged over `linearized`'s observations.

    For a diagonal Gaussian F is exactly J' S^-1 J / n for the weights of the mean, J their Jacobian, and 2 for each log-std.
    v and F v: flat vectors in the order of `policy.parameters()`.
    Source: Schulman et al. 2015, appendix C (arXiv 1502.05477).
    """
    precision = torch.exp(-2.0 * policy.log_std.detach()) / len(linearized.mean)

    def product(vector):
        weights, log_std = vector.split([len(vector) - len(precision), len(precision)])
        return torch.cat([linearized.gauss_newton(weights, precision), 2.0 * log_std])

    return product


def conjugate_gradient(product, b, iterations, tolerance=1e-10):
    """x with `product`(x) = b, for a symmetric positive definite product, and the residual b - `product`(x); `b` is left alone.

    Stops after `iterations`, or when the squared residual is under `tolerance` times that of x = 0.
    Source: Hestenes and Stiefel 1952.
    """
    x = torch.zeros_like(b)
    residual, direction = b.clone(), b.clone()
    squared = residual @ residual
    enough = tolerance * squared
    zero = torch.zeros_like(squared)
    for _ in range(iterations):
        unsolved = squared > enough
        # On a GPU looking would mean waiting for it: there the iterations go on, and change nothing.
        if b.device.type == "cpu" and not unsolved:
            break
        image = product(direction)
        step = torch.where(unsolved, squared / (direction @ image), zero)
        x = x + step * direction
        residual = residual - step * image
        previous, squared = squared, residual @ residual
        direction = residual + torch.where(unsolved, squared / previous, zero) * direction
    return x, residual


def unflatten(vector, like):
    """Views of a flat vector in the shapes of the tensors `like`, in order."""
    pieces = vector.split([tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]


def as_layers(pieces):
    """[(weight, bias), ...] of a list weight, bias, weight, bias, ..."""
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def log_probability(actions, mean, log_std):
    """Of actions, (n, m), under diagonal Gaussians: (n,)."""
    z = (actions - mean) * torch.exp(-log_std)
    return -0.5 * (z**2).sum(dim=-1) - log_std.sum() - 0.5 * mean.shape[-1] * math.log(2.0 * math.pi)


def entropy(log_std):
    """Of a diagonal Gaussian, nats."""
    return log_std.sum() + 0.5 * len(log_std) * math.log(2.0 * math.pi * math.e)


def mean_kl(old_mean, old_log_std, mean, log_std):
    """KL(old || new) of diagonal Gaussians with means (n, m) and log-stds (m,), averaged over n; nats."""
    inverse_variance = torch.exp(-2.0 * log_std)
    spread = (log_std - old_log_std).sum() + 0.5 * (torch.exp(2.0 * old_log_std) * inverse_variance - 1.0).sum()
    return spread + 0.5 * (((old_mean - mean) ** 2).mean(dim=0) * inverse_variance).sum()


def search_rounds(n_trials):
    """Trials of the line search, a range a round: 1, then 2, then 4, ... so that few rounds have to be waited for."""
    begin = 0
    while begin < n_trials:
        end = min(n_trials, 2 * begin + 1)
        yield range(begin, end)
        begin = end
