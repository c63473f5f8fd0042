"""Envs that live in processes of their own and are stepped in lockstep: numpy and MuJoCo, neither torch nor gymnasium.

Actions and observations pass through memory that the processes share; a message of a few bytes sets a process to work.
"""

import contextlib
import mmap
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import traceback
from multiprocessing import connection, reduction

import numpy as np
from joblib.externals.loky.backend.process import LokyProcess

from qi_ext.robot import a1
from qi_ext.sampling.envs import EnvError, Envs
from qi_ext.sampling.joblib_dispatch import signals_held
from qi_ext.sampling.loky_backend import SharedValue, end_with, worker_variables
from qi_ext.sampling.physics import Block
from qi_ext.utils.errors import SamplingError
from qi_ext.utils.simulation_context import simulation_context

ENDS_WITHIN = 5.0  # s, for a process that is told to
_STEP = b""


def env_record(spec):
    """Return the dtype of what one env and its caller tell each other.

    action, (12,): of the next step. observation, command: after the last step, or of the new episode's beginning where one was
    started. final_observation, final_command: of an episode that ended, where the next one was started in the same step.
    """
    observation, command = (np.float64, spec.task.observation_size), (np.float64, spec.task.command_size)
    fields = {
        "action": (np.float64, a1.N_ACTIONS),
        "observation": observation,
        "command": command,
        "reward": (np.float64,),
        "terminated": (np.bool_,),
        "truncated": (np.bool_,),
        "final_observation": observation,
        "final_command": command,
    }
    return np.dtype([(name, *what) for name, what in fields.items()], align=True)


class LiveEnvs:
    """Envs that are stepped in this process; a controller of their `Block`, whose actions are those of `records`.

    An env is not a value here, as it is in the pool: a message for each step would have to carry its state both ways.
    """

    def __init__(self, spec, records, time_limit, autoreset):
        """records: (n,), of `env_record`. time_limit: steps, after which an episode is truncated even where it terminates.

        autoreset: "NextStep", "SameStep" or "Disabled", as in Gymnasium's `AutoresetMode`.
        """
        self.records = records
        self._time_limit = time_limit
        self._autoreset = autoreset
        self._actions = records["action"]
        # Seeds of the operating system's, as an environment has that was never seeded.
        seeds = [np.random.SeedSequence() for _ in records]
        envs = Envs.fresh(seeds, spec.state_size, spec.task.command_size)
        self._block = Block(spec, envs, len(records))

    def begin(self, block, env):
        """An episode starts, as the block tells its controller."""

    def actions(self, block, observations, envs):
        """Actions, (n, 12)."""
        return self._actions

    def reset(self, told, seeds):
        """Start episodes. told: {env: (command, group) of `Task.tell`, or ()}. seeds: {env: of its generator from here on}."""
        for env, seed in seeds.items():
            self._block.generators[env] = np.random.default_rng(seed)
        for env, told_env in told.items():
            self._start(env, *told_env)

    def step(self):
        """Step all envs; those whose episode was over start the next one instead, or raise EnvError without autoreset."""
        block, records = self._block, self.records
        running = np.flatnonzero(block.running)
        over = np.flatnonzero(~block.running)
        if len(over) and self._autoreset != "NextStep":
            raise EnvError("its episode is over, or none was started: call reset", int(over[0]))
        block.step(0, self, running)
        _, _, rewards, observations, terminated, truncated = block.take_step()
        records["observation"], records["command"], records["reward"] = observations, block.command, rewards
        records["terminated"], records["truncated"] = terminated, truncated | (block.length >= self._time_limit)
        for env in over:
            self._start(env)
        if self._autoreset == "SameStep":
            for env in np.flatnonzero(~block.running):
                record = records[env]
                record["final_observation"], record["final_command"] = record["observation"], record["command"]
                ended = record["terminated"], record["truncated"]
                self._start(env)
                record["terminated"], record["truncated"] = ended
                record["reward"] = rewards[env]

    def _start(self, env, *told):
        block, record = self._block, self.records[env]
        block.start(env, self, *told)
        record["observation"], record["command"] = block.observation[env], block.command[env]
        record["reward"], record["terminated"], record["truncated"] = 0.0, False, False


