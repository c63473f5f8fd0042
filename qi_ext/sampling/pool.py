"""A joblib pool in which the death of a worker costs time and changes nothing else."""

import contextlib
import errno
import logging
import multiprocessing
import os
import re
import traceback
from collections import Counter

import joblib

from qi_ext.sampling.joblib_dispatch import dispatch
from qi_ext.utils.errors import LESS_MEMORY, SamplingError, UserError, fault_of_the_machine

KINDS = ("loky", "serial", "dask")
SCHEDULER_TIMEOUT = 10.0  # s
PROCESSES = os.name == "posix"  # what keeps the pool's processes alive and ends them is not to be had on Windows

_log = logging.getLogger("qi_ext.sampling")


def available_cpus():
    """Return how many processors this process may use, by affinity, the container's limit (both by joblib) and Slurm's."""
    count = joblib.cpu_count()
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        allotted = re.match("[0-9]+", os.environ.get(name, ""))
        if allotted:
            return max(1, min(count, int(allotted.group())))
    return count


class Pool:
    """Runs tasks in `n_workers` processes (`loky`), in this process (`serial`), or on a Dask cluster (`dask`).

    Tasks must be values: when a worker dies, the tasks that it had are run again, and the results are the same.

    n_workers: number of processes. place: where tasks run, in words, such as "2 processes".
    """

    def __init__(self, kind="loky", n_workers="auto", scheduler="", initializer=None, initargs=(), in_process=None):
        """Make the pool; `loky` starts its processes with the first tasks, and runs tasks in this process on Windows.

        n_workers: a number, or "auto" for `available_cpus`; of no use with Dask, except for "slurm".
        scheduler: address of a Dask scheduler, tls://HOST:PORT or tcp://HOST:PORT, or "slurm" to run a scheduler here and
        n_workers in jobs of Slurm. initializer(*initargs): called once in each worker process when it starts. in_process():
        returns a context manager, entered around each task that runs in this process, where the initializer is not called.
        Raises UserError where the pool cannot be had.
        """
        if kind not in KINDS:
            raise UserError(f"--pool: unknown pool {kind!r}; choose one of {', '.join(KINDS)}")
        if (kind == "dask") != bool(scheduler):
            raise UserError(
                "--scheduler: the address of a Dask scheduler, such as tls://host:8786, or slurm, goes with --pool dask"
            )
        self.kind = kind
        self.n_workers = worker_count(n_workers)
        self._in_process = in_process or contextlib.nullcontext
        self._workers = None
        if kind == "dask":
            self._workers = _dask_workers(scheduler, n_workers, initializer, initargs)
        # A daemonic process may not start processes.
        elif kind == "loky" and self.n_workers > 1 and PROCESSES and not multiprocessing.current_process().daemon:
            from qi_ext.sampling.loky_backend import LokyWorkers

            self._workers = LokyWorkers(self.n_workers, initializer, initargs)
        self.place = scheduler or (f"{self.n_workers} processes" if self._workers else "this process")

    def run(self, function, tasks, name):
        """Send the tasks, and return a generator of (index, function(*tasks[index])) in the order of completion.

        In this process, a task runs when its result is asked for. Closing the generator early ends the workers.
        name(index, env): the name of a task (env is None) or of one of its envs, for messages.
        The generator raises SamplingError where a task raises, with the worker's traceback; or where the workers of a task
        keep dying, after all other tasks are done.
        """
        run = self._run_here if self._workers is None else self._run_in_workers
        running = run(function, tasks, name)
        next(running, None)
        return running

    def _run_here(self, function, tasks, name):
        yield None
        for index, task in enumerate(tasks):
            with self._in_process():
                outcome = _attempt(index, function, task)
            yield _unwrap(outcome, name)

    def _run_in_workers(self, function, tasks, name):
        """Yield None once all tasks are sent, then (index, result)."""
        pending = dict(enumerate(tasks))
        deaths, deaths_alone, given_up, sent = 0, Counter(), [], False
        while pending:
            # A death ends all workers, and does not say which task caused it; after some, tasks run one at a time.
            alone = deaths >= self._workers.deaths_together
            chosen = [next(iter(pending))] if alone else list(pending)
            calls = (joblib.delayed(_attempt)(index, function, pending[index]) for index in chosen)
            try:
                for outcome in dispatch(self._workers, calls):
                    if outcome is not None:
                        del pending[outcome[0]]
                        yield _unwrap(outcome, name)
                    elif not sent:
                        sent = True
                        yield None
            except SamplingError:
                raise
            except self._workers.death as error:
                if self._workers.fault:
                    raise SamplingError(f"{_names(pending.keys() & chosen, name)}: {self._workers.fault}") from None
                deaths += 1
                if alone:
                    deaths_alone[chosen[0]] += 1
                if deaths_alone[chosen[0]] == self._workers.deaths_alone:
                    del pending[chosen[0]]
                    given_up.append((chosen[0], error))
                else:
                    again = _names(pending.keys() & chosen, name)
                    _log.warning("a worker died (killed, or out of memory?); running again: %s", again)
            except Exception as error:
                lost = _names(pending.keys() & chosen, name)
                raise SamplingError(f"{lost}: {_one_line(error)}") from error
        if given_up:
            names = ", ".join(name(index, None) for index, _ in given_up)
            cause = self._workers.cause(given_up[0][1])
            hint = f"; where memory ran out, {LESS_MEMORY}" if "SIGKILL" in cause else ""
            raise SamplingError(f"the worker that runs {names} keeps dying: {cause}{hint}")

    def close(self):
        """End the worker processes, or disconnect from the Dask cluster. A `loky` pool starts new ones when it runs again."""
        if self._workers is not None:
            self._workers.close()


