"""Worker processes on this machine: joblib's loky, made to survive the death of a worker and to end with the main process."""

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
from collections import Counter, deque
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import reduction

import cloudpickle
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import ParallelBackendBase

from qi_ext.sampling.joblib_dispatch import signals_held

IDLE_TIMEOUT = 300.0  # s, after which a worker without tasks ends; joblib's own default
LOOK_EVERY = 1.0  # s, between looks for dead processes
START_LOOKS = 120  # after which a process that has not started is given up; not a time, which goes on while all is suspended
_ONE_THREAD = dict.fromkeys(ParallelBackendBase.MAX_NUM_THREADS_VARS, "1")

_unprepared = None  # in a worker whose initializer raised: an error message


def worker_variables():
    """Environment variables of worker processes, {name: text}."""
    # Without MUJOCO_GL, mujoco imports a window library. What draws here asks for its library by name.
    return _ONE_THREAD | {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "disabled")}


class LokyWorkers:
    """Processes that start with the first task, and start again after one of them has died.

    death: the exception that a task's future raises where a worker died. deaths_together: deaths after which tasks run one at
    a time. deaths_alone: deaths of one task, running alone, after which it is given up. fault: why another try is of no use, in
    words, or "".
    """

    death = BrokenProcessPool
    deaths_together = 3
    deaths_alone = 2

    def __init__(self, n_workers, initializer, initargs):
        """initializer(*initargs): called in each process before its first task; or None."""
        self._n_workers = n_workers
        self._initialization = SharedValue((initializer, initargs))
        self._started = StartedProcesses()
        self._executor = None
        self._end = None
        self.fault = ""

    def submit(self, function):
        """Return a future of function()."""
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._n_workers,
                timeout=IDLE_TIMEOUT,
                initializer=_start,
                initargs=(os.getpid(), self._initialization, self._started),
                env=worker_variables(),
            )
            self._end = weakref.finalize(self, _end, self._executor)
        return self._executor.submit(_run, function)

    def result(self, future):
        """Return or raise what a future that is done holds."""
        return future.result()

    def cause(self, error):
        """Describe a `death` in a few words."""
        codes = re.search("{(.*)}", str(error))  # such as SIGKILL(-9)
        return codes.group(1) if codes else f"{error}\n\nin the worker:\n{error.__cause__}"

    def watch(self, over):
        """Until `over` is set, look for a worker that does not start, or died while it was sending a result, and end them all.

        loky itself would wait for ever: for the rest of a result, because this process, too, holds the writing end of the pipe.
        """
        dead, looks = set(), Counter()
        while not over.wait(LOOK_EVERY):
            # These are functions so that no local variable here keeps the executor alive.
            seen, dead = dead, _dead(self._executor)
            starting = _pids(self._executor) - self._started.pids()
            looks = Counter({pid: looks[pid] + 1 for pid in starting})
            if any(count > START_LOOKS for count in looks.values()):
                self.fault = f"a worker process did not start within {START_LOOKS * LOOK_EVERY:.0f} s"
                _break(self._executor)
                return
            if seen & dead:  # loky removes dead processes at once, unless it is stuck
                _break(self._executor)
                return

    def stop(self):
        """Kill the processes, whatever they are doing."""
        if self._executor is not None:
            try:
                self._end()
            finally:
                self._executor = None

    close = stop


def in_order(workers, calls, ahead):
    """Yield the results of calls, functions without arguments, in their order; `ahead` of them run meanwhile, or wait.

    Raises `workers.death` where a worker dies. The workers are stopped at the end.
    """
    over, waiting = threading.Event(), deque()
    watching = threading.Thread(target=workers.watch, args=(over,), name="qi_ext-watch", daemon=True)
    try:
        for call in calls:
            with signals_held():
                waiting.append(workers.submit(call))
            if not watching.ident:
                watching.start()
            if len(waiting) > ahead:
                yield workers.result(waiting.popleft())
        while waiting:
            yield workers.result(waiting.popleft())
    finally:
        over.set()
        workers.stop()


def _pids(executor):
    return set(dict(executor._processes)) if executor is not None else set()


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
            # Forgotten first, because closing it wakes up loky's thread, which would close it again.
            handle, results._writer._handle = results._writer._handle, None
            os.close(handle)


def _end(executor):
    tasks = executor._call_queue
    with contextlib.suppress(queue.Empty):
        while True:  # because loky's thread raises KeyError at a task that it has not sent yet
            executor._work_ids.get_nowait()
    executor.shutdown(kill_workers=True)
    # loky's feeder thread may be writing a task that nobody reads, and closing the reading end stops it. It is waited for,
    # because the interpreter does not wait for it, and the queue's semaphores are left behind where it holds them last.
    tasks._reader.close()
    if tasks._thread is not None:
        tasks._thread.join(LOOK_EVERY)


class SharedValue:
    """A value that starting processes read from an unnamed file.

    Through loky's own pipe, it would hold up the start of the next process until this one has done its imports and read it.
    """

    def __init__(self, value):
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (processes may start as long as this lives)
            self._file.write(cloudpickle.dumps(value))
            self._file.flush()
        except OSError as error:
            raise OSError(f"cannot write {tempfile.gettempdir()}: {error.strerror}; TMPDIR names another place") from None

    def __getstate__(self):
        return reduction.DupFd(self._file.fileno())

    def __setstate__(self, handle):
        self._descriptor = handle.detach()

    def value(self):
        # All processes share the position in the file, so `read` will not do.
        return pickle.loads(os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0))


class StartedProcesses:
    """The processes that have started: each adds itself to an unnamed file."""

    def __init__(self):
        import fcntl  # here, because Windows has none, and drawing there needs other parts of this module

        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (processes may start as long as this lives)
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
        self._descriptor = self._file.fileno()

    def __getstate__(self):
        return reduction.DupFd(self._descriptor)

    def __setstate__(self, handle):
        self._descriptor = handle.detach()

    def add(self):
        """Add this process."""
        os.write(self._descriptor, os.getpid().to_bytes(8, "little"))

    def pids(self):
        numbers = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        return {int.from_bytes(numbers[i : i + 8], "little") for i in range(0, len(numbers), 8)}


def _start(parent, initialization, started):
    global _unprepared
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    try:
        initializer, initargs = initialization.value()
        if initializer is not None:
            initializer(*initargs)
    except Exception as error:  # which loky would report as a death
        _unprepared = f"a worker could not be prepared: {type(error).__name__}: {error}"
    started.add()


def _run(function):
    if _unprepared is not None:
        raise RuntimeError(_unprepared)
    return function()


def end_with(parent):
    """End this worker when its main process is gone; by themselves, loky's workers outlive it by minutes."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)
