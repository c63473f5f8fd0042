"""Workers of a Dask cluster, each initialized before its first task."""

import contextlib
import logging
import socket
import ssl
import time
import uuid
import weakref
from urllib.parse import urlsplit

from distributed import CancelledError, Client, KilledWorker, WorkerPlugin
from distributed.security import Security

from qi_ext.utils.errors import UserError

LOOK_EVERY = 1.0  # s, between looks at the cluster
WITHOUT_WORKERS = 60.0  # s, for which tasks wait for a worker to join

_log = logging.getLogger("qi_ext.sampling")


class Initialize(WorkerPlugin):
    """Calls initializer(*initargs) in each worker process, including those that join or restart later."""

    def __init__(self, initializer, initargs):
        self._initializer = initializer
        self._initargs = initargs

    def setup(self, worker):
        self._initializer(*self._initargs)


class DaskWorkers:
    """Workers behind a Dask scheduler, with the methods of `LokyWorkers`.

    Dask itself runs a task again when its worker dies, and gives it up after `allowed-failures` deaths, Dask's own setting.
    """

    death = KilledWorker
    deaths_together = 1
    deaths_alone = 1
    fault = ""

    def __init__(self, address, timeout, initializer, initargs, security=None):
        """timeout: s, that the scheduler may take to answer. Raises UserError where it does not, or initializer raises.

        security: a `distributed.Security`; None takes that of Dask's configuration, distributed.comm.tls.
        """
        self._address = address
        self._client = _connect(address, timeout, security or Security())
        self._plugin = f"qi_ext-{uuid.uuid4().hex}" if initializer is not None else ""
        self._futures = weakref.WeakSet()
        self._lost = ""
        if self._plugin:
            try:
                self._client.register_plugin(Initialize(initializer, initargs), name=self._plugin)
            except Exception as error:
                self._client.close()
                reason, _, _ = str(error).partition("\n")
                raise UserError(
                    f"--scheduler: the workers of {address} cannot be prepared ({type(error).__name__}: {reason}); "
                    "is qi_ext installed where they run?"
                ) from None

    def submit(self, function):
        """Return a future of function()."""
        # Not by `get_executor`, whose futures never end when they are cancelled while their result is on its way.
        future = self._client.submit(function, key=f"qi_ext-{uuid.uuid4().hex}", pure=False)
        self._futures.add(future)
        return future

    def result(self, future):
        """Return or raise what a future that is done holds; raises ConnectionError where the cluster is lost."""
        try:
            return future.result()
        except CancelledError:
            lost = self._lost or f"the Dask scheduler at {self._address} is lost, or has dropped the tasks"
            raise ConnectionError(lost) from None

    def cause(self, error):
        """Describe a `death` in a few words."""
        return f"{error.allowed_failures + 1} Dask workers died while they ran it"

    def watch(self, over):
        """Until `over` is set, cancel the tasks if the cluster has had no worker for WITHOUT_WORKERS seconds."""
        self._lost, since, wait = "", None, 0.0
        while not over.wait(wait):
            wait = LOOK_EVERY
            with contextlib.suppress(Exception):  # a scheduler that is gone, which the client itself notices
                self.replace_lost()
                if self._client.nthreads(callback_timeout=WITHOUT_WORKERS):
                    since = None
                    continue
                if since is None:
                    since = time.monotonic()
                    _log.warning("the Dask scheduler at %s has no worker; waiting for one", self._address)
                if time.monotonic() - since > WITHOUT_WORKERS and not self.may_get_workers():
                    self._lost = f"the Dask scheduler at {self._address} had no worker for {WITHOUT_WORKERS:.0f} s"
                    self.stop()
                    return

    def replace_lost(self):
        """Start workers in place of lost ones; here the cluster's owner does."""

    def may_get_workers(self):
        """Return whether workers are known to be starting, however long that takes."""
        return False

    def stop(self):
        """Cancel all tasks."""
        with contextlib.suppress(Exception):  # a scheduler that is gone
            self._client.cancel(list(self._futures))

    def close(self):
        """Cancel all tasks, stop initializing new workers, and disconnect."""
        self.stop()
        with contextlib.suppress(Exception):
            if self._plugin:
                self._client.unregister_worker_plugin(self._plugin)
        self._client.close()


def _connect(address, timeout, security):
    try:
        url = urlsplit(address)
        if url.scheme not in ("tcp", "tls") or not url.hostname or not url.port:
            raise ValueError
    except ValueError:
        raise UserError(f"--scheduler: must be tls://HOST:PORT or tcp://HOST:PORT, not {address!r}") from None
    context = None
    if url.scheme == "tls":
        context = _client_context(address, security)
    elif security.require_encryption:
        raise UserError(
            f"--scheduler: Dask's configuration, distributed.comm.require-encryption, forbids {address}; use tls://"
        )
    else:
        _log.warning(
            "%s is not encrypted and asks for no certificate: whoever reaches it can run code as its user; tls:// does both",
            address,
        )
    try:
        _require_greeting(url.hostname, url.port, timeout, context)
        return Client(address, timeout=timeout, set_as_default=False, security=security)
    except ssl.SSLError as error:
        raise UserError(
            f"--scheduler: no TLS with {address} ({error.reason or type(error).__name__}); does the scheduler use it, and are "
            "the certificates of Dask's configuration, distributed.comm.tls, those of its cluster?"
        ) from None
    except Exception as error:
        hint = f"; where it uses TLS, name it tls://{url.netloc}" if context is None else ""
        raise UserError(f"--scheduler: no Dask scheduler answers at {address} ({type(error).__name__}){hint}") from None


def _client_context(address, security):
    """Return the `ssl.SSLContext` of a client. Raises UserError where there are no certificates, or none that can be read."""
    try:
        context = security.get_connection_args("client")["ssl_context"]
        reason = "ca-file, client.cert and client.key are not set"
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        context, reason = None, f"{type(error).__name__}: {error}"
    if context is None:
        raise UserError(
            f"--scheduler: {address} needs the certificates of Dask's configuration, distributed.comm.tls: {reason}"
        )
    return context


def _require_greeting(host, port, timeout, context):
    """Raise TimeoutError where something other than a scheduler listens, for which Client would wait for ever.

    A scheduler is the first to send something. context: an `ssl.SSLContext`, or None. Raises ssl.SSLError where the scheduler's
    certificate or ours is refused.
    """
    with contextlib.suppress(ConnectionError), contextlib.ExitStack() as ending:
        connection = ending.enter_context(socket.create_connection((host, port), timeout))
        if context is not None:
            connection = ending.enter_context(context.wrap_socket(connection))
        connection.recv(1)
