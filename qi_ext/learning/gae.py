"""Generalized advantage estimation."""

import numpy as np
import torch


def generalized_advantages(rewards, values, next_values, absorbing, last, gamma, lam):
    """Return advantages in the shape of the inputs, (..., T), time last; leading axes are independent envs.

    A_t = delta_t + gamma lambda (1 - last_t) A_{t+1}, delta_t = r_t + gamma (1 - absorbing_t) V(s'_t) - V(s_t): an episode
    that was cut off bootstraps from the state it reached, one that fell does not.
    Source: Schulman et al. 2016, eq. 16 (arXiv 1506.02438).
    """
    deltas = rewards + gamma * (1.0 - absorbing) * next_values - values
    carried = gamma * lam * (1.0 - last)
    # In numpy, where a step costs the least, and by one transfer either way: T steps on a GPU are 2 T kernels.
    advantages, carried = torch.stack([deltas, carried]).moveaxis(-1, 1).cpu().numpy()
    for t in reversed(range(len(advantages) - 1)):
        advantages[t] += carried[t] * advantages[t + 1]
    return torch.from_numpy(np.moveaxis(advantages, 0, -1).copy()).to(rewards.device)
