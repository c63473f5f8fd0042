"""The benchmark that kills runs: its command finds no difference, and finds one where there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qi_ext.training.checkpoints import FILE
from qi_ext.utils.tensor_file import write_tensors

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def differences(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from kill_and_resume import differences

    return differences


@pytest.mark.extensive
def test_a_run_that_is_killed_ends_as_if_it_were_not(tmp_path):
    """The launcher itself, with SIGKILL, in processes of its own."""
    path = tmp_path / "killed.json"
    command = [sys.executable, str(BENCHMARKS / "kill_and_resume.py"), "--kills", "1", "--quick", "--json", str(path)]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    done = subprocess.run(command, timeout=300, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bit-identical" in done.stdout
    values = json.loads(path.read_text())
    assert (values["kills"], values["differences"]) == (1, 0)


def leave(directory, weight, figure):
    checkpoint = directory / "checkpoints" / "64"
    checkpoint.mkdir(parents=True)
    data = {"step": 64, "score": None, "parts": {}}
    write_tensors(checkpoint / FILE, "checkpoint", {"weight": np.array([weight])}, data)
    (directory / "progress.csv").write_text(f"step,kl,steps_per_second\n64,{figure},1000\n")
    return directory


def test_what_differs_is_named(differences, tmp_path):
    one = leave(tmp_path / "one", 0.1, 0.5)
    assert differences(one, leave(tmp_path / "same", 0.1, 0.5)) == []
    assert differences(one, leave(tmp_path / "weight", np.nextafter(0.1, 1.0), 0.5)) == ["checkpoint: weight"]
    assert differences(one, leave(tmp_path / "row", 0.1, 0.25)) == ["progress.csv"]
