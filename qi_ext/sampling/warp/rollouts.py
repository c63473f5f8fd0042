"""Rollouts that stay on the device on which they were gathered."""

import numpy as np
import torch

from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.sampling.rollouts import ARRAYS, EPISODE, Rollouts


class RolloutsOnDevice(Rollouts):
    """`Rollouts` as torch tensors; the arrays of that class are copies, made where they are asked for.

    tensors: {name: tensor} of `rollouts.ARRAYS`, float32 or bool, [env, time, ...].
    """

    def __init__(self, tensors: dict[str, torch.Tensor], episodes: np.ndarray) -> None:
        self.tensors, self.episodes, self.commands = tensors, episodes, None

    @property
    def n_steps(self) -> int:
        return self.tensors["last"].numel()

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in ARRAYS:
            raise AttributeError(name)
        setattr(self, name, self.tensors[name].cpu().numpy())
        return self.__dict__[name]

    def speed_along(self) -> float:
        return float(velocity_in_command_frame(self.tensors["observations"])[0].mean())


def episodes_of(
    ended: torch.Tensor, returns: torch.Tensor, lengths: torch.Tensor, absorbing: torch.Tensor, blown_up: torch.Tensor
) -> np.ndarray:
    """Return the structured array of `EPISODE` of a fragment, by time and env; tensors are [time, env].

    ended: True where an episode ended. returns, lengths: of the episode up to then.
    """
    time, env = ended.nonzero(as_tuple=True)
    columns = [time, env, returns[time, env], lengths[time, env], absorbing[time, env], blown_up[time, env]]
    rows = torch.stack([column.double() for column in columns], dim=1).cpu().numpy()
    episodes = np.empty(len(rows), dtype=EPISODE)
    for column, name in zip(rows.T, EPISODE.names, strict=True):
        episodes[name] = column
    return episodes
