"""Bare MuJoCo in as many processes as the pool has workers: the speed of the pool if all but physics cost nothing."""

import multiprocessing
import time

import mujoco
import numpy as np

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def replay(model, data, n_substeps, state, controls):
    """Go on from the integration state `state` under `controls`, (T, nu)."""
    mujoco.mj_setState(model, data, state, STATE)
    ctrl = data.ctrl
    for control in controls:
        ctrl[:] = control
        mujoco.mj_step(model, data, n_substeps)


def recorded(spec, envs, rollouts):
    """Return [(state, controls (t, 12)), ...] of the simulation in `rollouts`.

    spec: the `EnvSpec`. envs: {name: array}, `PoolSource.state` before the rollouts. One item for each env under way, up to the
    end of its first episode: where the next one starts is not recorded.
    """
    controls = np.zeros(rollouts.actions.shape)
    controls[..., spec.addresses.actuators] = rollouts.actions * spec.scale + spec.offset
    ended = rollouts.absorbing | rollouts.truncated
    ends = np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, ended.shape[1])
    return [(envs["state"][i], controls[i, : ends[i]]) for i in np.flatnonzero(envs["running"])]


def shares(replays, n_processes, n_steps):
    """Split `n_steps` steps of `replays` equally: each process begins with an env of its own and goes on to the next."""
    parts = []
    for process in range(n_processes):
        part, left, env = [], n_steps // n_processes, process * len(replays) // n_processes
        while left:
            state, controls = replays[env % len(replays)]
            part.append((state, controls[:left]))
            left -= len(part[-1][1])
            env += 1
        parts.append(part)
    return parts


class BareProcesses:
    """Processes that replay recorded controls, started once and idle between measurements."""

    def __init__(self, spec, n_processes):
        context = multiprocessing.get_context("spawn")
        # Kept, because its shared memory is used for other things once the parent's barrier is gone.
        self._barrier = context.Barrier(n_processes)
        self._pipes = []
        for _ in range(n_processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, self._barrier, spec.model, spec.n_substeps)
            context.Process(target=_serve, args=arguments, daemon=True).start()
            # Then only the process holds it, so that its end, for whatever cause, is noticed here.
            theirs.close()
            self._pipes.append(ours)

    def rate(self, replays, n_steps):
        """Return steps per second of `n_steps` steps of `replays`, from the first process's start to the last one's end."""
        parts = shares(replays, len(self._pipes), n_steps)
        for pipe, part in zip(self._pipes, parts, strict=True):
            pipe.send(part)
        begins, ends = zip(*(pipe.recv() for pipe in self._pipes), strict=True)
        return sum(len(controls) for part in parts for _, controls in part) / (max(ends) - min(begins))

    def close(self):
        for pipe in self._pipes:
            pipe.send(None)


def _serve(pipe, barrier, model, n_substeps):
    data = mujoco.MjData(model)
    while (part := pipe.recv()) is not None:
        barrier.wait()
        begin = time.perf_counter()
        for state, controls in part:
            replay(model, data, n_substeps, state, controls)
        pipe.send((begin, time.perf_counter()))
