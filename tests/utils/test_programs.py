import shlex
import sys

import pytest

from qi_ext.utils.programs import SCRIPTS, command, program


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
    started("qi-ext")
    for found, words in (("/bin/qi-ext", ["qi-ext", "evaluate"]), (None, [sys.executable, "-m", "qi_ext", "evaluate"])):
        monkeypatch.setattr("shutil.which", lambda name, found=found: found)
        assert shlex.split(command("evaluate")) == words
    assert program("train") == "qi-ext train"


@pytest.mark.parametrize("name", ["", "-c", "evaluate.py"], ids=["prompt", "text", "a stranger's evaluate.py"])
def test_a_process_that_none_of_our_scripts_started_names_the_installed_command(monkeypatch, tmp_path, name):
    (tmp_path / "evaluate.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / name) if name else ""])
    assert program("train") == "qi-ext train"
