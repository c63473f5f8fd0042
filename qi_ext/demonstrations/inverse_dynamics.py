"""Actions inferred from states: the torques that lead, in simulation, from each demonstrated state to the next."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mujoco
import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses
from qi_ext.utils.simulation_context import simulation_context

MAX_ITERATIONS = 7
# The Jacobian of the previous transition mostly suffices, and is free; it is computed anew after this many iterations.
ITERATIONS_WITH_OLD_JACOBIAN = 2
TOLERANCE = 0.03  # rad/s and m/s, RMS over the 18 velocities
DAMPING = 0.1  # of the least squares, in rad/s per unit of action
# Effect of a step on the velocities relative to that of one substep: 10 substeps, less the damping by contacts and joints.
EFFECTIVE_SUBSTEPS = 7.5
DIFFERENCE = 1e-4  # in units of the action, for finite differences


def with_inferred_actions(demonstrations, model, n_threads=1, progress=lambda n: None):
    """Return `Demonstrations` of the same motion with the `actions` that explain it best; their last note says how well.

    Each action is the one whose 10 substeps of `model` come nearest, in velocities, to the next state, found by Levenberg's
    damped least squares (1944) with Broyden's rank-one updates of the Jacobian (1965). The search starts at the previous
    action and stays near it where the motion leaves the torques undetermined (how hard two feet push against each other).
    MuJoCo's own inverse dynamics does not serve: with accelerations taken as differences over 10 ms, stiff contacts make its
    torques large and wrong.

    demonstrations: only `states` and `bounds` are used. The result has neither the last state of each segment, which has no
    next state, nor recorded actions and forces. model: the task's compiled `mujoco.MjModel`.
    n_threads: changes only the speed. progress(n) is called as n more states are done.
    """
    segments = [demonstrations.states[demonstrations.segment(i)] for i in range(demonstrations.n_segments)]
    with simulation_context(), ThreadPoolExecutor(n_threads) as threads:
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


def missed_velocities(demonstrations, rows, model):
    """Return by how much the best action from each of `rows` misses the velocities of the row after it, (len(rows), 18).

    The miss is what is recorded less what is reached, of `a1.JOINTS`. model: the task's compiled `mujoco.MjModel`.
    """
    simulation, states = _Simulation(model), demonstrations.states
    with simulation_context():
        return np.concatenate([simulation.infer(states[row : row + 2])[1] for row in rows])


def steps_up(states, model):
    """Return for how many steps the inferred actions of n states, (n, 37), replayed from the first, keep the robot up, < n."""
    simulation = _Simulation(model)
    with simulation_context():
        actions, _ = simulation.infer(states)
        return simulation.replay(states[0], actions)


class _Simulation:
    """A simulated robot that can be put into any observed state."""

    def __init__(self, model):
        self.model, self.data = model, mujoco.MjData(model)
        self._addresses = addresses(model)

    def infer(self, states):
        """Actions, (n - 1, 12), between n states, and the errors of the velocities they lead to, (n - 1, 18)."""
        actions = np.zeros((len(states) - 1, a1.N_ACTIONS))
        misses = np.zeros((len(states) - 1, len(a1.JOINTS)))
        action, jacobian = np.zeros(a1.N_ACTIONS), None
        for i in range(len(states) - 1):
            action, misses[i], jacobian = self._fit_action(states[i], states[i + 1], action, jacobian)
            actions[i] = action
        return actions, misses

    def _fit_action(self, state, next_state, previous, jacobian):
        """The action from `state` to `next_state`, the error of the velocities it leads to, and the Jacobian as updated."""
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

    def replay(self, state, actions):
        """Number of `actions`, (n, 12), after which the robot is still up, from an observed state on."""
        self._put(state)
        for step, action in enumerate(actions):
            self.data.ctrl[self._addresses.actuators] = action
            mujoco.mj_step(self.model, self.data, a1.N_SUBSTEPS)
            # MuJoCo resets a simulation that blows up.
            if self.data.warning.number.any() or a1.has_fallen(self.data.qpos[self._addresses.qpos[2:]]):
                return step
        return len(actions)

    def _put(self, state):
        mujoco.mj_resetData(self.model, self.data)
        # x and y stay 0: the floor is the same everywhere.
        self.data.qpos[self._addresses.qpos[2:]] = state[a1.POSITION]
        self.data.qvel[self._addresses.qvel] = state[a1.VELOCITY]

    def _velocity(self, state, action, n_substeps=a1.N_SUBSTEPS):
        """Velocities, (18,), `n_substeps` after an observed state; finite, because MuJoCo resets a simulation that blows up."""
        self._put(state)
        self.data.ctrl[self._addresses.actuators] = action
        mujoco.mj_step(self.model, self.data, n_substeps)
        return self.data.qvel[self._addresses.qvel]

    def _jacobian(self, state, action):
        """Approximate derivatives of the next velocities by the action, (18, 12), from one substep at `state`."""
        before = self._velocity(state, action, 1)
        columns = [self._velocity(state, action + change, 1) - before for change in DIFFERENCE * np.eye(a1.N_ACTIONS)]
        return np.stack(columns, axis=1) * (EFFECTIVE_SUBSTEPS / DIFFERENCE)


def _halfway(state, next_state):
    middle = (state + next_state) / 2.0
    middle[a1.YAW] = state[a1.YAW]  # the mean is on the other side where yaw jumps from pi to -pi
    return middle


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))
