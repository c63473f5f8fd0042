"""Demonstrations in memory: segments of states and actions, each recorded under one command."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command

KINDS = ("nominal", "start", "push", "noise", "recorded")
HZ = 100.0
REAL_HZ = 500.0  # of loco-mujoco's real format


@dataclass(frozen=True)
class Demonstrations:
    """N states at 100 Hz, in S segments.

    states: (N, 37), float64, laid out as the task's observation.
    bounds: (S + 1,), int64; segment i is rows bounds[i] to bounds[i + 1].
    commands: S `Command`s. kind: S of `KINDS`.
    actions: (N, 12) in [-1, 1], or None; the expert's action in each state, without noise: the label to imitate.
    executed_actions: (N, 12) in [-1, 1], or None; the action that was executed, noise included.
    external_force: (N, 3), or None; N on the trunk, world frame, during the step that leaves the state.
    initial_state: (S, k), float64, or None; MuJoCo's integration state at each segment's first row.
    headings: (N, 2), or None; the commanded heading, rad, and the rate at which it turns, rad/s; states are in its frame.
    source: where they come from, for tables and logs. synthetic: made by a controller in simulation.
    notes: what was changed on loading, and what the user should know, a line each.
    recorded_hz: rate of the rows in the file that they come from, Hz: 500 of loco-mujoco's real format.
    """

    states: np.ndarray
    bounds: np.ndarray
    commands: tuple[Command, ...]
    kind: tuple[str, ...]
    source: str
    synthetic: bool
    actions: np.ndarray | None = None
    executed_actions: np.ndarray | None = None
    external_force: np.ndarray | None = None
    initial_state: np.ndarray | None = None
    headings: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    recorded_hz: float = HZ

    @property
    def n_segments(self) -> int:
        return len(self.commands)

    def segment(self, index: int) -> slice:
        """Rows of a segment, a slice."""
        return slice(int(self.bounds[index]), int(self.bounds[index + 1]))

    def content_hash(self) -> str:
        """SHA-256 of states, actions, bounds and headings, its first 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.states, self.actions, self.bounds, self.headings):
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def of(self, command: Command, kind: str | None = None) -> "Demonstrations":
        """Return the segments recorded under `command`, and of `kind` where it is given."""
        return self.select(i for i in range(self.n_segments) if self.commands[i] == command and kind in (None, self.kind[i]))

    def select(self, keep: Iterable[int]) -> "Demonstrations":
        """Return the segments with the given indices, in that order."""
        keep = list(keep)
        rows = np.concatenate([np.arange(self.bounds[i], self.bounds[i + 1]) for i in keep])
        lengths = [self.bounds[i + 1] - self.bounds[i] for i in keep]

        def pick(array: np.ndarray | None, index: Any) -> np.ndarray | None:
            return None if array is None else array[index]

        return replace(
            self,
            states=self.states[rows],
            bounds=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            commands=tuple(self.commands[i] for i in keep),
            kind=tuple(self.kind[i] for i in keep),
            actions=pick(self.actions, rows),
            executed_actions=pick(self.executed_actions, rows),
            external_force=pick(self.external_force, rows),
            headings=pick(self.headings, rows),
            initial_state=pick(self.initial_state, keep),
        )

    def states_by_command(self) -> dict[Command, np.ndarray]:
        """The states walked under each command, {command: (n, 37)}."""
        found: dict[Command, list[np.ndarray]] = {}
        for i, command in enumerate(self.commands):
            found.setdefault(command, []).append(self.states[self.segment(i)])
        return {command: np.concatenate(parts) for command, parts in found.items()}

    def with_commands(self, commands: Sequence[Command]) -> "Demonstrations":
        """Return the same motion under other commands, one for each segment, and with their goal features."""
        states = self.states.copy()
        for i, command in enumerate(commands):
            states[self.segment(i), a1.GOAL] = command.features
        return replace(self, states=states, commands=tuple(commands))

    def dataset(self) -> dict[str, np.ndarray]:
        """Return the transitions within segments, in the form of loco-mujoco's `create_dataset`.

        A dict: states, next_states (n, 37), absorbing, last (n,), and actions (n, 12) where there are any.
        """
        rows = np.delete(np.arange(len(self.states)), self.bounds[1:] - 1)
        last = np.zeros(len(self.states))
        last[self.bounds[1:] - 2] = 1.0
        dataset = {
            "states": self.states[rows],
            "next_states": self.states[rows + 1],
            "absorbing": np.zeros(len(rows)),
            "last": last[rows],
        }
        if self.actions is not None:
            dataset["actions"] = self.actions[rows]
        return dataset
