import re

import pytest

from qi_ext.training.arguments import parse_config
from qi_ext.training.config import make_config
from qi_ext.training.run_directory import RunDirectory
from qi_ext.utils.errors import UserError


def parse(*arguments):
    settings = parse_config("program.py", "What it does.", list(arguments))
    assert settings.pop("resume") == ""
    return make_config(**settings)


def help_text(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments, "--help")
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_options_are_the_settings_of_the_config():
    config = parse("--n_steps", "7", "--gamma=1e-1", "--policy_hidden", "3", "4", "--demonstrations", "file.npz")
    assert config == make_config(n_steps=7, gamma=0.1, policy_hidden=[3, 4], demonstrations="file.npz")


def test_of_an_option_given_twice_the_last_counts():
    assert parse("--task=simple", "--task", "hard", "--backend=imitation_lib") == make_config("hard", backend="imitation_lib")


def test_a_list_may_be_empty_where_the_setting_may_be():
    """A sweep passes all settings of a trial, those that are an empty list, too."""
    assert parse("--task", "hard", "--speeds", "--n_steps", "7") == make_config("hard", n_steps=7, speeds=[])


def test_an_empty_results_dir_is_the_default_one():
    """`make train` passes it so."""
    assert parse("--task", "hard", "--results_dir", "").run.results_dir == "runs/hard-gail"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n_stepz", "5"], "--n_stepz: no such option"),
        (["--n_step", "5"], "--n_step: no such option"),
        (["--code_size", "8"], "--code_size: no such option for --algorithm gail;"),
        (["5"], "5: is no option"),
        (["--gamma"], "--gamma: expected one argument"),
        (["--policy_hidden"], "--policy_hidden: expected at least one argument"),
        (["--task", "other"], "--task: must be simple, hard or follow, not 'other'"),
        (["--n_envs", "0"], "--n_envs: must be at least 1, not 0"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_that_names_the_option(arguments, message):
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("choice", [("simple", "gail", "native"), ("hard", "vail", "imitation_lib")], ids=" ".join)
def test_help_shows_every_option_with_its_default(capsys, choice):
    task, algorithm, backend = choice
    text = help_text(capsys, "--task", task, "--algorithm", algorithm, "--backend", backend)
    config = make_config(*choice)
    for name in config.settings():
        assert re.search(rf"--{name} \[?X", text)
    assert ("--warm_start X" in text) == (backend == "native")
    assert f"[{' '.join(map(str, config.discriminator.discriminator_hidden))}]" in text
    if backend == "native":
        assert f"[{config.run.n_steps}; {make_config(*choice, warm_start=1).run.n_steps} after a warm start]" in text


def test_options_of_a_run_to_resume_are_those_of_its_algorithm(tmp_path, capsys):
    RunDirectory(tmp_path).create(make_config("hard", "vail"))
    assert parse_config("program.py", "", ["--resume", str(tmp_path), "--code_size", "8"]) == {
        "resume": str(tmp_path),
        "code_size": "8",
    }
    assert "--code_size" in help_text(capsys, f"--resume={tmp_path}")
