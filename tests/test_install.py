"""What install.sh refuses. It is given a folder of somebody's as VENV, so that it could never install anything here."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "install.sh"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["3.0.0", sys.executable], "MUJOCO must be 4.0.0 or 2.3.7, not 3.0.0"),
        (["4.0.0", "false"], "false is not a Python 3.11 to 3.14, which MuJoCo 4.0.0 needs; leave PYTHON out, or name another"),
        pytest.param(
            ["2.3.7", sys.executable],
            f"{sys.executable} is not a Python 3.11, which MuJoCo 2.3.7 needs; leave PYTHON out, or name another",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python fits"),
        ),
        (
            ["4.0.0", "no-such-python", "no-such-python3"],
            "no Python 3.11 to 3.14 was found; install one (apt install python3-venv, or uv python install 3.14), "
            "or name it with PYTHON=",
        ),
        (["4.0.0", "false", sys.executable], "venv is there and is no virtual environment; choose another VENV"),
    ],
    ids=["MuJoCo", "no Python", "another Python", "none found", "VENV"],
)
def test_what_is_refused_is_one_line_and_nothing_is_changed(tmp_path, arguments, line):
    mine = tmp_path / "venv" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    done = subprocess.run(["sh", SCRIPT, "venv", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"make setup: {line}\n")
    assert sorted(tmp_path.rglob("*")) == [mine.parent, mine]
