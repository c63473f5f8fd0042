"""Runs tasks through joblib, on workers that belong to one pool."""

import contextlib
import signal
import threading
import warnings
from multiprocessing import resource_tracker

import joblib
from joblib.parallel import ParallelBackendBase

from qi_ext.utils.signals import STOPS


def dispatch(workers, calls):
    """Send `joblib.delayed` calls, each as a task of its own; yield None once all are sent, then the results as they come.

    workers: `LokyWorkers` or `DaskWorkers`. Where the generator is closed early or raises, the workers are stopped.
    """
    with contextlib.ExitStack() as stack:
        with signals_held():
            # With n_jobs=1, joblib would run the calls in this process; any other number does, as the workers know theirs.
            parallel = joblib.Parallel(2, _Backend(workers), "generator_unordered", batch_size=1, pre_dispatch="all")
            results = parallel(calls)
            stack.callback(_close, results)
        yield None
        for result in results:  # noqa: UP028 (`yield from` would close joblib's generator before `_close` does)
            yield result


class _Backend(ParallelBackendBase):
    """A joblib backend that submits to the workers of one pool.

    joblib's own `loky` backend leaves a folder in /dev/shm for each call, and replaces the workers when other code in this
    process uses joblib. Its `dask` backend waits for ever for a task that Dask has given up, and runs the tasks of a cluster
    of one thread in this process.
    """

    supports_retrieve_callback = True

    def __init__(self, workers):
        super().__init__()
        self._workers = workers

    def effective_n_jobs(self, n_jobs):
        return n_jobs

    def start_call(self):
        self._over = threading.Event()
        threading.Thread(target=self._workers.watch, args=(self._over,), name="qi_ext-watch", daemon=True).start()

    def stop_call(self):
        self._over.set()

    def submit(self, func, callback=None):
        future = self._workers.submit(func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future):
        return self._workers.result(future)

    def abort_everything(self, ensure_ready=True):
        self._workers.stop()


@contextlib.contextmanager
def signals_held():
    """Hold back Ctrl-C, SIGTERM and SIGHUP, so that no process is left half started; processes started here ignore them.

    A terminal and Slurm send these signals to all processes, but only this process decides when the workers end.
    """
    held, handlers = [], {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            # What is ignored stays so; None is a handler that was not set by Python and cannot be put back.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                handlers[number] = signal.signal(number, lambda number, frame: held.append(number))
    # Processes started here inherit the mask. It is this thread's only, so another may still take a signal for this process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        # Here, because it heeds SIGHUP unless it starts with it blocked, and before Python 3.14 unblocks the other two here.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def _close(results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib warns of results that were not taken
        results.close()
