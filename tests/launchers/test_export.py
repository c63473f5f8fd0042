"""The export launcher, on an agent that was never trained."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from qi_ext import load_agent
from qi_ext.agents.acting import Actor, save_agent
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "launchers" / "export.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(LAUNCHER))["main"]


@pytest.fixture
def agent(tmp_path):
    """The path of an agent file."""
    path = tmp_path / "agent.safetensors"
    random = np.random.default_rng(0)
    weight, bias, mean = (random.normal(0.0, 0.1, shape).astype(np.float32) for shape in ((12, 37), 12, 37))
    ones = np.ones(37, dtype=np.float32)
    save_agent(path, Actor([(weight, bias)], mean, ones, np.zeros(12, dtype=np.float32)), {"task": "hard"})
    return path


def launch(*arguments, hide=()):
    """The launcher as a program; `hide` names libraries that it shall not find. Returns exit code, output, errors."""
    program = (
        "import runpy, sys\n"
        f"sys.modules |= dict.fromkeys({list(hide)})\n"  # None there makes an import fail
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, LAUNCHER, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_file_that_it_names_acts_as_the_agent(main, agent, tmp_path, capsys):
    output = tmp_path / "walk.onnx"
    main(["--agent", str(agent), "--output", str(output)])
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    observations = np.random.default_rng(0).standard_normal((5, 37)).astype(np.float32)
    (actions,) = session.run(["action"], {"observation": observations})
    np.testing.assert_allclose(actions, load_agent(agent).act(observations), rtol=0.0, atol=1e-5)
    file, verified = capsys.readouterr().out.splitlines()
    assert file.startswith(str(output))
    assert verified.startswith("verified in onnxruntime")
    assert float(verified.split()[-1]) < 1e-5


def test_without_a_name_it_lies_beside_the_agent(main, agent, tmp_path):
    main(["--agent", str(agent)])
    assert {path.name for path in tmp_path.iterdir()} == {"agent.safetensors", "agent.onnx"}


def test_an_older_file_is_replaced(main, agent, tmp_path):
    (tmp_path / "agent.onnx").write_bytes(b"older")
    main(["--agent", str(agent)])
    onnxruntime.InferenceSession(tmp_path / "agent.onnx", providers=["CPUExecutionProvider"])


def test_without_onnxruntime_it_says_that_nothing_was_verified(agent, tmp_path):
    code, output, errors = launch("--agent", agent, hide=["onnxruntime"])
    assert (code, errors) == (0, "")
    assert "not verified" in output
    assert (tmp_path / "agent.onnx").is_file()


def test_without_onnx_it_says_what_to_install(agent, tmp_path):
    code, output, errors = launch("--agent", agent, hide=["onnx"])
    assert (code, output) == (2, "")
    assert "pip install onnx" in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "agent.onnx").exists()


def test_it_runs_without_torch(agent):
    assert launch("--agent", agent, hide=["torch"])[0] == 0


def test_a_mistake_ends_with_exit_code_2_and_one_line(tmp_path):
    code, output, errors = launch("--agent", tmp_path / "none.safetensors")
    assert (code, output) == (2, "")
    assert (
        errors
        == f"export.py: agent: no such file: {tmp_path}/none.safetensors; give the agent.safetensors of a run directory\n"
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "required: --agent"),
        (["--agent", ""], "no such file"),
        (["--agent", "."], "no such file"),
        (["--agent", "{folder}/other.safetensors"], "not a safetensors file"),
        (["--agent", "{agent}", "--output", "/missing/directory/walk.onnx"], "--output"),
        (["--agent", "{agent}", "--output", "/proc/walk.onnx"], "--output"),
        (["--agent", "{agent}", "--output", "{folder}"], "is a directory"),
        (["--agent", "{agent}", "--output", "{agent}"], "is the agent itself"),
        (["--agent", "{agent}", "--output", "{folder}/same.onnx"], "is the agent itself"),
        (["--agent", "{agent}", "--colour", "red"], "--colour"),
        (["--agent", "{agent}", "walk.onnx"], "walk.onnx"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_everything_as_it_was(main, agent, tmp_path, options, named):
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    (tmp_path / "same.onnx").symlink_to(agent)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        main([option.format(agent=agent, folder=tmp_path) for option in options])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
