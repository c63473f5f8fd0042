"""The tasks in torch, N envs at once: what `Task` says of one env, for physics on a GPU.

All is float32 but commands, which are float64 as in the pool. Tests compare each method with the task's own.
"""

import math

import torch

from qi_ext.robot import a1, courses
from qi_ext.tasks.follow import FollowTask
from qi_ext.tasks.task import Task
from qi_ext.utils.philox import integers, uniform

__all__ = ["TaskOnDevice"]


class TaskOnDevice:
    """A task whose command is constant within an episode, such as `simple` and `hard`.

    n_words_of_start, n_words_of_advance: random words that these take at each step of an env.
    """

    n_words_of_start = 2
    n_words_of_advance = 0

    def __init__(self, task: Task, device: str | torch.device) -> None:
        """task: with start states. device: torch's."""
        starts = task.starts
        if starts is None:
            raise ValueError(f"{task.name}: there are no demonstrations to start episodes from")
        self.max_pitch = task.max_pitch
        self._states = torch.as_tensor(starts.states, dtype=torch.float32, device=device)
        self._groups = torch.as_tensor(starts.groups, device=device)
        self._group_of_command = torch.as_tensor(starts.group_of_command, device=device)
        self._commands = torch.as_tensor(starts.commands, device=device)
        self._command_of_row = starts.command_of_row

    def start(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return commands, (N, k), float64, and start states, (N, 36), for words, (2, N)."""
        choice = integers(words[0], len(self._group_of_command))
        begin, end = self._groups[self._group_of_command[choice]].unbind(dim=1)
        row = begin + integers(words[1], end - begin)
        return self._commands[row if self._command_of_row else choice], self._states[row]

    def advance(self, command: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Return commands, (N, k), a control step later, for words, (n_words_of_advance, N)."""
        return command

    def observe(self, positions: torch.Tensor, velocities: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        """Return observations, (N, 37), of positions and velocities, (N, 18) each, of `a1.JOINTS`."""
        return torch.cat([positions[:, 2:], velocities, command[:, :3].float()], dim=1)

    def reward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return rewards, (N,), of steps from observations, (N, 37), as `a1.environment_reward` has it."""
        commanded = observations[:, 36:37] * observations[:, 34:36]
        error = observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1] - commanded
        return torch.exp(-5.0 * torch.sqrt(error[:, 0] ** 2 + error[:, 1] ** 2))

    def has_fallen(self, observations: torch.Tensor) -> torch.Tensor:
        """Return True where the robot has fallen, (N,), in observations, (N, 37), as `a1.has_fallen` has it."""
        roll, pitch, height = observations[:, a1.ROLL], observations[:, a1.PITCH], observations[:, a1.TRUNK_Z]
        return (roll.abs() > a1.MAX_ROLL) | (pitch.abs() > self.max_pitch) | (height < a1.MIN_TRUNK_Z)


class FollowOnDevice(TaskOnDevice):
    """`follow`, on courses that are drawn as the robot walks."""

    n_words_of_advance = 6

    def __init__(self, task: FollowTask, device: str | torch.device) -> None:
        super().__init__(task, device)
        self._stops = task.stops

    def start(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        command, state = super().start(words)
        heading, rate = command[:, courses.HEADING], command[:, courses.HEADING_RATE]
        return command, turned(state[:, :18], state[:, 18:], heading, rate)

    def advance(self, command: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        command = command.clone()
        drawn = command[:, courses.STEPS_LEFT] <= 0.0
        stop, straight, speed, direction, turn_rate, seconds = uniform(words).double()
        low, high = courses.SPEEDS
        speed = torch.where(stop < self._stops, 0.0, low + speed * (high - low))
        turn_rate = torch.where(straight < courses.STRAIGHT, 0.0, (2.0 * turn_rate - 1.0) * courses.TURN_RATE)
        target = torch.stack([speed, 2.0 * math.pi * direction, turn_rate], dim=1)
        low, high = courses.SECONDS
        steps = torch.round((low + seconds * (high - low)) / a1.CONTROL_DT)
        command[:, courses.TARGET] = torch.where(drawn[:, None], target, command[:, courses.TARGET])
        left = torch.where(drawn, steps, command[:, courses.STEPS_LEFT])
        speed, direction, turn_rate = command[:, courses.TARGET].unbind(dim=1)
        now = command[:, courses.DIRECTION]
        now = _wrapped(now + _step(_wrapped(direction - now), courses.DIRECTION_RATE))
        rate = command[:, courses.HEADING_RATE]
        rate = rate + _step(turn_rate - rate, courses.TURN_ACCELERATION)
        command[:, 2] += _step(speed - command[:, 2], courses.ACCELERATION)
        command[:, courses.DIRECTION], command[:, courses.HEADING_RATE] = now, rate
        command[:, 0], command[:, 1] = torch.cos(now), torch.sin(now)
        command[:, courses.HEADING] += rate * a1.CONTROL_DT
        command[:, courses.STEPS_LEFT] = left - 1.0
        return command

    def observe(self, positions: torch.Tensor, velocities: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        heading, rate = command[:, courses.HEADING], command[:, courses.HEADING_RATE]
        state = turned(positions, velocities, -heading, -rate)
        return super().observe(state[:, :18], state[:, 18:], command)


def turned(positions: torch.Tensor, velocities: torch.Tensor, angle: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Return states, (N, 36), in worlds turned by `angle`, rad, that go on turning by `rate`, rad/s, as `frames.turned` has it.

    positions, velocities: (N, 18). angle, rate: (N,), float64. Where both are 0, states stay as they are, to the last bit.
    """
    x, y, z, roll, pitch, yaw = positions[:, :6].double().unbind(dim=1)
    vx, vy, vz, *rates = velocities[:, :6].double().unbind(dim=1)
    c, s = torch.cos(angle), torch.sin(angle)
    wx, wy, wz = _angular_velocity(roll, pitch, *rates)
    wx, wy, wz = c * wx - s * wy, s * wx + c * wy, wz + rate
    first, second, corner = _rotation(roll, pitch, yaw)
    aside = s * first[2] + c * second[2]
    first = [c * a - s * b for a, b in zip(first, second, strict=True)]
    roll, pitch = torch.atan2(-aside, corner), torch.asin(first[2].clamp(-1.0, 1.0))
    ca, sa, cb, sb = torch.cos(roll), torch.sin(roll), torch.cos(pitch), torch.sin(pitch)
    yaw_rate = (ca * wz - sa * wy) / cb
    trunk = torch.stack([c * x - s * y, s * x + c * y, z, roll, pitch, torch.atan2(-first[1], first[0])], dim=1)
    moving = [c * vx - s * vy, s * vx + c * vy, vz, wx - sb * yaw_rate, ca * wy + sa * wz, yaw_rate]
    turning = ((angle != 0.0) | (rate != 0.0))[:, None]
    trunk = torch.where(turning, trunk.float(), positions[:, :6])
    velocity = torch.where(turning, torch.stack(moving, dim=1).float(), velocities[:, :6])
    return torch.cat([trunk, positions[:, 6:], velocity, velocities[:, 6:]], dim=1)


def _rotation(
    roll: torch.Tensor, pitch: torch.Tensor, yaw: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Of Rx(roll) Ry(pitch) Rz(yaw): the first row, the second row, the last number."""
    ca, sa, cb, sb = torch.cos(roll), torch.sin(roll), torch.cos(pitch), torch.sin(pitch)
    cc, sc = torch.cos(yaw), torch.sin(yaw)
    return [cb * cc, -cb * sc, sb], [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb], ca * cb


def _angular_velocity(
    roll: torch.Tensor, pitch: torch.Tensor, roll_rate: torch.Tensor, pitch_rate: torch.Tensor, yaw_rate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """In the world, of rates of intrinsic x-y-z angles."""
    ca, sa, cb, sb = torch.cos(roll), torch.sin(roll), torch.cos(pitch), torch.sin(pitch)
    return roll_rate + sb * yaw_rate, ca * pitch_rate - sa * cb * yaw_rate, sa * pitch_rate + ca * cb * yaw_rate


def _wrapped(angles: torch.Tensor) -> torch.Tensor:
    """Angles moved by whole turns into [-pi, pi], as `math.remainder` does."""
    return angles - 2.0 * math.pi * torch.round(angles / (2.0 * math.pi))


def _step(difference: torch.Tensor, rate: float) -> torch.Tensor:
    return difference.clamp(-rate * a1.CONTROL_DT, rate * a1.CONTROL_DT)
