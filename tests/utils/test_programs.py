import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qi_ext.utils.programs import SCRIPTS, command, program, shell_word

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """started(script): as if that script had been started, beside all others in a folder with a space in its name."""
    folder = tmp_path / "my launchers"
    folder.mkdir()
    for script in SCRIPTS.values():
        (folder / script).touch()

    def start(script):
        monkeypatch.setattr(sys, "argv", [str(folder / script)])
        return folder

    return start


def test_a_printed_command_starts_what_was_started(started, monkeypatch):
    folder = started("run_gail.py")
    assert shlex.split(command("evaluate")) == [sys.executable, str(folder / "evaluate.py")]
    assert program("train") == "run_gail.py"
    own = started("qi-ext") / "qi-ext"
    own.touch()
    for found, word in ((own, "qi-ext"), (__file__, str(own)), (None, str(own))):  # on PATH, another one on it, none
        monkeypatch.setattr("shutil.which", lambda name, found=found: found)
        assert shlex.split(command("evaluate")) == [word, "evaluate"]
    assert program("train") == "qi-ext train"


def test_a_script_of_ones_own_is_told_what_runs_from_any_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mine.py"])
    assert shlex.split(command("evaluate")) == [sys.executable, str(ROOT / "launchers" / "evaluate.py")]


@pytest.mark.parametrize("name", ["plain", "two words", "line\nbreak and 'quote'", "\udcff"])
def test_any_name_is_one_word_for_the_shell(name):
    word = shell_word(name)
    assert word.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name)


@pytest.mark.parametrize("name", ["", "-c", "evaluate.py"], ids=["prompt", "text", "a stranger's evaluate.py"])
def test_a_process_that_none_of_our_scripts_started_names_the_installed_command(monkeypatch, tmp_path, name):
    (tmp_path / "evaluate.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / name) if name else ""])
    assert program("train") == "qi-ext train"