class EnvProcesses:
    """`LiveEnvs` in several processes, which start without the program's `__main__` and end with this process.

    records: (N,), of `env_record`: actions are written there before `step`, and results read after it.
    """

    def __init__(self, spec, n_envs, n_workers, *settings):
        """n_workers: processes, at most n_envs; 1 is this process. settings: as `LiveEnvs` takes them."""
        dtype = env_record(spec)
        # An unnamed file, so that nothing is left behind however the processes end.
        with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
            file.truncate(n_envs * dtype.itemsize)
            self.records = _mapped(file.fileno(), dtype)
            bounds = np.arange(n_workers + 1) * n_envs // n_workers
            self._shares = [range(*bounds[worker : worker + 2]) for worker in range(n_workers)]
            self._failure = None
            self._here = None
            self._processes, self._pipes, self._waiting = [], [], set()
            # A daemonic process may not start processes.
            if n_workers == 1 or multiprocessing.current_process().daemon:
                self._shares = [range(n_envs)]
                self._here = LiveEnvs(spec, self.records, *settings)
                return
            with signals_held():
                for share in self._shares:
                    self._start(share, file.fileno(), dtype, SharedValue((spec, settings)))

    def _start(self, share, descriptor, dtype, settings):
        ours, theirs = connection.Pipe()
        # The reading end of a file that is mapped; the file itself is closed once all processes are started.
        arguments = (os.getpid(), theirs, _Descriptor(descriptor), dtype, share, settings)
        process = LokyProcess(target=_serve, args=arguments, daemon=True, env=worker_variables())
        process.start()
        # Then only the process holds it, so that its end, for whatever cause, is noticed here.
        theirs.close()
        self._processes.append(process)
        self._pipes.append(ours)
        self._waiting.add(len(self._pipes) - 1)  # for the word that it is ready

    @property
    def n_workers(self):
        """Number of processes that step envs."""
        return len(self._shares)

    def reset(self, told, seeds):
        """As `LiveEnvs.reset`, of all envs. Raises SamplingError as `step` does."""
        if self._here is not None:
            self._run_here(self._here.reset, told, seeds)
            return
        messages = {}
        for worker, share in enumerate(self._shares):
            parts = [{env - share.start: of[env] for env in share if env in of} for of in (told, seeds)]
            if any(parts):
                messages[worker] = pickle.dumps(parts)
        self._run(messages)

    def step(self):
        """Step all envs. Raises SamplingError, naming envs, where one cannot go on or its process has died."""
        if self._here is not None:
            self._run_here(self._here.step)
        else:
            self._run(dict.fromkeys(range(len(self._pipes)), _STEP))

    def close(self):
        """End the processes."""
        self._failure = self._failure or "the envs are closed"
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(ENDS_WITHIN)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes, self._here = [], [], None

    def _run_here(self, function, *arguments):
        try:
            with simulation_context():
                function(*arguments)
        except EnvError as error:
            raise SamplingError(f"env {error.env}: {error}") from error

    def _run(self, messages):
        self._wait()  # for what an interrupted call did not wait for
        for worker, message in messages.items():
            with contextlib.suppress(OSError):  # a dead process is noticed below
                self._pipes[worker].send_bytes(message)
            self._waiting.add(worker)
        self._wait()

    def _wait(self):
        if self._failure is not None:
            raise SamplingError(self._failure)
        failures = []
        while self._waiting:
            # Processes, too, as somebody else may hold the pipe of a dead one.
            waited_for = {self._pipes[worker]: worker for worker in self._waiting}
            waited_for |= {self._processes[worker].sentinel: worker for worker in self._waiting}
            for worker in {waited_for[ready] for ready in connection.wait(list(waited_for))}:
                self._waiting.discard(worker)
                try:
                    answer = self._pipes[worker].recv_bytes() if self._pipes[worker].poll() else None
                except (EOFError, OSError):
                    answer = None
                if answer is None:
                    self._give_up(worker)
                if answer:
                    failures.append(answer.decode())
        if failures:
            raise SamplingError(failures[0])

    def _give_up(self, worker):
        process, share = self._processes[worker], self._shares[worker]
        process.join(ENDS_WITHIN)
        code = process.exitcode
        cause = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        self._failure = (
            f"the process of envs {share.start} to {share.stop - 1} died ({cause}; out of memory?); make the environment anew"
        )
        self.close()
        raise SamplingError(self._failure)


class _Descriptor:
    """A file descriptor on its way to a process that is being started."""

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def __getstate__(self):
        return reduction.DupFd(self._descriptor)

    def __setstate__(self, handle):
        self.value = handle.detach()


def _mapped(descriptor, dtype):
    return np.frombuffer(mmap.mmap(descriptor, 0), dtype)


def _serve(parent, pipe, descriptor, dtype, share, settings):
    """Step envs `share` in this process, until the pipe is closed."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    records = _mapped(descriptor.value, dtype)[share.start : share.stop]
    live = None
    message = None
    with simulation_context(), contextlib.suppress(EOFError, OSError):
        while True:
            answer = b""
            try:
                if live is None:
                    spec, (time_limit, autoreset) = settings.value()
                    live = LiveEnvs(spec, records, time_limit, autoreset)
                elif message == _STEP:
                    live.step()
                else:
                    live.reset(*pickle.loads(message))
            except EnvError as error:
                answer = f"env {share.start + error.env}: {error}".encode()
            except Exception as error:
                name = f"envs {share.start} to {share.stop - 1}"
                answer = f"{name}: {type(error).__name__}: {error}\n\nin the worker:\n{traceback.format_exc()}".encode()
            pipe.send_bytes(answer)
            message = pipe.recv_bytes()
