"""Ctrl-C and SIGTERM, at moments when a run can be stopped."""

import signal
import threading
from contextlib import contextmanager

from qi_ext.utils.errors import Terminated


class Signals:
    """Handlers, while entered: the first SIGINT or SIGTERM raises KeyboardInterrupt or Terminated; later ones are ignored."""

    def __init__(self):
        self._held, self._stop, self._before = False, None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other gets signals
            self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
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
        self._stop = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if not self._held:
            raise self._stop
