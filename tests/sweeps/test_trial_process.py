"""The process that runs a trial of a sweep."""

import os
import signal
from unittest.mock import Mock

import pytest

from qi_ext.sweeps import trial_process
from qi_ext.sweeps.trial_process import stopped_together
from qi_ext.utils.signals import STOPS


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_the_trials_that_run_and_the_sweep_lives_to_record_it(monkeypatch, number):
    trial = Mock()
    monkeypatch.setattr(trial_process, "_running", {trial})
    monkeypatch.setattr(trial_process, "_stopping", False)
    before = signal.signal(number, lambda *_: None)  # not ignored, as pytest itself may be started
    try:
        with stopped_together() as signals:
            os.kill(os.getpid(), number)
            assert signals == [number]
    finally:
        signal.signal(number, before)
    trial.terminate.assert_called_once_with()
    assert trial_process._stopping
