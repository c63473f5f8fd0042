"""Diagonal Gaussians in torch, with one standard deviation for all samples: log probability, entropy, KL divergence."""

import math


def log_probability(actions, mean, log_std):
    """Log density of actions, (n, m), under means (n, m) and log-stds (m,): (n,), nats."""
    z = (actions - mean) * (-log_std).exp()
    return -0.5 * (z**2).sum(dim=-1) - log_std.sum() - 0.5 * mean.shape[-1] * math.log(2.0 * math.pi)


def entropy(log_std):
    """Differential entropy for log-stds (m,), nats."""
    return log_std.sum() + 0.5 * len(log_std) * math.log(2.0 * math.pi * math.e)


def mean_kl(old_mean, old_log_std, mean, log_std):
    """KL(old || new) for means (n, m) and log-stds (m,), averaged over the n samples, nats."""
    inverse_variance = (-2.0 * log_std).exp()
    spread = (log_std - old_log_std).sum() + 0.5 * ((2.0 * old_log_std).exp() * inverse_variance - 1.0).sum()
    return spread + 0.5 * (((old_mean - mean) ** 2).mean(dim=0) * inverse_variance).sum()
