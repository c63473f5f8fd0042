"""The imitation-lib that the patches are for is recognized by its source."""

import importlib.util
import shutil
import sys
from pathlib import Path

from patches.imitation_lib.library import COMMIT, found_commit


def test_it_is_recognized_with_other_line_ends_and_not_where_a_file_was_changed_or_is_missing(tmp_path, monkeypatch):
    real = Path(importlib.util.find_spec("imitation_lib").submodule_search_locations[0])
    copied = shutil.copytree(real, tmp_path / "imitation_lib")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imitation_lib", raising=False)
    for file in copied.rglob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert found_commit() == COMMIT
    networks = copied / "utils" / "networks.py"
    source = networks.read_text()
    networks.write_text(source + "# changed\n")
    assert found_commit().startswith("of other source")
    networks.write_text(source)
    (copied / "utils" / "math.py").unlink()
    assert found_commit().startswith("of other source")
