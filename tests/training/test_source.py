"""Which source a run gathers from, and what it says where that cannot be had."""

import mujoco
import pytest

from qi_ext.utils.errors import UserError


def test_warp_of_another_version_or_none_is_refused_before_anything_is_written(tiny, build, monkeypatch, tmp_path):
    monkeypatch.setattr(mujoco, "__version__", "9.9.9")
    said = r"--physics: mujoco-warp (is not installed|is \d\S+, and MuJoCo 9.9.9); pip install mujoco-warp==9.9.9$"
    with pytest.raises(UserError, match=said):
        build(tiny(physics="warp", device="cpu"))
    assert not (tmp_path / "runs").exists()
