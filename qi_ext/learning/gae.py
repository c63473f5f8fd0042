"""Generalized advantage estimation."""

import torch


def generalized_advantages(rewards, values, next_values, absorbing, last, gamma, lam):
    """Advantages, in the shape of the inputs, (..., T), time last; leading axes are independent lanes.

    A_t = delta_t + gamma lambda (1 - last_t) A_{t+1}, delta_t = r_t + gamma (1 - absorbing_t) V(s'_t) - V(s_t): an episode
    that was cut off bootstraps from the state it reached, one that fell does not.
    Source: Schulman et al. 2016, eq. 16 (arXiv 1506.02438).
    """
    advantages = rewards + gamma * (1.0 - absorbing) * next_values - values
    carried = gamma * lam * (1.0 - last)
    # By doubling, in log2 T rounds: after each, A_t sums the deltas of twice as many steps, and c_t is what carries beyond.
    reach = 1
    while reach < advantages.shape[-1]:
        further = carried[..., :-reach] * advantages[..., reach:]
        advantages = torch.cat([advantages[..., :-reach] + further, advantages[..., -reach:]], dim=-1)
        beyond = carried[..., :-reach] * carried[..., reach:]
        carried = torch.cat([beyond, torch.zeros_like(carried[..., -reach:])], dim=-1)
        reach *= 2
    return advantages
