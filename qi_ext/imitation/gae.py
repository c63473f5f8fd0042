"""Generalized advantage estimation."""

import numpy as np


def generalized_advantages(rewards, values, next_values, absorbing, last, gamma, lam):
    """Advantages, in the shape of the inputs, (..., T), time last; leading axes are independent lanes.

    A_t = delta_t + gamma lambda (1 - last_t) A_{t+1}, delta_t = r_t + gamma (1 - absorbing_t) V(s'_t) - V(s_t): an episode
    that was cut off bootstraps from the state it reached, one that fell does not.
    Source: Schulman et al. 2016, eq. 16 (arXiv 1506.02438).
    """
    deltas = rewards + gamma * next_values * (1.0 - absorbing) - values
    carried = gamma * lam * (1.0 - last)
    advantages = np.empty_like(deltas)
    advantage = np.zeros(deltas.shape[:-1], dtype=deltas.dtype)
    for t in reversed(range(deltas.shape[-1])):
        advantage = deltas[..., t] + carried[..., t] * advantage
        advantages[..., t] = advantage
    return advantages
