"""Runs tasks through joblib, on workers that belong to one pool."""

import contextlib
import signal
import threading
import warnings
from multiprocessing import resource_tracker

import joblib
from joblib.parallel import ParallelBackendBase


def dispatch(workers, calls):
    """Yield None once all `joblib.delayed` calls are sent, each by itself, to `LokyWorkers` or `DaskWorkers`; then the results.

    They come in the order of completion. The workers are stopped where they are not all taken.
    """
    with contextlib.ExitStack() as stack:
        with _signals_held():
            # 2 stands for more than one, which joblib would run in this process.
            parallel = joblib.Parallel(2, _Backend(workers), "generator_unordered", batch_size=1, pre_dispatch="all")
            results = parallel(calls)
            stack.callback(_close, results)
        yield None
        for result in results:  # noqa: UP028 (`yield from` would close joblib's generator before `_close` does)
            yield result


class _Backend(ParallelBackendBase):
    """joblib's own two backends do not do.

    Its `loky` leaves a folder in /dev/shm for each call, and replaces the workers when someone else in this process uses
    joblib. Its `dask` waits for ever for a task that Dask has given up, and runs the tasks of a cluster of one thread here.
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
def _signals_held():
    """Ctrl-C and SIGTERM wait for the end, so that no process is left half started; processes started here see neither.

    A terminal and Slurm send them to all processes, and what becomes of the workers is this process's business.
    """
    resource_tracker.ensure_running()  # because it lets the signal through where it starts
    numbers, held, handlers = (signal.SIGINT, signal.SIGTERM), [], {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not None:  # one that Python knows nothing of cannot be put back
                handlers[number] = signal.signal(number, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def _close(results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's, where results are not wanted any more
        results.close()
