"""Which imitation-lib is recognized."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from patches.imitation_lib import library


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the library, found in the place of the real one."""
    real = Path(importlib.util.find_spec("imitation_lib").submodule_search_locations[0])
    shutil.copytree(real, tmp_path / "imitation_lib")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imitation_lib", raising=False)
    return tmp_path / "imitation_lib"


def test_it_is_recognized_with_other_line_ends(copied):
    for file in copied.rglob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert library.found_commit() == library.COMMIT


@pytest.mark.parametrize("name", ["imitation/gail_TRPO.py", "utils/networks.py"])
def test_one_that_was_changed_is_another(copied, name):
    with open(copied / name, "a") as file:
        file.write("\n# changed\n")
    assert library.found_commit().startswith("of other source")


def test_one_that_lacks_a_file_is_another(copied):
    (copied / "utils" / "math.py").unlink()
    assert library.found_commit().startswith("of other source")
