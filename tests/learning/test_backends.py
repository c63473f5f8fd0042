"""`--backend imitation_lib` where imitation-lib is not there, or is another; with the real one: tests/patches/upstream."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patches.imitation_lib.library import found_commit
from qi_ext.learning import GAIL, VAIL
from qi_ext.learning.backends import agent_class
from qi_ext.training.config import make_config

ROOT = Path(__file__).parents[2]


def refusal(tmp_path, *on_path):
    """The line that the launcher ends with."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, *on_path)))}
    command = [
        sys.executable,
        ROOT / "launchers" / "run_gail.py",
        "--backend",
        "imitation_lib",
        "--results_dir",
        tmp_path / "runs",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "runs").exists()
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(("algorithm", "expected"), [("gail", GAIL), ("vail", VAIL)])
def test_the_native_backend_is_ours(algorithm, expected):
    assert agent_class(make_config("simple", algorithm)) is expected


@pytest.mark.skipif(found_commit() is not None, reason="imitation-lib is installed here")
def test_without_imitation_lib_one_line_says_how_to_install_it(tmp_path):
    line = refusal(tmp_path)
    assert line.startswith("run_gail.py: --backend: imitation-lib is not installed")
    assert "pip install --no-deps -r requirements-upstream.txt" in line


def test_another_imitation_lib_is_refused_by_name(tmp_path):
    (tmp_path / "imitation_lib").mkdir()
    (tmp_path / "imitation_lib" / "__init__.py").write_text("")
    line = refusal(tmp_path, tmp_path)
    assert "imitation-lib is of other source" in line
    assert "the patches are for b097abd" in line


def test_the_requirements_name_the_commit_that_the_patches_are_for():
    from patches.imitation_lib.library import COMMIT, REPOSITORY

    (line,) = [line for line in (ROOT / "requirements-upstream.txt").read_text().splitlines() if not line.startswith("#")]
    assert f"git+{REPOSITORY}@{COMMIT}" in line
