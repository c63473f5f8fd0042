"""Worker processes of this machine: joblib's loky, with what it lacks where a worker or the main process dies."""

import contextlib
import multiprocessing.connection
import os
import pickle
import queue
import re
import signal
import tempfile
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import reduction

import cloudpickle
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import ParallelBackendBase

IDLE_TIMEOUT = 300.0  # s, after which a worker without tasks ends; joblib's own default
LOOK_EVERY = 1.0  # s
_ONE_THREAD = dict.fromkeys(ParallelBackendBase.MAX_NUM_THREADS_VARS, "1")

_unprepared = None  # in a worker: why


class LokyWorkers:
    """Processes that start with the first task, and anew after one of them has died."""

    death = BrokenProcessPool
    deaths_together = 3
    deaths_alone = 2

    def __init__(self, n_workers, initializer, initargs):
        """initializer(*initargs): run in each process before its first task, or None."""
        self._n_workers = n_workers
        self._initialization = _Handed((initializer, initargs))
        self._executor = None
        self._end = None

    def submit(self, function):
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._n_workers,
                timeout=IDLE_TIMEOUT,
                initializer=_start,
                initargs=(os.getpid(), self._initialization),
                # Workers do not draw, and without this mujoco imports a window library.
                env=_ONE_THREAD | {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "disabled")},
            )
            self._end = weakref.finalize(self, _end, self._executor)
        return self._executor.submit(_run, function)

    def result(self, future):
        return future.result()

    def cause(self, error):
        """Of a `death`, in few words."""
        codes = re.search("{(.*)}", str(error))  # such as SIGKILL(-9)
        return codes.group(1) if codes else f"{error}\n\nin the worker:\n{error.__cause__}"

    def watch(self, over):
        """Until `over` is set: see to it that a worker's death while it sends a result is noticed.

        loky would wait for ever for the rest of the message, because this process itself could be writing to the pipe.
        """
        dead = set()
        while not over.wait(LOOK_EVERY):
            # In a function, because this thread must not keep alive what is to be cleaned up.
            seen, dead = dead, _dead(self._executor)
            if seen & dead:  # loky removes the dead at once unless it is stuck
                _break(self._executor)
                return

    def stop(self):
        """End the processes, whatever they are doing."""
        if self._executor is not None:
            try:
                self._end()
            finally:
                self._executor = None

    close = stop


def _dead(executor):
    processes = dict(executor._processes) if executor is not None else {}
    return {pid for pid, process in processes.items() if multiprocessing.connection.wait([process.sentinel], 0)}


def _break(executor):
    if executor is not None:
        for pid in list(executor._processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        results = executor._result_queue
        if results is not None and results._writer._handle is not None:
            # In this order, because loky's thread wakes up with it and closes the same connection.
            handle, results._writer._handle = results._writer._handle, None
            os.close(handle)


def _end(executor):
    tasks = executor._call_queue
    with contextlib.suppress(queue.Empty):
        while True:  # loky's manager raises KeyError where it comes to a task that was not sent yet
            executor._work_ids.get_nowait()
    executor.shutdown(kill_workers=True)
    # loky's feeder thread may be in the middle of a task that nobody will read. And it must not be the last to hold the
    # queue's semaphores, since the interpreter does not wait for it.
    tasks._reader.close()
    if tasks._thread is not None:
        tasks._thread.join(LOOK_EVERY)


class _Handed:
    """A value for processes as they start, in a file without a name: they all read it while loky starts the next.

    What goes through loky's own pipe is read by one after the other, each after its imports.
    """

    def __init__(self, value):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (processes may start as long as this lives)
        cloudpickle.dump(value, self._file)
        self._file.flush()

    def __getstate__(self):
        return reduction.DupFd(self._file.fileno())

    def __setstate__(self, handle):
        self._descriptor = handle.detach()

    def value(self):
        # Its position in the file is everyone's.
        return pickle.loads(os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0))


def _start(parent, initialization):
    global _unprepared
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        initializer, initargs = initialization.value()
        if initializer is not None:
            initializer(*initargs)
    except Exception as error:  # loky would take it for a death
        _unprepared = f"a worker could not be prepared: {type(error).__name__}: {error}"


def _run(function):
    if _unprepared is not None:
        raise RuntimeError(_unprepared)
    return function()


def _end_with(parent):
    """loky's workers outlive a main process that is killed, by minutes."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)
