import subprocess
import sys

import pytest

# Refuses what Python has on Linux and macOS only, as Windows does.
AS_ON_WINDOWS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "pwd", "grp", "resource", "termios", "tty"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "pwd", "grp", "resource", "termios", "tty"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize("heavy", ["torch", "loco_mujoco", "mushroom_rl", "mujoco"])
def test_importing_the_package_alone_leaves_heavy_libraries_out(heavy):
    command = f"import sys, qi_ext; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_an_agent_acts_without_the_modules_that_windows_lacks(run_python):
    program = "import numpy, qi_ext; print(qi_ext.load_agent('pretrained/simple').act(numpy.zeros(37)).shape)"
    done = run_python(AS_ON_WINDOWS + program)
    assert done.stdout == "(12,)\n", done.stderr


@pytest.mark.extensive
def test_agents_are_evaluated_without_them_and_training_says_what_it_needs(run_python, tmp_path):
    program = """
import qi_ext.agents.onnx_export, qi_ext.report.page
from qi_ext.commands.evaluate import main as evaluate
from qi_ext.commands.train import main as train
from qi_ext.sampling import pool
from qi_ext.utils.command_line import run_command
pool.PROCESSES = False
evaluate(["--agent", "pretrained/simple", "--episodes", "1", "--n_workers", "2"])
print("evaluated", flush=True)
run_command("train", lambda: train(["--results_dir", sys.argv[1], "--n_steps", "32", "--batch_size", "32"]))
"""
    done = run_python(AS_ON_WINDOWS + program, str(tmp_path / "run"))
    assert "\nevaluated\n" in done.stdout, done.stderr
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("train: training and sweeps need Linux or macOS")
    assert "Traceback" not in done.stderr
