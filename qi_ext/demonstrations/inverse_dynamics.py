"""Actions for demonstrations of states alone: the torques that, in simulation, lead from each state to the next."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mujoco
import numpy as np

from qi_ext.robot import a1
from qi_ext.sampling.physics import settled

MAX_ITERATIONS = 7
# The Jacobian of the transition before mostly does, and costs nothing; this many iterations without success say otherwise.
ITERATIONS_WITH_OLD_JACOBIAN = 2
TOLERANCE = 0.03  # rad/s and m/s, RMS over the 18 velocities
DAMPING = 0.1  # of the least squares, in rad/s per unit of action
# A step's effect on the velocities, in effects of a substep: the 10 substeps, less what contacts and joints damp meanwhile.
EFFECTIVE_SUBSTEPS = 7.5
DIFFERENCE = 1e-4  # of the action, for finite differences


def with_inferred_actions(demonstrations, model, n_threads=1, progress=lambda n: None):
    """Demonstrations of the same motion, with the `actions` that explain it best in simulation; a last note says how well.

    Each action is the one whose 10 substeps of `model` come nearest, in velocities, to the next state, found by Levenberg's
    damped least squares (1944) with Broyden's rank-one updates of the Jacobian (1965), beginning at the action before, which
    also stands for what the motion does not tell (how hard two feet push against each other). MuJoCo's own inverse dynamics is
    no use here: stiff contacts make its torques as wrong as they are large when accelerations are differences over 10 ms.

    demonstrations: only `states` and `bounds` are looked at; the last state of each segment, from which nothing follows, is
    left out of the result, and so is what was recorded of actions and forces. model: the task's compiled `mujoco.MjModel`.
    n_threads: never part of the result. progress(n) is called as n more states are done.
    """
    segments = [demonstrations.states[demonstrations.segment(i)] for i in range(demonstrations.n_segments)]
    with settled(), ThreadPoolExecutor(n_threads) as threads:
        inferred = []
        try:
            for actions, misses in threads.map(lambda states: _Simulation(model).infer(states), segments):
                inferred.append((actions, misses))
                progress(len(actions) + 1)
        finally:
            threads.shutdown(cancel_futures=True)
    actions, misses = (np.concatenate(column) for column in zip(*inferred, strict=True))
    changes = np.concatenate([np.diff(states[:, a1.LEG_VELOCITY], axis=0) for states in segments])
    note = (
        f"actions inferred from consecutive states: a simulated step with them misses the next joint velocities by "
        f"{_rms(misses[:, -a1.N_ACTIONS :]):.3f} rad/s RMS, of {_rms(changes):.3f} by which they change; "
        f"{np.mean(np.abs(actions) >= 1.0):.2%} of the torques are at the limit"
    )
    rows = np.delete(np.arange(len(demonstrations.states)), demonstrations.bounds[1:] - 1)
    return replace(
        demonstrations,
        states=demonstrations.states[rows],
        bounds=demonstrations.bounds - np.arange(len(demonstrations.bounds)),
        actions=actions,
        executed_actions=None,
        external_force=None,
        notes=(*demonstrations.notes, note),
    )


class _Simulation:
    """One robot, put into any state."""

    def __init__(self, model):
        self.model, self.data = model, mujoco.MjData(model)
        joints = [model.joint(name) for name in a1.JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._qvel = np.array([joint.dofadr[0] for joint in joints])
        self._actuators = np.array([model.actuator(name).id for name in a1.ACTUATORS])

    def infer(self, states):
        """Actions, (n - 1, 12), of a segment of n states, and by how much they miss the next velocities, (n - 1, 18)."""
        actions = np.zeros((len(states) - 1, a1.N_ACTIONS))
        misses = np.zeros((len(states) - 1, len(a1.JOINTS)))
        action, jacobian = np.zeros(a1.N_ACTIONS), None
        for i in range(len(states) - 1):
            action, misses[i], jacobian = self._fitted(states[i], states[i + 1], action, jacobian)
            actions[i] = action
        return actions, misses

    def _fitted(self, state, next_state, previous, jacobian):
        action, damping = previous, DAMPING**2
        miss = next_state[a1.VELOCITY] - self._velocity(state, action)
        for iteration in range(MAX_ITERATIONS):
            if _rms(miss) < TOLERANCE:
                break
            if jacobian is None or iteration == ITERATIONS_WITH_OLD_JACOBIAN:
                jacobian = self._jacobian(_halfway(state, next_state), action)
            normal = jacobian.T @ jacobian + damping * np.eye(a1.N_ACTIONS)
            wanted = action + np.linalg.solve(normal, jacobian.T @ miss + damping * (previous - action))
            step = np.clip(wanted, -1.0, 1.0) - action
            if not step.any():
                break
            trial = next_state[a1.VELOCITY] - self._velocity(state, action + step)
            jacobian = jacobian + np.outer(miss - trial - jacobian @ step, step) / (step @ step)
            if _rms(trial) < _rms(miss):
                action, miss = action + step, trial
            else:
                damping *= 4.0
        return action, miss, jacobian

    def _velocity(self, state, action, n_substeps=a1.N_SUBSTEPS):
        """Velocities, (18,), after `n_substeps` from an observed state; finite, because MuJoCo resets what blows up."""
        mujoco.mj_resetData(self.model, self.data)
        # x and y stay 0: the floor is the same everywhere.
        self.data.qpos[self._qpos[2:]] = state[a1.POSITION]
        self.data.qvel[self._qvel] = state[a1.VELOCITY]
        self.data.ctrl[self._actuators] = action
        mujoco.mj_step(self.model, self.data, n_substeps)
        return self.data.qvel[self._qvel]

    def _jacobian(self, state, action):
        """About how a step's velocities depend on its action, (18, 12): from the substep in its middle."""
        before = self._velocity(state, action, 1)
        columns = [self._velocity(state, action + change, 1) - before for change in DIFFERENCE * np.eye(a1.N_ACTIONS)]
        return np.stack(columns, axis=1) * (EFFECTIVE_SUBSTEPS / DIFFERENCE)


def _halfway(state, next_state):
    middle = (state + next_state) / 2.0
    middle[a1.YAW] = state[a1.YAW]  # the mean is on the other side where yaw jumps from pi to -pi
    return middle


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))
