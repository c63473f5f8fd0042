"""Behavioural cloning: the policy's mean, fitted to the demonstrations' actions."""

import math

import numpy as np
import torch

from qi_ext.utils.errors import UserError


def check_actions(demonstrations):
    """Raise UserError where the demonstrations have no actions to clone."""
    if demonstrations.actions is None:
        raise UserError(
            f"--warm_start: {demonstrations.source} holds no actions to clone; use --warm_start_actions inferred, "
            "or --demonstrations trot, or leave --warm_start out"
        )


def clone(
    policy,
    demonstrations,
    epochs,
    seed,
    *,
    std,
    learning_rate,
    nominal_weight,
    batch_size,
    progress=lambda epoch, loss: None,
):
    """Fit the policy's mean to the demonstrated actions by least squares, in place; returns the last epoch's mean loss.

    seed: a `numpy.random.SeedSequence`. std: standard deviation of the actions, and bound on it, afterwards. learning_rate:
    Adam's, falling to 0 on a cosine. nominal_weight: of the states in nominal segments, where others weigh 1.
    progress(epoch, loss) is called after each epoch. Raises UserError where the demonstrations have no actions.
    """
    check_actions(demonstrations)
    generator = np.random.default_rng(seed)
    states, actions = (
        torch.from_numpy(array).float().to(policy.device) for array in (demonstrations.states, demonstrations.actions)
    )
    # Nominal motion repeats one cycle; what keeps the robot on its feet is in the disturbed segments.
    nominal = np.repeat(np.array(demonstrations.kind) == "nominal", np.diff(demonstrations.bounds))
    weights = np.where(nominal, nominal_weight, 1.0)
    weights /= weights.sum()
    optimizer = torch.optim.Adam(policy.network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss = math.nan
    for epoch in range(epochs):
        losses = []
        rows = generator.choice(len(states), size=len(states), p=weights)
        for index in torch.from_numpy(rows).to(policy.device).split(batch_size):
            error = torch.nn.functional.mse_loss(policy.mean_t(states[index]), actions[index])
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            losses.append(error.detach())
        schedule.step()
        loss = float(torch.stack(losses).mean())
        progress(epoch + 1, loss)
    policy.set_std(std)
    policy.sync()
    return loss
