"""One batch of transitions, on the learner's device."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

COLUMNS = ("observations", "actions", "rewards", "next_observations", "absorbing", "last")


@dataclass
class Batch:
    """N transitions, float32, all on one device.

    observations, next_observations: (N, 37). actions: (N, 12). rewards: (N,). absorbing, last: (N,), or (envs, time) with
    N = envs x time, where the others go env after env; a row that is not `last` is followed by the row of its next
    observation. cuts: (k,), int64, the rows that are `last`.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    next_observations: torch.Tensor
    absorbing: torch.Tensor
    last: torch.Tensor
    cuts: torch.Tensor

    @classmethod
    def upload(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        next_observations: ArrayLike,
        absorbing: ArrayLike,
        last: ArrayLike,
        device: str | torch.device,
    ) -> "Batch":
        """Return the batch of numpy arrays of any dtype, in one transfer; observations, actions (..., k), others as `last`.

        The last row of each env is made `last`: nothing follows it in the batch. Raises FloatingPointError for numbers that are
        not finite.
        """
        shape, n = np.shape(last), np.size(last)
        last = np.array(last, dtype=np.float32)
        last[..., -1] = 1.0
        arrays = (observations, actions, rewards, next_observations, absorbing, last)
        columns = [np.asarray(array, dtype=np.float32).reshape(n, -1) for array in arrays]
        for name, column in zip(COLUMNS, columns, strict=True):
            if not np.isfinite(column).all():
                raise FloatingPointError(f"training: {name} are not finite; nothing was learned from them")
        # The indices go first, as bits, because int64 must lie at a multiple of eight bytes.
        indices = np.flatnonzero(last).astype(np.int64).view(np.float32)
        together = torch.from_numpy(np.concatenate([indices, *(column.reshape(-1) for column in columns)])).to(device)
        cuts, *parts = together.split([len(indices), *(column.size for column in columns)])
        observations, actions, rewards, next_observations, absorbing, last = parts
        return cls(
            observations.view(n, -1),
            actions.view(n, -1),
            rewards,
            next_observations.view(n, -1),
            absorbing.view(shape),
            last.view(shape),
            cuts.view(torch.int64),
        )

    @classmethod
    def of_tensors(
        cls,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        absorbing: torch.Tensor,
        last: torch.Tensor,
    ) -> "Batch":
        """Return the batch of tensors (envs, time, ...) that are on the learner's device; as `upload`."""
        columns = (observations, actions, rewards, next_observations)
        finite = torch.stack([column.isfinite().all() for column in columns]).tolist()
        if not all(finite):
            raise FloatingPointError(f"training: {COLUMNS[finite.index(False)]} are not finite; nothing was learned from them")
        last = last.clone()
        last[..., -1] = True
        return cls(
            observations.flatten(0, 1),
            actions.flatten(0, 1),
            rewards.flatten(),
            next_observations.flatten(0, 1),
            absorbing.float(),
            last.float(),
            last.flatten().nonzero().squeeze(1),
        )

    def __len__(self) -> int:
        return len(self.observations)
