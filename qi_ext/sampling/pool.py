"""A joblib pool in which a worker may die, and nothing changes but the time it takes."""

import contextlib
import logging
import multiprocessing
import os
import re
import traceback
from collections import Counter

import joblib

from qi_ext.sampling.joblib_dispatch import dispatch
from qi_ext.utils.errors import SamplingError, UserError

KINDS = ("loky", "serial", "dask")
SCHEDULER_TIMEOUT = 10.0  # s

_log = logging.getLogger("qi_ext.sampling")


def available_cpus():
    """Processors this process may use: affinity and the container's limit (joblib), and Slurm's."""
    count = joblib.cpu_count()
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        allotted = re.match("[0-9]+", os.environ.get(name, ""))
        if allotted:
            return max(1, min(count, int(allotted.group())))
    return count


class Pool:
    """Runs tasks on `n_workers` processes (`loky`), in this one (`serial`), or on a Dask cluster (`dask`).

    Tasks must be values: a worker that dies costs one more run of the tasks it had, and changes nothing.
    """

    def __init__(self, kind="loky", n_workers="auto", scheduler="", initializer=None, initargs=(), in_process=None):
        """initializer(*initargs): run once in each worker process, whenever it starts. in_process(): a context manager that
        stands for it where tasks run in this process. n_workers: a number or "auto", `available_cpus`; Dask has its own.
        scheduler: address of a Dask scheduler, tcp://HOST:PORT, or "slurm" to have one, with n_workers in jobs of Slurm.
        Raises UserError where the pool cannot be had.
        """
        if kind not in KINDS:
            raise UserError(f"--pool: unknown pool {kind!r}; choose one of {', '.join(KINDS)}")
        if (kind == "dask") != bool(scheduler):
            raise UserError(
                "--scheduler: the address of a Dask scheduler, such as tcp://host:8786, or slurm, goes with --pool dask"
            )
        self.kind = kind
        self.n_workers = _count(n_workers)
        self._in_process = in_process or contextlib.nullcontext
        self._workers = None
        if kind == "dask":
            self._workers = _dask_workers(scheduler, n_workers, initializer, initargs)
        elif kind == "loky" and self.n_workers > 1 and not multiprocessing.current_process().daemon:
            from qi_ext.sampling.loky_backend import LokyWorkers

            self._workers = LokyWorkers(self.n_workers, initializer, initargs)

    @property
    def has_workers(self):
        """Whether tasks run in other processes than this one."""
        return self._workers is not None

    def run(self, function, tasks, name):
        """Send the tasks; returns a generator of (index, function(*tasks[index])) in the order of completion.

        Where it is closed early, the workers are ended. In this process a task runs when it is its turn to be yielded.
        name(index, env): names the envs of a task, or one of them; for messages. The generator raises SamplingError where a
        task raises, with the worker's traceback, or, after all other tasks, where a task's workers keep dying.
        """
        running = self._here(function, tasks, name) if self._workers is None else self._elsewhere(function, tasks, name)
        next(running)
        return running

    def _here(self, function, tasks, name):
        yield None
        for index, task in enumerate(tasks):
            with self._in_process():
                outcome = _attempt(index, function, task)
            yield _unwrap(outcome, name)

    def _elsewhere(self, function, tasks, name):
        """Yield None once the tasks are sent for the first time, then what `run` does."""
        pending = dict(enumerate(tasks))
        deaths, deaths_alone, given_up, told = 0, Counter(), [], not pending
        if told:
            yield None
        while pending:
            # Whose fault a death was is not known, as it ends all workers; after some, the tasks run one at a time.
            alone = deaths >= self._workers.deaths_together
            chosen = [next(iter(pending))] if alone else list(pending)
            calls = (joblib.delayed(_attempt)(index, function, pending[index]) for index in chosen)
            try:
                for outcome in dispatch(self._workers, calls):
                    if outcome is not None:
                        del pending[outcome[0]]
                        yield _unwrap(outcome, name)
                    elif not told:
                        told = True
                        yield None
            except SamplingError:
                raise
            except self._workers.death as error:
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
            raise SamplingError(f"the worker that runs {names} keeps dying: {self._workers.cause(given_up[0][1])}")

    def close(self):
        """End the workers, or part with those of a Dask cluster. The next `run` of a `loky` pool starts new ones."""
        if self._workers is not None:
            self._workers.close()


def _dask_workers(scheduler, n_workers, initializer, initargs):
    try:
        if scheduler == "slurm":
            from qi_ext.sampling.slurm_backend import SlurmWorkers

            if n_workers == "auto":
                raise UserError("--n_workers: say how many worker processes Slurm is to run, such as 32")
            return SlurmWorkers(_count(n_workers), SCHEDULER_TIMEOUT, initializer, initargs)
        from qi_ext.sampling.dask_backend import DaskWorkers
    except ImportError as error:
        raise UserError(f"--pool dask: {error.name} is not installed; pip install distributed dask-jobqueue") from None
    return DaskWorkers(scheduler, SCHEDULER_TIMEOUT, initializer, initargs)


def _count(n_workers):
    try:
        count = available_cpus() if n_workers == "auto" else int(n_workers)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise UserError(f"--n_workers: must be auto or at least 1, not {n_workers!r}")
    return count


def _attempt(index, function, task):
    """(index, result, None), or (index, None, what went wrong), which pickles whatever the exception was."""
    try:
        return index, function(*task), None
    except Exception as error:
        return index, None, (_one_line(error), traceback.format_exc(), getattr(error, "env", None))


def _unwrap(outcome, name):
    index, result, failure = outcome
    if failure is None:
        return index, result
    summary, text, env = failure
    raise SamplingError(f"{name(index, env)}: {summary}\n\nin the worker:\n{text}")


def _names(indices, name):
    """The first few, so that it stays one line."""
    shown = sorted(indices)[:4]
    more = f" and {len(indices) - 4} more" if len(indices) > 4 else ""
    return ", ".join(name(index, None) for index in shown) + more


def _one_line(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