def _dask_workers(scheduler, n_workers, initializer, initargs):
    try:
        if scheduler == "slurm":
            from qi_ext.sampling.slurm_backend import SlurmWorkers

            if n_workers == "auto":
                raise UserError("--n_workers: say how many worker processes Slurm is to run, such as 32")
            return SlurmWorkers(worker_count(n_workers), SCHEDULER_TIMEOUT, initializer, initargs)
        from qi_ext.sampling.dask_backend import DaskWorkers
    except ImportError as error:
        install = "pip install distributed dask-jobqueue cryptography"
        raise UserError(f"--pool dask: {error.name} is not installed; {install}") from None
    return DaskWorkers(scheduler, SCHEDULER_TIMEOUT, initializer, initargs)


def worker_count(n_workers):
    try:
        count = available_cpus() if n_workers == "auto" else int(n_workers)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise UserError(f"--n_workers: must be auto or at least 1, not {n_workers!r}")
    return count


def _attempt(index, function, task):
    """Return (index, result, None) or (index, None, failure); a failure is made of strings, as not every exception pickles."""
    try:
        return index, function(*task), None
    except Exception as error:
        # Where memory is refused, a traceback tells nothing.
        refused = "" if isinstance(error, OSError) else fault_of_the_machine(error)
        where = "" if refused else f"\n\nin the worker:\n{traceback.format_exc()}"
        return index, None, (refused or _one_line(error), where, getattr(error, "env", None))


def _unwrap(outcome, name):
    index, result, failure = outcome
    if failure is None:
        return index, result
    summary, where, env = failure
    raise SamplingError(f"{name(index, env)}: {summary}{where}")


def _names(indices, name):
    """Names of tasks, at most four of them, so that the message stays one line."""
    shown = sorted(indices)[:4]
    more = f" and {len(indices) - 4} more" if len(indices) > 4 else ""
    return ", ".join(name(index, None) for index in shown) + more


def _one_line(error):
    if isinstance(error, UnboundLocalError) and isinstance(error.__context__, OSError):
        error = error.__context__  # such as too many open files, which loky stumbles over
    lines = str(error).strip().splitlines()
    # A lock between processes is a file in /dev/shm, which the error does not name.
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
    hint = "; is /dev/shm full?" if full else ""
    return f"{type(error).__name__}: {lines[0] if lines else ''}{hint}"
