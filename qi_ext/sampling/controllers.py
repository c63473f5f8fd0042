"""Controllers of a block of envs: the policy, the expert, or uniform torques. Numpy and MuJoCo only."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from qi_ext.agents.acting import Actor
from qi_ext.robot import a1


class Controller(Protocol):
    """Acts in blocks of envs. block: a `qi_ext.sampling.physics.Block`, with simulation, command and generator of each env."""

    def begin(self, block: Any, env: int) -> None:
        """An episode starts in `env`, an index in the block."""

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        """Actions, (rows, 12), in units of 34 Nm, for observations, (rows, 37); only `envs`, indices of rows, count."""


class PolicyController(Controller):
    """Acts as `actor`, a `qi_ext.agents.acting.Actor`; the noise is each env's own."""

    def __init__(self, actor: Actor, deterministic: bool = False) -> None:
        self.actor = actor
        self.deterministic = deterministic

    def begin(self, block: Any, env: int) -> None:
        """An episode starts in `env`."""

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        """Actions, (rows, 12), for observations, (rows, 37); only `envs` count."""
        # All rows together, whatever `envs` are: the result of a matrix product depends on the number of rows.
        actions = self.actor.mean(observations)
        if not self.deterministic:
            for env in envs:
                actions[env] += self.actor.std * block.generators[env].standard_normal(a1.N_ACTIONS, dtype=np.float32)
        return actions


class ExpertController(Controller):
    """Acts as the trot controller in closed loop, which reads the simulation's state. Whole episodes only."""

    def __init__(self) -> None:
        self._trots: dict[int, Any] = {}

    def begin(self, block: Any, env: int) -> None:
        # Here, because scipy comes with that package, and the workers of a training run can do without.
        from qi_ext.demonstrations.trot import Gait, TrotController

        task = block.spec.task
        direction, speed, heading, turn_rate = task.steering(block.command[env])
        trot = TrotController(block.spec.model, direction, speed, heading, turn_rate, Gait(**task.expert_gait))
        trot.reset(block.datas[env])
        self._trots[env] = trot

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        actions = np.zeros((len(observations), a1.N_ACTIONS))
        for env in envs:
            self._trots[env].steer(*block.spec.task.steering(block.command[env]))
            actions[env] = self._trots[env].action(block.datas[env])
        return actions


class RandomController(Controller):
    """Uniform torques."""

    def begin(self, block: Any, env: int) -> None:
        pass

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        actions = np.zeros((len(observations), a1.N_ACTIONS))
        for env in envs:
            actions[env] = block.generators[env].uniform(-1.0, 1.0, a1.N_ACTIONS)
        return actions


class CutShort(Controller):
    """Acts as another controller, and ends each episode after `n_steps` steps, as if by its time limit."""

    def __init__(self, controller: Controller, n_steps: int) -> None:
        self._controller, self._n_steps = controller, n_steps

    def begin(self, block: Any, env: int) -> None:
        self._controller.begin(block, env)

    def actions(self, block: Any, observations: np.ndarray, envs: Sequence[int]) -> np.ndarray:
        block.cut[envs] = block.length[envs] + 1 >= self._n_steps  # with the step that is being taken
        return self._controller.actions(block, observations, envs)
