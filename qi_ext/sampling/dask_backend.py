"""joblib's Dask backend, with what it lacks: every worker is prepared, and a task that cannot be run is an error."""

from joblib._dask import DaskDistributedBackend

from qi_ext.errors import UserError


def connect(address, timeout, initializer, initargs):
    """A client of the scheduler at `address`, each of whose workers, present and to come, has run initializer(*initargs)."""
    try:
        from distributed import Client, WorkerPlugin
    except ImportError:
        raise UserError("--pool dask: Dask is not installed; pip install distributed") from None

    class Prepare(WorkerPlugin):
        def setup(self, worker):
            initializer(*initargs)

    try:
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"--scheduler: no Dask scheduler answers at {address} ({type(error).__name__})") from None
    if initializer is not None:
        client.register_plugin(Prepare(), name=f"qi_ext-{id(initargs)}")
    return client


class _Failed:
    def __init__(self, error):
        self.error = error


class Backend(DaskDistributedBackend):
    """joblib forgets to call back where Dask gives a task up, and would wait for ever."""

    def submit(self, func, callback=None):
        future = super().submit(func, callback)

        def call_back(done):
            if callback is not None and done.exception() is not None:
                callback(_Failed(done.exception()))

        future.add_done_callback(call_back)
        return future

    def retrieve_result_callback(self, out):
        if isinstance(out, _Failed):
            raise out.error
        return super().retrieve_result_callback(out)
