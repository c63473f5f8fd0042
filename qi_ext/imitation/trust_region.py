"""The natural gradient step: Fisher products of a diagonal Gaussian, conjugate gradient, and the search along the step."""

import math

import torch

KL_TOLERANCE = 1.5  # a step may overshoot max_kl by this factor, as in mushroom-rl's TRPO
# Rows of a Fisher product done together on a CPU: they, and what is kept of them, stay in its cache.
CPU_ROWS = 1024


def gauss_newton_product(policy, observations):
    """A function v -> F v, F the Fisher matrix of the policy at its present weights, averaged over observations, (n, 37).

    For a diagonal Gaussian F is exactly J' S^-1 J / n for the weights of the mean, J their Jacobian, and 2 for each log-std.
    v and F v: flat vectors in the order of `policy.parameters()`. The forward pass is done once, here.
    Source: Schulman et al. 2015, appendix C (arXiv 1502.05477).
    """
    layers = [(weight.detach(), bias.detach()) for weight, bias in policy.network.layers()]
    precision = torch.exp(-2.0 * policy.log_std.detach()) / len(observations)
    rows = CPU_ROWS if observations.device.type == "cpu" else len(observations)
    with torch.no_grad():
        chunks = [_kept(layers, chunk) for chunk in policy.normalizer(observations).split(rows)]
    like = policy.parameters()

    @torch.no_grad()
    def product(vector):
        *pieces, log_std = unflatten(vector, like)
        direction = list(zip(pieces[::2], pieces[1::2], strict=True))
        result = torch.zeros_like(vector)
        *sums, along_std = unflatten(result, like)
        sums = list(zip(sums[::2], sums[1::2], strict=True))
        for inputs, active in chunks:
            _add_product(layers, inputs, active, direction, precision, sums)
        along_std.copy_(log_std).mul_(2.0)
        return result

    return product


def _kept(layers, x):
    """What a forward pass leaves: the inputs of each layer, and where each hidden unit is active (1 or 0)."""
    inputs, active = [x], []
    for weight, bias in layers[:-1]:
        inputs.append(torch.addmm(bias, inputs[-1], weight.T).relu_())
        active.append((inputs[-1] > 0.0).to(x.dtype))
    return inputs, active


def _add_product(layers, inputs, active, direction, precision, sums):
    """Add J' (precision * (J v)) to `sums`, for v = `direction`; both [(weight, bias), ...]."""
    # Forward: the tangent of each layer's output, d(W h + b) = V h + c + W dh.
    tangent = None
    for (weight, _), (along_weight, along_bias), x, gate in zip(layers, direction, inputs, [None, *active], strict=True):
        moved = torch.addmm(along_bias, x, along_weight.T)
        tangent = moved if tangent is None else moved.addmm_(tangent.mul_(gate), weight.T)
    # Backward: the gradient of what the tangent is weighed with.
    gradient = tangent.mul_(precision)
    for i in reversed(range(len(layers))):
        sums[i][0].addmm_(gradient.T, inputs[i])
        sums[i][1].add_(gradient.sum(dim=0))
        if i:
            gradient = torch.mm(gradient, layers[i][0]).mul_(active[i - 1])


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
