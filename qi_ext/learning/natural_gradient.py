"""The natural gradient: Fisher products of a Gaussian policy, and conjugate gradient."""

import torch

from qi_ext.learning.networks import Activation, activate_in_place

# Rows of a Fisher product done together on a CPU: they, and what is kept of them, stay in its cache. Even, for mirror images.
CPU_ROWS = 1024


class Linearized:
    """A policy's mean actions for some observations, (n, 37), and products with their Jacobian J by the network's weights.

    The forward pass is done once, here, and what it leaves is kept: a product costs no more than its arithmetic.
    """

    @torch.no_grad()
    def __init__(self, policy, observations):
        """inputs: `policy.inputs(observations)`. mean: `policy`'s mean actions, (n, 12)."""
        self._policy = policy
        self._parameters = list(policy.network.parameters())
        self._layers = [(weight.detach(), bias.detach()) for weight, bias in policy.network.layers()]
        self.inputs = policy.inputs(observations)
        rows = CPU_ROWS if observations.device.type == "cpu" else len(self.inputs)
        self._rows = rows
        self._chunks, outputs = [], []
        for x in self.inputs.split(rows):
            # The inputs of each layer, and the slope of each hidden unit.
            inputs, slopes = [x], []
            for weight, bias in self._layers[:-1]:
                inputs.append(activate_in_place(torch.addmm(bias, inputs[-1], weight.T)))
                slopes.append(Activation.slope(inputs[-1]))
            weight, bias = self._layers[-1]
            outputs.append(torch.addmm(bias, inputs[-1], weight.T))
            self._chunks.append((inputs, slopes))
        self.mean = policy.mean_of(torch.cat(outputs))

    @torch.no_grad()
    def pulled_back(self, gradients):
        """Return J' u for u = gradients, (n, 12): flat, in the order of `policy.network.parameters()`."""
        result, sums = self._sums()
        gradients = self._policy.outputs_of(gradients)
        for gradient, (inputs, slopes) in zip(gradients.split(self._rows), self._chunks, strict=True):
            self._pull_back(gradient, inputs, slopes, sums)
        return result

    @torch.no_grad()
    def gauss_newton(self, vector, precision):
        """Return J' (precision * (J v)) for a flat vector v; precision: (12,)."""
        direction = as_layers(unflatten(vector, self._parameters))
        result, sums = self._sums()
        for inputs, slopes in self._chunks:
            # The tangent of each layer's output: d(W h + b) = V h + c + W dh.
            tangent = None
            for (weight, _), (along_weight, along_bias), x, gate in zip(
                self._layers, direction, inputs, [None, *slopes], strict=True
            ):
                moved = torch.addmm(along_bias, x, along_weight.T)
                tangent = moved if tangent is None else moved.addmm_(tangent.mul_(gate), weight.T)
            moved = self._policy.mean_of(tangent) * precision
            self._pull_back(self._policy.outputs_of(moved), inputs, slopes, sums)
        return result

    def _pull_back(self, gradient, inputs, slopes, sums):
        for i in reversed(range(len(self._layers))):
            sums[i][0].addmm_(gradient.T, inputs[i])
            sums[i][1].add_(gradient.sum(dim=0))
            if i:
                gradient = torch.mm(gradient, self._layers[i][0]).mul_(slopes[i - 1])

    def _sums(self):
        """A flat vector of zeros, and views of it, [(weight, bias), ...]."""
        result = torch.cat([torch.zeros_like(parameter).view(-1) for parameter in self._parameters])
        return result, as_layers(unflatten(result, self._parameters))


def gauss_newton_product(policy, linearized):
    """Return a function v -> F v, F the Fisher matrix of the policy as it is, averaged over the observations of `linearized`.

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
    """Solve `product`(x) = b, for a symmetric positive definite product; returns x and the residual b - `product`(x).

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
        # A look would wait for the GPU: there the iterations go on, and change nothing.
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
    """Return views of a flat vector in the shapes of the tensors `like`, in order."""
    pieces = vector.split([tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]


def as_layers(pieces):
    """Pair a list weight, bias, weight, bias, ... into [(weight, bias), ...]."""
    return list(zip(pieces[::2], pieces[1::2], strict=True))
