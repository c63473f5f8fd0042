import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["torch", "loco_mujoco", "mushroom_rl", "mujoco"])
def test_importing_the_package_alone_leaves_heavy_libraries_out(heavy):
    command = f"import sys, qi_ext; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
