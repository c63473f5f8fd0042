import signal

import pytest

from qi_ext.training.arguments import parse_config
from qi_ext.training.config import CONFIGS, make_config
from qi_ext.training.run_directory import RunDirectory
from qi_ext.utils.command_line import run_command
from qi_ext.utils.errors import SamplingError, Terminated, UserError


def parse(*arguments):
    settings = parse_config("program.py", "What it does.", list(arguments))
    assert settings.pop("resume") == ""
    return make_config(**settings)


def refusal(*arguments):
    """The message that a command line is refused with, which must be one line."""
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("task", "algorithm", "backend"), sorted(CONFIGS))
def test_defaults_are_those_of_the_task_algorithm_and_backend(task, algorithm, backend):
    assert parse("--algorithm", algorithm, f"--task={task}", "--backend", backend) == make_config(task, algorithm, backend)


def test_options_are_the_fields_of_the_config():
    config = parse("--n_steps", "7", "--gamma=1e-1", "--policy_hidden", "3", "4", "--demonstrations", "file.npz")
    assert config == make_config(n_steps=7, gamma=0.1, policy_hidden=[3, 4], demonstrations="file.npz")


def test_a_whole_number_may_be_written_with_an_exponent():
    assert parse("--n_steps", "1e5").n_steps == 100_000


def test_of_an_option_given_twice_the_last_counts():
    assert parse("--task", "simple", "--task", "hard") == make_config("hard")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--n_stepz", "5"], ["--n_stepz"]),
        (["--n_step", "5"], ["--n_step"]),
        (["--code_size", "8"], ["--code_size"]),
        (["5"], ["5"]),
        (["--gamma"], ["--gamma"]),
        (["--policy_hidden"], ["--policy_hidden"]),
        (["--n_steps", "abc"], ["--n_steps", "whole number", "abc"]),
        (["--n_steps", "2.5"], ["--n_steps", "whole number", "2.5"]),
        (["--n_steps", "-1"], ["--n_steps", "at least 0"]),
        (["--gamma", "nan"], ["--gamma", "number", "nan"]),
        (["--gamma", "1.5"], ["--gamma", "at most 1"]),
        (["--policy_hidden", "16", "x"], ["--policy_hidden", "whole number", "x"]),
        (["--policy_hidden", "16", "0"], ["--policy_hidden", "at least 1"]),
        (["--task", "other"], ["--task", "other", "simple, hard"]),
        (["--algorithm", "other"], ["--algorithm", "other", "gail, vail"]),
        (["--compat", "other"], ["--compat", "other", "task, upstream"]),
        (["--n_workers", "abc"], ["--n_workers", "auto", "whole number", "abc"]),
        (["--n_workers", "0"], ["--n_workers", "at least 1", "0"]),
        (["--n_workers", "-1"], ["--n_workers", "at least 1", "-1"]),
        (["--n_envs", "0"], ["--n_envs", "at least 1"]),
        (["--lanes_per_block", "0"], ["--lanes_per_block", "at least 1"]),
        (["--pool", "foo"], ["--pool", "foo", "loky, serial, dask"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_that_names_the_option(arguments, parts):
    message = refusal(*arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(("arguments", "shown"), [([], "no code_size"), (["--algorithm", "vail"], "code_size")])
def test_help_shows_the_options_of_the_algorithm_chosen(capsys, arguments, shown):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "What it does." in text
    assert ("--code_size" in text) == (shown == "code_size")


@pytest.mark.parametrize("task", ["simple", "hard"])
def test_help_shows_every_option_with_its_default(capsys, task):
    with pytest.raises(SystemExit):
        parse("--task", task, "--help")
    text = " ".join(capsys.readouterr().out.split())
    config = make_config(task)
    for name in vars(config):
        assert f"--{name} X" in text
    assert f"[{config.n_steps}; {make_config(task, warm_start=1).n_steps} after a warm start]" in text
    assert f"[{config.seed}]" in text
    assert "[512 256]" in text


def exit_code(error):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command("program.py", main)
    return caught.value.code


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    assert exit_code(UserError("--x: must be 3")) == 2
    captured = capsys.readouterr()
    assert captured.err == "program.py: --x: must be 3\n"
    assert captured.out == ""


def test_ctrl_c_is_exit_code_130():
    assert exit_code(KeyboardInterrupt()) == 128 + signal.SIGINT == 130


def test_sigterm_is_exit_code_143():
    assert exit_code(Terminated()) == 128 + signal.SIGTERM == 143


def test_a_training_that_diverged_is_one_line_and_exit_code_1(capsys):
    assert exit_code(FloatingPointError("training: kl not finite")) == 1
    assert capsys.readouterr().err == "program.py: training: kl not finite\n"


def test_experience_that_cannot_be_gathered_is_its_message_and_exit_code_1(capsys):
    assert exit_code(SamplingError("lane 3 (seed 0, spawn key (2, 3)): it broke\n\nin the worker:\nTraceback")) == 1
    captured = capsys.readouterr()
    assert captured.err == "program.py: lane 3 (seed 0, spawn key (2, 3)): it broke\n\nin the worker:\nTraceback\n"
    assert captured.out == ""


def test_a_fault_of_ours_keeps_its_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command("program.py", main)


@pytest.mark.parametrize(("result", "code"), [(None, None), (0, 0), (1, 1)])
def test_the_exit_code_is_what_main_returns(result, code):
    with pytest.raises(SystemExit) as caught:
        run_command("program.py", lambda: result)
    assert caught.value.code == code


def test_an_empty_results_dir_is_the_default_one():
    """`make train` passes it so."""
    assert parse("--task", "hard", "--results_dir", "").results_dir == "runs/hard-gail"


@pytest.mark.parametrize("arguments", [["--resume", "auto"], ["--resume=auto"], ["--resume", "no/such/directory"]])
def test_the_run_to_resume_is_given_beside_the_settings(arguments):
    assert parse_config("program.py", "", ["--gamma", "0.5", *arguments]) == {
        "gamma": "0.5",
        "resume": arguments[-1].split("=")[-1],
    }


def test_options_of_a_run_to_resume_are_those_of_its_algorithm(tmp_path, capsys):
    RunDirectory(tmp_path).create(make_config("hard", "vail"))
    assert parse_config("program.py", "", ["--resume", str(tmp_path), "--code_size", "8"])["code_size"] == "8"
    with pytest.raises(SystemExit):
        parse_config("program.py", "", ["--resume", str(tmp_path), "--help"])
    assert "--code_size" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [OSError("cannot write here: No space left on device"), FloatingPointError("not finite")], ids=["disk", "numbers"]
)
def test_a_fault_of_the_machine_is_one_line_and_exit_code_1(capsys, error):
    assert exit_code(error) == 1
    assert capsys.readouterr().err == f"program.py: {error}\n"
