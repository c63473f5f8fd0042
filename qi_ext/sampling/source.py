"""The one interface to where rollouts come from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qi_ext.sampling.rollouts import Rollouts, WholeEpisodes


class RolloutSource(ABC):
    """Gathers rollouts of N envs, acted in as an agent acts.

    A training loop calls, over and over, `start`, `wait` and `collect`; sources with processes or a device of their own gather
    between `start` and `wait`, while the caller does something else.

    n_envs: how many envs there are; part of the result. n_workers: processes that step them; never part of the result.
    place: where envs are stepped, in words, such as "2 processes".
    """

    n_envs: int
    n_workers: int = 1
    place: str = "this process"

    @abstractmethod
    def start(self, agent: Any, n_steps: int | None = None, n_episodes: int | None = None, step: int = 0) -> None:
        """Begin to gather at least n_steps env steps, or n_episodes whole episodes; one of them is given.

        agent: mushroom-rl's; its policy acts as it is now, whatever becomes of it meanwhile.
        step: env steps of training so far, on which disturbances may depend.
        """

    def wait(self) -> None:  # noqa: B027 (sources that gather in `collect` have nothing to wait for)
        """Wait for what was started. It may be interrupted at any moment: the envs are then as before `start`.

        Raises SamplingError where rollouts cannot be gathered.
        """

    @abstractmethod
    def collect(self) -> Rollouts | WholeEpisodes:
        """The rollouts that were started and waited for, `Rollouts` or `WholeEpisodes`; the envs are then as after them."""

    def drop(self) -> None:  # noqa: B027
        """Give up what was started and not collected; the envs stay as they were before it."""

    @abstractmethod
    def evaluate(
        self,
        agent: Any,
        numbers: range,
        initial_states: Sequence[np.ndarray] | None = None,
        step: int = 0,
        deterministic: bool | None = None,
    ) -> WholeEpisodes:
        """Run whole episodes, and leave envs and agent as they are; returns `WholeEpisodes`.

        numbers: a range; each episode depends on its number, the source's seed and `step` only.
        initial_states: a list that `numbers` index, of observations to start from; else episodes are spread evenly over the
        task's commands. deterministic: whether to act without noise; None is as the policy says. Raises SamplingError.
        """

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """The envs between `collect` and `start`, {name: numpy array}, to go on from exactly."""

    @abstractmethod
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state`, as another source of this kind and size gave it. Raises ValueError where it is of another."""

    def close(self) -> None:  # noqa: B027
        """Give back processes, connections and memory."""
