"""The export launcher, on an agent of random weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from qi_ext import load_agent
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def main(main_of):
    return main_of("export.py")


def test_the_file_acts_as_the_agent_and_replaces_an_older_one(main, make_agent, tmp_path, capsys):
    agent, output = make_agent(), tmp_path / "agent.onnx"
    output.write_bytes(b"older")
    main(["--agent", agent])
    assert {path.name for path in tmp_path.iterdir()} == {"agent.safetensors", "agent.onnx"}
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    observations = np.random.default_rng(0).standard_normal((5, 37)).astype(np.float32)
    (actions,) = session.run(["action"], {"observation": observations})
    np.testing.assert_allclose(actions, load_agent(agent).act(observations), rtol=0.0, atol=1e-5)
    file, verified = capsys.readouterr().out.splitlines()
    assert file.startswith(str(output))
    assert verified.startswith("verified in onnxruntime")
    assert float(verified.split()[-1]) < 1e-5


def test_it_runs_without_torch_and_onnxruntime_and_says_what_is_not_verified(make_agent, tmp_path):
    program = (
        "import runpy, sys\n"
        "sys.modules |= dict.fromkeys(['torch', 'onnxruntime'])\n"  # None there makes an import fail
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ROOT / "launchers" / "export.py", "--agent", make_agent()],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "not verified" in done.stdout
    assert (tmp_path / "agent.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--agent: required"),
        (["--agent", "{folder}"], "is a directory"),
        (["--agent", "{folder}/other.safetensors"], "not a safetensors file"),
        (["--agent", "{agent}", "--output", "/missing/directory/walk.onnx"], "--output"),
        (["--agent", "{agent}", "--output", "{folder}"], "is a directory"),
        (["--agent", "{agent}", "--output", "{folder}/same.onnx"], "is the agent itself"),
        (["--agent", "{agent}", "--colour", "red"], "--colour"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_everything_as_it_was(main, make_agent, tmp_path, options, words):
    agent = make_agent()
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    (tmp_path / "same.onnx").symlink_to(agent)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        main([option.format(agent=agent, folder=tmp_path) for option in options])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
