"""Each example runs to its end with a tiny budget."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {"sb3_ppo": ["stable_baselines3"], "cleanrl_ppo": [], "imitation_gail": ["stable_baselines3", "imitation"]}


def test_every_example_is_here():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(NEEDS)


@pytest.mark.extensive
@pytest.mark.parametrize("name", NEEDS)
def test_an_example_runs_with_a_tiny_budget(name, tmp_path):
    for module in NEEDS[name]:
        pytest.importorskip(module, reason=f"{module} is not installed: docs/gymnasium.md says how")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--steps", "128", "--envs", "4", "--n_steps", "32"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.iterdir())
