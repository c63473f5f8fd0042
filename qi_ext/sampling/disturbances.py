"""Disturbances of walking, to measure and to train: pushes on the trunk, noise in actions or at joints. Numpy and MuJoCo."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qi_ext.robot import a1
from qi_ext.sampling.controllers import Controller

__all__ = ["DisturbedController", "TrainingDisturbances"]

PUSH_STEPS = 10  # 0.1 s
PUSH_EVERY_STEPS = 125  # 1.25 s
HEAD_ON = 0.6  # rad, on either side of the direction that is against the motion


class DisturbedController(Controller):
    """Acts as another controller does, and disturbs it. Whole episodes only.

    push: N, on the trunk, horizontal, for 0.1 s in each 1.25 s of an episode; its moment and direction are drawn.
    noise: standard deviation of what is added to each action, in units of 34 Nm.
    Random numbers are the env's own; those of the pushes are drawn as the episode starts, after its start state, so that
    controllers that draw nothing meet the same pushes from the same starts.
    """

    def __init__(self, controller: Controller, push: float = 0.0, noise: float = 0.0) -> None:
        self.controller = controller
        self.push = push
        self.noise = noise
        self._pushes: dict[int, np.ndarray] = {}
        self._time: dict[int, int] = {}

    def begin(self, block: Any, env: int) -> None:
        if self.push:
            self._pushes[env] = self._draw(block.spec.horizon, block.generators[env])
        self._time[env] = 0
        self.controller.begin(block, env)

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        actions = self.controller.actions(block, observations, envs)
        trunk = block.spec.addresses.trunk
        for env in envs:
            if self.push:
                # At each step, so that a push ends; what an env's simulation holds is discarded after its episode.
                block.datas[env].xfrc_applied[trunk, :2] = self._pushes[env][self._time[env]]
            if self.noise:
                actions[env] += self.noise * block.generators[env].standard_normal(a1.N_ACTIONS)
            self._time[env] += 1
        return actions

    def _draw(self, horizon: int, generator: np.random.Generator) -> np.ndarray:
        """Forces of each step of an episode, (horizon, 2), N."""
        forces = np.zeros((horizon, 2))
        for begin in range(0, horizon, PUSH_EVERY_STEPS):
            first = begin + generator.integers(PUSH_EVERY_STEPS - PUSH_STEPS + 1)
            angle = generator.uniform(0.0, 2.0 * np.pi)
            forces[first : first + PUSH_STEPS] = self.push * np.array([np.cos(angle), np.sin(angle)])
        return forces


@dataclass(frozen=True)
class TrainingDisturbances:
    """Disturbances in training, against falls; the learner does not see them.

    Only envs of even number are disturbed, so that the others are trained under the conditions of the evaluation, but for
    `--stops`.
    push: N, the largest of the pushes: horizontal, on the trunk, size drawn evenly. They begin and end by chance, as often and
    as long on average as those of an evaluation. Half of them have any direction, the others oppose the motion to within
    HEAD_ON, because being brought to a stop leads to more falls. torque_noise: standard deviation of a torque that is added
    at each joint in each step, in units of 34 Nm. restart_every: mean number of steps after which an episode is ended by
    chance, as if by the time limit, because an env that does not fall would start from few of the demonstrated states; 0 is
    never. disturb_after: steps of training before the first batch with pushes and torques.
    """

    push: float = 0.0
    torque_noise: float = 0.0
    restart_every: int = 0
    disturb_after: int = 0

    def __bool__(self) -> bool:
        return self.push > 0.0 or self.torque_noise > 0.0 or self.restart_every > 0

    def at(self, step: int) -> "TrainingDisturbances":
        """Return the disturbances of a batch that begins after so many steps of training."""
        return self if step >= self.disturb_after else replace(self, push=0.0, torque_noise=0.0)

    def spared(self, numbers: np.ndarray) -> np.ndarray:
        """Mark the envs that are not disturbed: bool, (n,). numbers: (n,), of the envs."""
        return np.asarray(numbers) % 2 == 1 if self else np.ones(len(numbers), bool)

    def around(self, controller: Controller) -> Controller:
        """Return `controller` under these disturbances; itself where there are none."""
        return TrainedController(controller, self) if self else controller


UNDISTURBED = TrainingDisturbances()


class TrainedController(Controller):
    """Acts as another controller does, under `TrainingDisturbances`.

    Forces are part of the simulation's state, and random numbers are the env's own, so that the end of a batch changes nothing
    for an env.
    """

    def __init__(self, controller: Controller, disturbances: TrainingDisturbances) -> None:
        self.controller = controller
        self.disturbances = disturbances

    def begin(self, block: Any, env: int) -> None:
        self.controller.begin(block, env)

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        actions = self.controller.actions(block, observations, envs)
        addresses, push, restart_every = block.spec.addresses, self.disturbances.push, self.disturbances.restart_every
        trunk_xy, joints = addresses.qvel[:2], addresses.qvel[-a1.N_ACTIONS :]
        torque = self.disturbances.torque_noise * a1.MAX_TORQUE
        for env in np.asarray(envs)[~self.disturbances.spared(block.number[envs])]:
            data, generator = block.datas[env], block.generators[env]
            if restart_every:
                block.cut[env] = generator.random() < 1.0 / restart_every
            if push:
                _push_by_chance(data.xfrc_applied[addresses.trunk], push, data.qvel[trunk_xy], generator)
            if torque:
                data.qfrc_applied[joints] = torque * generator.standard_normal(a1.N_ACTIONS)
        return actions


def _push_by_chance(force: np.ndarray, largest: float, velocity: np.ndarray, generator: np.random.Generator) -> None:
    """Begin or end a push, or leave it: force, (6,), of the simulation. velocity: (2,), of the trunk, m/s."""
    chance = generator.random()
    if force.any():
        if chance < 1.0 / PUSH_STEPS:
            force[:] = 0.0
    elif chance < 1.0 / (PUSH_EVERY_STEPS - PUSH_STEPS):
        size, angle = generator.uniform(0.0, largest), generator.uniform(-np.pi, np.pi)
        if generator.random() < 0.5:
            angle = np.arctan2(-velocity[1], -velocity[0]) + HEAD_ON * angle / np.pi
        force[:2] = size * np.cos(angle), size * np.sin(angle)
