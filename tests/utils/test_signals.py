"""Signals at moments when a run can be stopped, and at those when it cannot."""

import os
import signal

import pytest

from qi_ext.utils.errors import Terminated
from qi_ext.utils.signals import STOPS, Signals

ALL = pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)]
)


@pytest.fixture(autouse=True)
def hang_up():
    """A SIGHUP that nobody heeds ends no tests, and is not ignored either, as it is under nohup."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@ALL
def test_a_signal_raises_and_the_next_ones_are_ignored(number, error):
    with Signals():
        with pytest.raises(error):
            os.kill(os.getpid(), number)
        for each in STOPS:
            os.kill(os.getpid(), each)


@ALL
def test_what_is_held_is_done_to_its_end(number, error):
    done = []
    with Signals() as signals, pytest.raises(error), signals.held():
        os.kill(os.getpid(), number)
        done.append(True)
    assert done


def test_handlers_are_afterwards_as_they_were():
    before = [signal.getsignal(number) for number in STOPS]
    with pytest.raises(KeyboardInterrupt), Signals():
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in STOPS] == before


def test_a_hang_up_that_is_ignored_at_the_start_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
