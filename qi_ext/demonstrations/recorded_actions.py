"""Check that recorded actions explain the motion: a simulated step with them leads to the next state's joint velocities."""

import mujoco
import numpy as np

from qi_ext.demonstrations.conventions import LEG_ORDERS, joints_of
from qi_ext.demonstrations.measures import Measure
from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses
from qi_ext.utils.simulation_context import simulation_context

# Ranges, with what the embedded sets and all formats of the trot expert measure; then the nearest wrong ones.
MISS = (0.0, 0.3)  # right 0.000, noise of 0.07 in every row 0.2; a row late 0.4, reversed 2.1, other order of legs 1.3 to 1.5
SCALE = (0.85, 1.15)  # right 1.000 to 1.002; four fifths of the torque 1.26
BETTER = 0.5  # of the miss, at most, under another convention that then explains the actions
CLEAR_MISS = 0.1  # at least, before other conventions are tried
TARGETS = 0.6  # correlation with the next joint positions; position targets 0.7 and more, torques 0.3 and less
SMALLEST_SCALE = 0.02  # of what is still torque in another unit
SAMPLE = 50  # rows at most that are simulated


def examine_actions(demonstrations, model):
    """Return `Measure`s, a list, and the fault in one line, or None. Without actions there are none.

    model: the task's compiled `mujoco.MjModel`.
    The miss is the median over rows of the RMS error of the next joint velocities, divided by the error without any torque.
    """
    if demonstrations.actions is None:
        return [], None
    rows = _Rows(demonstrations, model)
    miss, scale = rows.miss(demonstrations.actions), rows.scale
    measures = [
        Measure("miss of a step with the actions, over that of one without torque", miss, MISS),
        Measure("torques that the motion needs, over the recorded ones", scale, SCALE),
    ]
    if miss <= CLEAR_MISS and measures[1].right:
        return measures, None
    fault = _fault(demonstrations, rows, miss, measures[1])
    return measures, None if fault is None else f"{fault} From states alone: --warm_start_actions inferred"


def _fault(demonstrations, rows, miss, scale):
    """The likely cause of a miss or `Measure` of scale that is not that of right actions, or None."""
    said = f"with the recorded actions the next state is missed by {miss:.0%} of what no torque misses it by"
    words, best = _best_convention(rows, demonstrations)
    if best < BETTER * miss and best < MISS[1]:
        return f"{said}: are they {words}?"
    in_another_unit = not scale.right and scale.value is not None and scale.value > SMALLEST_SCALE
    if in_another_unit and rows.miss(demonstrations.actions * scale.value) < BETTER * miss:
        return f"the motion needs {scale.value:.2f} times the recorded actions: are they in units of {a1.MAX_TORQUE:g} Nm?"
    if scale.right and miss <= MISS[1]:
        return None
    if _correlation_with_next_positions(demonstrations) > TARGETS:
        return f"{said}: are they position targets in place of torques?"
    return f"{said}: are they this motion's torques, in units of {a1.MAX_TORQUE:g} Nm?"


class _Rows:
    """Rows of a recording with a successor, sampled evenly, and the steps from them in simulation."""

    def __init__(self, demonstrations, model):
        self._model, self._data, self._addresses = model, mujoco.MjData(model), addresses(model)
        first = np.delete(np.arange(len(demonstrations.states)), demonstrations.bounds[1:] - 1)
        self._rows = first[np.linspace(0, len(first) - 1, min(SAMPLE, len(first))).astype(int)]
        self._states = demonstrations.states[self._rows]
        force = demonstrations.external_force
        self._forces = np.zeros((len(self._rows), 3)) if force is None else force[self._rows]
        self._wanted = demonstrations.states[self._rows + 1][:, a1.LEG_VELOCITY]
        self._without_torque = self._step(np.zeros((len(self._rows), a1.N_ACTIONS)))
        self.scale = None

    def miss(self, actions):
        """Median over rows of the error with `actions`, (N, 12), over that without torque; sets `scale`."""
        reached = self._step(np.clip(actions[self._rows], -1.0, 1.0))
        effect, needed = reached - self._without_torque, self._wanted - self._without_torque
        square = np.sum(effect**2)
        self.scale = float(np.sum(effect * needed) / square) if square > 0.0 else None
        error = np.sqrt(np.mean((self._wanted - reached) ** 2, axis=1))
        return float(np.median(error) / np.median(np.sqrt(np.mean(needed**2, axis=1))))

    def _step(self, actions):
        """Joint velocities, (n, 12), a control step after each row."""
        reached, data, found = np.empty_like(actions), self._data, self._addresses
        with simulation_context():
            for row, (state, action, force) in enumerate(zip(self._states, actions, self._forces, strict=True)):
                mujoco.mj_resetData(self._model, data)
                data.qpos[found.qpos[2:]] = state[a1.POSITION]
                data.qvel[found.qvel] = state[a1.VELOCITY]
                data.ctrl[found.actuators] = action
                data.xfrc_applied[found.trunk, :3] = force
                mujoco.mj_step(self._model, data, a1.N_SUBSTEPS)
                reached[row] = data.qvel[found.qvel[6:]]
        return reached


def _best_convention(rows, demonstrations):
    """Return the words of the convention under which actions explain the motion best, and its miss."""
    actions = demonstrations.actions
    hips = np.tile([-1.0, 1.0, 1.0], 4)
    candidates = {
        "of the opposite sign": -actions,
        "a row late": np.roll(actions, -1, axis=0),
        "a row early": np.roll(actions, 1, axis=0),
        "of hips whose sign is reversed": actions * hips,
        "of right hips whose sign is reversed": actions * np.where(np.arange(12) % 6 == 0, -1.0, 1.0),
        "in the order of all hips, then all thighs, then all calves": actions.reshape(-1, 3, 4).swapaxes(1, 2).reshape(-1, 12),
    } | {f"of {words}": actions[:, joints_of(order)] for words, order in LEG_ORDERS.items()}
    misses = {words: rows.miss(candidate) for words, candidate in candidates.items()}
    best = min(misses, key=misses.get)
    return best, misses[best]


def _correlation_with_next_positions(demonstrations):
    positions = demonstrations.states[1:, a1.LEG_POSITION]
    actions = demonstrations.actions[:-1]
    positions, actions = positions - positions.mean(axis=0), actions - actions.mean(axis=0)
    scale = np.sqrt(np.sum(positions**2, axis=0) * np.sum(actions**2, axis=0))
    return float(np.mean(np.sum(positions * actions, axis=0) / np.maximum(scale, 1e-9)))
