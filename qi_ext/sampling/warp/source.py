"""Rollouts of envs that MuJoCo Warp steps, all at once, on one device."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qi_ext.robot import a1
from qi_ext.sampling.disturbances import HEAD_ON, PUSH_EVERY_STEPS, PUSH_STEPS, UNDISTURBED, TrainingDisturbances
from qi_ext.sampling.envs import ENVS, LARGEST, seed_of
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.sampling.read_environment import read_environment
from qi_ext.sampling.rollouts import ARRAYS, Rollouts, WholeEpisodes
from qi_ext.sampling.source import RolloutSource
from qi_ext.sampling.warp.physics import WarpPhysics
from qi_ext.sampling.warp.rollouts import RolloutsOnDevice, episodes_of
from qi_ext.utils.philox import Streams, integers, normal, uniform

__all__ = ["WarpSource"]

N_UNIFORM = 5  # numbers an env draws a step: push begins or ends, size, angle, head-on or not, restart


class WarpSource(RolloutSource):
    """`n_envs` envs of the A1, whose physics, policy, observations, rewards, falls and starts are computed on one device.

    Each env has random numbers of its own, by its number and the time, and policies act in blocks. On Warp's CPU device an
    env's rollouts are therefore the same beside any others; on a GPU, MuJoCo Warp sums in no fixed order. Evaluation runs in
    MuJoCo, in a `PoolSource`. `training.loop` drives it without a transfer; `ParallelCore` would copy each batch.
    """

    def __init__(
        self,
        environment: Any,
        n_envs: int = 4096,
        lanes_per_block: int = 1024,
        seed: int = 0,
        disturbances: TrainingDisturbances = UNDISTURBED,
        device: str | torch.device = "cuda",
        contacts: int = 16,
        constraint_rows: int = 96,
    ) -> None:
        """environment, disturbances: as `PoolSource` takes them. lanes_per_block: envs whose actions are computed together.

        contacts, constraint_rows: as `WarpPhysics` takes them. Raises ValueError where envs like `environment`
        cannot be stepped so, UserError where MuJoCo Warp cannot be had.
        """
        self.environment, self.n_envs, self.lanes_per_block = environment, n_envs, lanes_per_block
        self._seed, self._disturbances = seed, disturbances
        self.device = torch.empty(0, device=device).device  # with its number
        self.place = f"MuJoCo Warp on {self.device}"
        self.spec = read_environment(environment)
        self._task = self.spec.task.on_device(self.device)
        self._physics = WarpPhysics(self.spec, n_envs, self.device, contacts, constraint_rows)
        self._n_words = {
            "noise": a1.N_ACTIONS,
            "torques": a1.N_ACTIONS,
            "uniform": N_UNIFORM,
            "start": self._task.n_words_of_start,
            "advance": self._task.n_words_of_advance,
        }
        first, second = seed_of(seed, ENVS).generate_state(2).tolist()
        self._streams = Streams((first, second), n_envs, sum(self._n_words.values()), self.device)
        self._disturbed = torch.as_tensor(~disturbances.spared(np.arange(n_envs)), device=self.device)
        self._time = 0
        words = self._draw()
        self._length = torch.zeros(n_envs, dtype=torch.int64, device=self.device)
        self._limit = torch.full_like(self._length, self.spec.horizon)
        self._return = torch.zeros(n_envs, dtype=torch.float64, device=self.device)
        self._command = torch.zeros(n_envs, self.spec.task.command_size, dtype=torch.float64, device=self.device)
        self._begin(torch.ones(n_envs, dtype=torch.bool, device=self.device), words["start"])
        # A fragment is short beside an episode: time limits are spread over it, or all envs would meet theirs in one batch.
        self._limit = self.spec.horizon - integers(words["uniform"][0], self.spec.horizon)
        self._pool: PoolSource | None = None  # of evaluations
        self._started: Any = None
        self._before: dict[str, torch.Tensor] | None = None  # the envs as they were before what was started
        self._gathered: RolloutsOnDevice | None = None

    def start(self, agent: Any, n_steps: int | None = None, n_episodes: int | None = None, step: int = 0) -> None:
        if n_steps is None:
            raise ValueError("WarpSource: gathers steps of all envs, not whole episodes; give n_steps")
        self.drop()
        # A copy, because `wait` gathers, and the agent may learn before.
        self._started = copy.deepcopy(agent.policy), -(-n_steps // self.n_envs), self._disturbances.at(step)

    def wait(self) -> None:
        if self._gathered is None:
            self._go_back()
            self._before = {name: tensor.clone() for name, tensor in self._tensors().items()}
            self._gathered = self._gather(*self._started)

    def collect(self) -> Rollouts:
        self.wait()
        gathered = self._gathered
        self._started = self._before = self._gathered = None
        return gathered

    def drop(self) -> None:
        self._go_back()
        self._started = None

    def evaluate(
        self,
        agent: Any,
        numbers: range,
        initial_states: Sequence[np.ndarray] | None = None,
        step: int = 0,
        deterministic: bool | None = None,
    ) -> WholeEpisodes:
        if self._pool is None:
            self._pool = PoolSource(self.environment, n_envs=1, seed=self._seed)
        return self._pool.evaluate(agent, numbers, initial_states, step, deterministic)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def state(self) -> dict[str, np.ndarray]:
        tensors = self._tensors() if self._before is None else self._before
        return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        own = self.state()
        for name, array in own.items():
            found = state.get(name) if isinstance(state, Mapping) else None
            if not isinstance(found, np.ndarray) or found.shape != array.shape or found.dtype != array.dtype:
                raise ValueError(f"envs: {name} must be {array.dtype} of shape {array.shape}")
            low = 0 if found.dtype.kind == "i" else -LARGEST  # of counts, and of other numbers
            if not ((found >= low) & (found <= LARGEST)).all():  # NaN fails this comparison, too
                raise ValueError(f"envs: {name} must be numbers that a run can have")
        self._put({name: torch.from_numpy(np.array(state[name])).to(self.device) for name in own})

    @torch.no_grad()
    def _gather(self, policy: Any, n_steps: int, disturbances: TrainingDisturbances) -> RolloutsOnDevice:
        history = [self._step(policy, disturbances) for _ in range(n_steps)]
        *columns, blown_up, returns, lengths = (torch.stack(column) for column in zip(*history, strict=True))
        self._physics.check_overflow()
        absorbing, truncated = columns[-2:]
        last = absorbing | truncated
        episodes = episodes_of(last, returns, lengths, absorbing, blown_up)
        last[-1] = True
        tensors = {name: column.transpose(0, 1).contiguous() for name, column in zip(ARRAYS, [*columns, last], strict=True)}
        return RolloutsOnDevice(tensors, episodes)

    def _step(self, policy: Any, disturbances: TrainingDisturbances) -> tuple[torch.Tensor, ...]:
        """Step all envs by one control step, and begin new episodes where one ended; nothing waits for the device."""
        words, observation = self._draw(), self._observation
        action = self._means(policy, observation)
        if not policy.deterministic:
            action = action + policy.log_std.exp() * normal(words["noise"]).T
        torques, cut = self._disturb(disturbances, words)
        blown_up = self._physics.step(action, torques)
        self._command = self._task.advance(self._command, words["advance"])
        next_observation = torch.where(blown_up[:, None], observation, self._observed())
        reward = self._task.reward(observation) if self.spec.rewarded else torch.zeros_like(observation[:, 0])
        absorbing = blown_up | self._task.has_fallen(next_observation) if self.spec.falls else blown_up
        self._length = length = self._length + 1
        self._return = returned = self._return + reward
        truncated = ((length >= self._limit) | cut) & ~absorbing
        self._begin(absorbing | truncated, words["start"])
        return observation, action, reward, next_observation, absorbing, truncated, blown_up, returned, length

    def _means(self, policy: Any, observations: torch.Tensor) -> torch.Tensor:
        """Mean actions, (N, 12). In blocks of one size, because those of a row depend on the number of rows."""
        rows = self.lanes_per_block
        padded = torch.nn.functional.pad(observations, (0, 0, 0, -len(observations) % rows))
        return torch.cat([policy.mean_t(block) for block in padded.split(rows)])[: len(observations)]

    def _disturb(
        self, disturbances: TrainingDisturbances, words: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Push, as `TrainedController` does; return torques at the joints, (N, 12), Nm, and where episodes are cut, (N,)."""
        chance, size, angle, opposes, restart = uniform(words["uniform"])
        disturbed, torques = self._disturbed, None
        cut = disturbed & (restart < (1.0 / disturbances.restart_every if disturbances.restart_every else 0.0))
        if disturbances.push:
            force, velocity = self._physics.push, self._physics.joint_state()[1]
            angle = (2.0 * angle - 1.0) * math.pi
            back = torch.atan2(-velocity[:, 1], -velocity[:, 0]) + HEAD_ON * angle / math.pi
            angle = torch.where(opposes < 0.5, back, angle)
            new = disturbances.push * size[:, None] * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
            pushed = (force != 0.0).any(dim=1)
            ends = disturbed & pushed & (chance < 1.0 / PUSH_STEPS)
            begins = disturbed & ~pushed & (chance < 1.0 / (PUSH_EVERY_STEPS - PUSH_STEPS))
            force.copy_(torch.where(begins[:, None], new, force.masked_fill(ends[:, None], 0.0)))
        if disturbances.torque_noise:
            torques = disturbances.torque_noise * a1.MAX_TORQUE * normal(words["torques"]).T * disturbed[:, None]
        return torques, cut

    def _draw(self) -> dict[str, torch.Tensor]:
        """The random words of this time, {purpose: (n, N)}."""
        parts = self._streams.draw(self._time).split(list(self._n_words.values()))
        self._time += 1
        return dict(zip(self._n_words, parts, strict=True))

    def _begin(self, where: torch.Tensor, words: torch.Tensor) -> None:
        command, states = self._task.start(words)
        self._command = torch.where(where[:, None], command, self._command)
        self._physics.reset(where, states)
        self._limit = torch.where(where, self.spec.horizon, self._limit)
        self._length, self._return = (torch.where(where, 0, counted) for counted in (self._length, self._return))
        self._observation = self._observed()

    def _observed(self) -> torch.Tensor:
        return self._task.observe(*self._physics.joint_state(), self._command)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The envs as they are, {name: tensor}, which further steps change."""
        counted = {"time": torch.tensor(self._time), "length": self._length, "limit": self._limit, "return": self._return}
        return self._physics.state() | counted | {"command": self._command}

    def _put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._physics.load_state(tensors)
        self._time = int(tensors["time"])
        self._length, self._limit, self._return, self._command = (
            tensors[name].clone() for name in ("length", "limit", "return", "command")
        )
        self._observation = self._observed()

    def _go_back(self) -> None:
        """Undo what was gathered and not collected."""
        if self._before is not None:
            self._put(self._before)
        self._before = self._gathered = None
