import signal

import mujoco
import numpy as np
import pytest
import torch

from qi_ext.utils.command_line import Parser, run_command
from qi_ext.utils.errors import SamplingError, Terminated, UserError


def exit_code(result=None, error=None):
    def main():
        if error is not None:
            raise error
        return result

    with pytest.raises(SystemExit) as caught:
        run_command("program.py", main)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("--x: must be 3"), 2),
        (FloatingPointError("training: kl not finite"), 1),
        (SamplingError("env 3 (seed 0, spawn key (2, 3)): it broke\n\nin the worker:\nTraceback"), 1),
        (OSError("cannot write here: No space left on device"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_went_wrong_is_all_that_is_said(capsys, error, code):
    assert exit_code(error=error) == code
    assert capsys.readouterr() == ("", f"program.py: {error}\n")


def test_ctrl_c_and_sigterm_have_the_codes_of_their_signals(capsys):
    assert exit_code(error=KeyboardInterrupt()) == 128 + signal.SIGINT == 130
    assert exit_code(error=Terminated()) == 128 + signal.SIGTERM == 143
    assert exit_code(error=Terminated(signal.SIGHUP)) == 128 + signal.SIGHUP == 129
    assert capsys.readouterr() == ("", "")


MODEL = '<mujoco><size memory="4000000G"/><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>'


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.zeros(1 << 50),
        lambda: torch.zeros(1 << 50),
        pytest.param(
            lambda: mujoco.MjModel.from_xml_string(MODEL),
            marks=pytest.mark.skipif(mujoco.__version__ == "2.3.7", reason="it takes no size that a machine refuses"),
        ),
    ],
    ids=["numpy", "torch", "MuJoCo"],
)
def test_memory_that_is_refused_is_one_line_and_a_fault_of_the_machine(capsys, allocate):
    with pytest.raises(SystemExit) as caught:
        run_command("program.py", allocate)
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("program.py: not enough memory: ")


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command("program.py", lambda: 1 / 0)


def test_a_working_directory_that_is_gone_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert exit_code() == 2
    assert "the working directory cannot be used" in capsys.readouterr().err


def test_a_long_name_leaves_the_rest_of_a_message(capsys):
    said = str(UserError(f"--agent: {'x' * 5000}: no such file"))
    assert len(said) < 1010 and said.startswith("--agent: xxx") and said.endswith("xxx: no such file")


@pytest.mark.parametrize("result", [None, 0, 1])
def test_the_exit_code_is_what_main_returns(result):
    assert exit_code(result) == result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "1", "--count", "ten"], "--count: must be a whole number, not ten"),
        (["--size", "nan"], "--size: must be a finite number, not nan"),
        (["--size"], "--size: expected one argument"),
        (["--siz", "3"], "--siz: no such option; did you mean --size?; see --help"),
        (["--count", "3"], "--size: required; how large"),
    ],
    ids=" ".join,
)
def test_a_mistake_on_the_command_line_is_one_line(arguments, message):
    parser = Parser("program.py", "What it does.")
    parser.add_argument("--count", type=int)
    parser.add_argument("--size", type=float, required=True, help="how large")
    assert vars(parser.parse_args(["--count", "3", "--size=-2.5"])) == {"count": 3, "size": -2.5}
    with pytest.raises(UserError) as caught:
        parser.parse_args(arguments)
    assert str(caught.value) == message


def test_names_with_line_breaks_make_no_second_line():
    assert str(UserError("no such file: a\nb\x1b[31m")) == "no such file: a\\nb\\x1b[31m"
