"""The command of each benchmark: it runs, writes all its measures, and refuses mistakes before anything is measured."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from qi_ext.utils.errors import UserError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# One thread, because two wait for each other for long where the machine is busy.
SCRIPTS = {"sampling": (), "learner": ("--threads", "1"), "training": ("--threads", "1"), "sweeping": ()}


@pytest.fixture
def module(monkeypatch):
    """module(name): the module of a benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__


@pytest.mark.extensive
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name == "sweeping" else ()) for name in SCRIPTS])
def test_it_runs_and_writes_all_its_measures(module, tmp_path, name):
    path, benchmark = tmp_path / "measures.json", module(name)
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--json", str(path), *SCRIPTS[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr
    values = json.loads(path.read_text())
    assert values["rounds"] == 1
    for suffix in getattr(benchmark, "COLUMNS", {"": ""}).values():
        assert all(math.isfinite(values[measure + suffix]) for measure in benchmark.MEASURES)
        if name == "sampling":
            shares = [values[f"share_{part}{suffix}"] for part in ("policy", "observation", "physics", "transport")]
            assert sum(shares) == pytest.approx(1.0)
    assert all(f"| {measure.title} |" in done.stdout for measure in benchmark.MEASURES.values())


@pytest.mark.extensive
def test_the_step_of_each_environment_is_timed():
    command = [sys.executable, str(BENCHMARKS / "environment_step.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=BENCHMARKS.parent, check=True)
    assert [line[:16].strip() for line in done.stdout.splitlines()] == ["bare mj_step", "ours", "stock UnitreeA1"]


@pytest.mark.extensive
def test_physics_of_a_gpu_is_timed_without_one_too(module, tmp_path):
    pytest.importorskip("mujoco_warp")
    path, script = tmp_path / "measures.json", BENCHMARKS / "gpu_physics.py"
    subprocess.run([sys.executable, str(script), "--quick", "--json", str(path), "--device", "cpu"], check=True, timeout=400)
    values = json.loads(path.read_text())
    assert all(math.isfinite(values[f"{measure}_8"]) for measure in module("gpu_physics").MEASURES)


@pytest.mark.parametrize("name", [*SCRIPTS, "gpu_physics"])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rounds", "0"], "--rounds: must be at least 1, not 0"),
        (["--json", "/none/x.json"], "--json: /none cannot be written"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_measured(module, name, arguments, complaint):
    with pytest.raises(UserError) as caught:
        module(name).main(arguments)
    assert complaint in str(caught.value)
