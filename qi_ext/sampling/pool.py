"""A joblib pool in which a worker may die, and nothing changes but the time it takes."""

import contextlib
import logging
import os
import signal
import traceback
from concurrent.futures.process import BrokenProcessPool

import joblib

from qi_ext.errors import SamplingError, UserError

KINDS = ("loky", "serial", "dask")
# A death breaks the whole pool, so that nobody knows whose fault it was; after so many the tasks run one at a time.
DEATHS_TOGETHER = 3
DEATHS_ALONE = 2
SCHEDULER_TIMEOUT = 10.0  # s

_log = logging.getLogger("qi_ext.sampling")


def available_cpus():
    """Processors this process may use: affinity and the container's limit (joblib), and Slurm's."""
    count = joblib.cpu_count()
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if os.environ.get(name, "").isdigit():
            return max(1, min(count, int(os.environ[name])))
    return count


class Pool:
    """Runs tasks on `n_workers` processes (`loky`), in this one (`serial`), or on a Dask cluster (`dask`).

    Tasks must be values: a worker that dies costs one more run of the tasks it had, and changes nothing.
    """

    def __init__(self, kind="loky", n_workers="auto", scheduler="", initializer=None, initargs=(), in_process=None):
        """initializer(*initargs): run once in each worker process, whenever it starts. in_process(): a context manager that
        stands for it where tasks run in this process. n_workers: a number or "auto", `available_cpus`; Dask has its own.
        scheduler: address of a Dask scheduler, tcp://HOST:PORT. Raises UserError where the pool cannot be had.
        """
        if kind not in KINDS:
            raise UserError(f"--pool: unknown pool {kind!r}; choose one of {', '.join(KINDS)}")
        if (kind == "dask") != bool(scheduler):
            raise UserError("--scheduler: the address of a Dask scheduler, such as tcp://host:8786, goes with --pool dask")
        self.kind = kind
        self.n_workers = available_cpus() if n_workers == "auto" else int(n_workers)
        if self.n_workers < 1:
            raise UserError(f"--n_workers: must be auto or at least 1, not {n_workers}")
        self._in_process = in_process or contextlib.nullcontext
        self._client = None
        if kind == "dask":
            from qi_ext.sampling import dask_backend

            self._client = dask_backend.connect(scheduler, SCHEDULER_TIMEOUT, initializer, initargs)
            self._backend = lambda: {"backend": dask_backend.Backend(client=self._client)}
        else:
            self._backend = lambda: {
                "backend": "loky",
                "inner_max_num_threads": 1,
                "initializer": _start_worker,
                "initargs": (initializer, initargs),
            }

    def run(self, function, tasks, name):
        """Yield (index, function(*tasks[index])) in the order of completion.

        name(index, lane): names the lanes of a task, or one of them; for messages. Raises SamplingError where a task raises,
        with the worker's traceback, or where its workers keep dying.
        """
        if self.kind == "serial" or (self.kind == "loky" and self.n_workers == 1):
            for index, task in enumerate(tasks):
                with self._in_process():
                    outcome = _attempt(index, function, task)
                yield _unwrap(outcome, name)
            return
        pending = dict(enumerate(tasks))
        deaths, deaths_alone = 0, {}
        while pending:
            alone = deaths >= DEATHS_TOGETHER
            chosen = [next(iter(pending))] if alone else list(pending)
            try:
                for outcome in self._dispatch(function, chosen, pending):
                    del pending[outcome[0]]
                    yield _unwrap(outcome, name)
            except (BrokenProcessPool, *_dask_deaths()) as error:
                deaths += 1
                names = ", ".join(name(index, None) for index in chosen if index in pending)
                if alone:
                    deaths_alone[chosen[0]] = deaths_alone.get(chosen[0], 0) + 1
                    if deaths_alone[chosen[0]] >= DEATHS_ALONE:
                        raise SamplingError(
                            f"the worker that runs {names} keeps dying ({_one_line(error)}); is there memory enough?"
                        ) from None
                _log.warning("a worker died (killed, or out of memory?); running again: %s", names)

    def close(self):
        """Part with a Dask cluster; local workers end with this process, or when they have long been idle."""
        if self._client is not None:
            self._client.close()

    def _dispatch(self, function, chosen, pending):
        # A batch is one task, and none is copied to shared memory: what is left there by a killed process stays.
        with joblib.parallel_config(**self._backend()):
            parallel = joblib.Parallel(
                n_jobs=self.n_workers,
                batch_size=1,
                pre_dispatch="all",
                max_nbytes=None,
                return_as="generator_unordered",
            )
            outcomes = parallel(joblib.delayed(_attempt)(index, function, pending[index]) for index in chosen)
        with contextlib.closing(outcomes):
            yield from outcomes


def _start_worker(initializer, initargs):
    # Ctrl-C reaches every process of a terminal; this one is ended by the pool, in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer(*initargs)


def _attempt(index, function, task):
    """(index, result, None), or (index, None, what went wrong), which pickles whatever the exception was."""
    try:
        return index, function(*task), None
    except Exception as error:
        return index, None, (_one_line(error), traceback.format_exc(), getattr(error, "lane", None))


def _unwrap(outcome, name):
    index, result, failure = outcome
    if failure is None:
        return index, result
    summary, text, lane = failure
    raise SamplingError(f"{name(index, lane)}: {summary}\n\nin the worker:\n{text}")


def _one_line(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _dask_deaths():
    """What Dask raises where a task's workers keep dying, if Dask is in use at all."""
    import sys

    distributed = sys.modules.get("distributed")
    return (distributed.KilledWorker,) if distributed else ()
