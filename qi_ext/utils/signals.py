"""Ctrl-C, SIGTERM and SIGHUP, at moments when a run can be stopped."""

import signal
import threading
from contextlib import contextmanager

from qi_ext.utils.errors import Terminated

# What tells a process to stop; Windows has no SIGHUP.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def heeded():
    """Return the signals of STOPS that stop this process: all but a SIGHUP that is ignored, as by nohup."""
    return tuple(each for each in STOPS if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN)


def stopped_by(number):
    """Return the exception that stands for a signal of STOPS."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


class Signals:
    """Handlers, while entered: the first of `heeded` raises KeyboardInterrupt or Terminated; later ones are ignored."""

    def __init__(self):
        self._held, self._stop, self._before = False, None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other gets signals
            self._before = {number: signal.signal(number, self._on_signal) for number in heeded()}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self):
        """Let the block come to its end before a signal raises."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._stop:
            raise self._stop

    def _on_signal(self, number, frame):
        for each in self._before:
            signal.signal(each, signal.SIG_IGN)
        self._stop = stopped_by(number)
        if not self._held:
            raise self._stop
