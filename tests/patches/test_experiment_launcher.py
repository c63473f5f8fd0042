"""experiment-launcher as patched: what is launched arrives as given, locally and in real scripts, and failures are seen."""

import importlib
import json
import math
import subprocess
import sys

import joblib
import pytest

import patches
from patches.experiment_launcher.trial import launch

pytest.importorskip("experiment_launcher")


@pytest.fixture
def patched():
    """All patches of the library hold."""
    patches.apply("experiment_launcher")
    yield
    patches.revert("experiment_launcher")


@pytest.fixture
def only():
    """A function that applies these patches of the library and no others."""
    yield lambda *names: patches.apply("experiment_launcher", only=names)
    patches.revert("experiment_launcher")


@pytest.fixture
def parse(monkeypatch):
    """A function that reads a command line for an experiment, as `run_experiment` does."""

    def read(function, *arguments):
        from experiment_launcher import launcher

        monkeypatch.setattr(sys, "argv", ["experiment.py", *arguments])
        return launcher.parse_args(function)

    return read


PARAMETERS = """
    needed: float, text: str = 'walk', other: str = None, small: float = 0.0, count: int = 1, limit: int = 5, gone: int = None,
    flag: bool = True, off: bool = False, maybe: bool = True, sizes: list = None, names: list = None, empty: list = None,
    nothing: list = None, kinds: list = None, plain = 3, **more"""
VALUES = {
    "text": "A 'B' \"C\"; touch x & $HOME `pwd` * ~ \\ # %s, ü!\nnext line",
    "other": "--count",
    "small": -1e-3,
    "count": -7,
    "limit": None,
    "gone": None,
    "flag": False,
    "off": True,
    "maybe": None,
    "sizes": [64, -1e-3, "64", None, True, [1, "a b"]],
    "names": ["--flag", "-x", "it's", ""],
    "empty": [],
    "nothing": None,
    "kinds": ["one"],
    "plain": -3,
    "needed": -math.inf,
    "extra_text": "007",
    "extra_dash": "--text",
    "extra_short": "-h",
    "extra_switch": "off",
    "extra_list": [1],
    "extra_none": None,
    "extra_number": -2.5e-7,
    "extra_empty": "",
    "n": "json:{}",
}


def test_all_values_arrive_in_a_slurm_job_as_they_do_locally(patched):
    local = launch(VALUES, parameters=PARAMETERS, local=True)
    slurm = launch(VALUES, parameters=PARAMETERS)
    assert local.error is None
    assert slurm.exit_codes == [0], slurm.output
    assert {name: repr(local.received[0][name]) for name in VALUES} == {name: repr(value) for name, value in VALUES.items()}
    assert {name: repr(slurm.received[0][name]) for name in VALUES} == {name: repr(value) for name, value in VALUES.items()}


def test_a_script_of_a_patched_launcher_serves_an_experiment_without_patches(patched):
    sent = {"text": "a b", "maybe": None, "flag": False, "small": -1e-3, "names": ["x", "1"], "label": None, "extra": "a b"}
    parameters = "text: str = '', maybe: int = None, flag: bool = True, small: float = 0.0, names: list = None, "
    outcome = launch(sent, parameters=f"{parameters} label: str = '', **more", apply_in_job=False)
    assert outcome.exit_codes == [0], outcome.output
    received = {name: outcome.received[0][name] for name in sent}
    assert received == sent | {"label": "None"}  # as without patches


def test_an_experiment_with_a_parser_of_its_own_is_given_what_that_reads(patched):
    lines = (
        "import argparse; parser = argparse.ArgumentParser(); parser.add_argument('--sizes', nargs='+', type=int)",
        "parser.add_argument('--label'); parser.add_argument('--seed', type=int); parser.add_argument('--results_dir')",
        "experiment(**vars(parser.parse_args()))",
    )
    sent = {"sizes": [1, 2], "label": "a b", "seed": 0}
    outcome = launch(sent, parameters="sizes: list = None, label: str = None,", reader="; ".join(lines))
    assert outcome.exit_codes == [0], outcome.output
    assert {name: outcome.received[0][name] for name in sent} == sent
    assert "json:" not in outcome.scripts[0]


def test_nothing_in_a_value_is_run_by_the_shell(patched):
    outcome = launch(
        {"env__": "x;touch found"},
        parameters="env: str = '',",
        body="print('found' in os.listdir('.'))",
        folder="my 'runs' $x; 100%A",
    )
    assert outcome.exit_codes == [0], outcome.output
    assert "False" in outcome.output.splitlines()
    assert outcome.received[0]["results_dir"].endswith("my 'runs' $x; 100%A/trial/env___x;touchfound")


def test_sbatch_reads_the_log_directory_as_it_is(patched):
    import shlex

    script = launch(folder="my runs 100%A").scripts[0]
    lines = [line.split(maxsplit=2)[2] for line in script.splitlines() if line.startswith(("#SBATCH -o", "#SBATCH -e"))]
    paths = [shlex.split(line) for line in lines]
    assert [path[0].partition("my runs")[2] for path in paths] == [
        f" 100%%A/trial/slurm_logs/%A_%a.{kind}" for kind in ("out", "err")
    ]
    assert all(len(path) == 1 for path in paths)


def test_ordinary_names_are_written_as_ever(only):
    """Quotes appear only where they are needed."""
    sent, parameters = {"n__": 3, "name": "abc"}, "n: int = 0, name: str = '',"
    options = {"project_name": "p1", "partition": "long", "constraint": "a&b"}
    before = launch(sent, parameters=parameters, **options).scripts[0]
    only("quoting")
    after = launch(sent, parameters=parameters, **options).scripts[0]

    def without_directory(script):
        return [line for line in script.splitlines() if "/" not in line]

    assert without_directory(before) == without_directory(after)


def test_seeds_of_a_job_array_come_from_slurm(patched):
    outcome = launch({"n": 3}, parameters="n: int,", use_job_array_seeds=True, start_seed=4, n_seeds=2)
    assert "#SBATCH -a 0-1" in outcome.scripts[0]
    assert [(given["seed"], given["n"]) for given in outcome.received] == [(4, 3)]
    assert outcome.exit_codes == [0]


def test_the_python_of_the_launcher_runs_the_experiment(patched):
    outcome = launch(body="print('python:', sys.executable, 'BARE' in os.environ)")
    assert f"python: {sys.executable} False" in outcome.output


def test_a_conda_environment_chooses_its_own_python(patched, tmp_path, monkeypatch):
    from experiment_launcher import Launcher

    (tmp_path / "miniconda3").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("USER", raising=False)
    (tmp_path / "chosen_by_conda.py").write_text("def experiment(seed=0, results_dir='.'): pass\n")
    launcher = Launcher("trial", "chosen_by_conda", 1, base_dir=str(tmp_path), conda_env="walking")
    script = launcher.generate_slurm(["--seed 0"])
    assert "conda activate walking\n" in script
    assert f"\npython {tmp_path}/chosen_by_conda.py \\\n" in script
    assert sys.executable not in script


@pytest.mark.parametrize("failing", [(), (0,), (1,), (0, 2)])
def test_a_script_fails_where_any_of_its_experiments_does(patched, failing):
    outcome = launch(n_seeds=3, n_exps_in_parallel=3, body=f"sys.exit(5 if seed in {failing} else 0)")
    assert [given["seed"] for given in outcome.received] == [0, 1, 2]
    assert outcome.exit_codes == [5 if failing else 0]
    for seed in range(3):
        assert (f"Experiment {seed + 1} of 3 ended with exit code 5" in outcome.output) == (seed in failing)
    assert outcome.output.strip().endswith("...done.")


def test_one_failed_script_of_several_is_told_from_the_others(patched):
    outcome = launch(n_seeds=2, body="assert seed")
    assert sorted(outcome.exit_codes) == [0, 1]


def test_a_refused_script_stops_the_launcher_by_name(patched):
    outcome = launch(n_seeds=2, refuse=True)
    assert isinstance(outcome.error, RuntimeError)
    assert "slurm_trial_0.sh" in str(outcome.error)
    assert "exit code 1" in str(outcome.error)
    assert not outcome.received


def test_a_missing_sbatch_is_named(patched, tmp_path, monkeypatch):
    from experiment_launcher import launcher

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no sbatch on PATH"):
        launcher.os.system("sbatch script.sh")


@pytest.mark.parametrize(("sequential", "n_jobs"), [(True, 1), (False, 1), (False, 2)])
def test_failed_local_experiments_are_named_after_all_have_run(patched, sequential, n_jobs):
    outcome = launch(
        {"n__": 1},
        {"n__": 2},
        parameters="n: int = 0,",
        body="if n == 1 and seed == 1: raise KeyError('lost')",
        local=True,
        sequential=sequential,
        n_seeds=2,
        n_exps_in_parallel=n_jobs,
    )
    assert sorted((given["n"], given["seed"]) for given in outcome.received) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    lines = str(outcome.error).splitlines()
    assert lines[0] == "1 of 4 experiments failed:"
    assert len(lines) == 2
    assert "'n': 1" in lines[1] and "'seed': 1" in lines[1] and lines[1].endswith("KeyError: 'lost'")


def test_workers_that_joblib_kept_do_not_serve_a_trial(patched):
    """They would look for its module where modules were before."""
    joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in range(2))
    outcome = launch(local=True, n_seeds=2, n_exps_in_parallel=2)
    assert outcome.error is None
    assert [given["seed"] for given in outcome.received] == [0, 1]


def test_a_launcher_can_go_on_after_failures(patched, tmp_path, monkeypatch):
    from experiment_launcher import Launcher

    monkeypatch.delenv("USER", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "def experiment(n: int = 0, seed: int = 0, results_dir: str = '.'):\n    assert n\n"
    (tmp_path / "asserting.py").write_text(text)
    launcher = Launcher("trial", "asserting", 1, base_dir=str(tmp_path))
    launcher.add_experiment(n=0)
    with pytest.raises(RuntimeError, match="1 of 1 experiments failed"):
        launcher.run(local=True)
    launcher.add_experiment(n__=1)
    launcher.run(local=True)


def test_annotations_of_all_usual_kinds_are_read(patched, parse):
    from typing import Optional  # noqa: F401  (by its name, below)

    def experiment(
        a: "int" = 0,
        b: float | None = None,
        c: list[int] = (),
        d: "int | None" = None,
        e=0.5,
        f=None,
        g=True,
        h: bool = False,
    ):
        pass

    line = "--a 1 --b 2 --c 3 4 --d 5 --e 6 --f seven --g False --h"
    given = parse(experiment, *line.split())
    expected = {"a": 1, "b": 2.0, "c": ["3", "4"], "d": 5, "e": 6.0, "f": "seven", "g": False, "h": False}
    assert given == expected | {"seed": None, "results_dir": None}


def test_an_annotation_that_cannot_be_read_is_named(patched, parse):
    def experiment(model: dict = None):
        pass

    with pytest.raises(NotImplementedError, match=r"experiment\(model: dict\): annotate it with one of str, int"):
        parse(experiment)


def test_a_missing_required_parameter_is_named(patched, parse, capsys):
    def experiment(n: int, x: float = 0.0):
        pass

    assert parse(experiment, "--n", "3")["n"] == 3
    with pytest.raises(SystemExit) as ended:
        parse(experiment, "--x", "1")
    assert ended.value.code == 2
    assert "--n is missing" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1e-3", "-1", "-.5", "-1.", "-1E+5", "-inf", "-0.25"])
def test_negative_numbers_are_numbers(patched, parse, text):
    def experiment(x: float = 0.0, several: list = None):
        pass

    given = parse(experiment, "--x", text, "--several", "1", text)
    assert given["x"] == float(text)
    assert given["several"] == ["1", text]


@pytest.mark.parametrize("text", ["-x", "-e5", "-1x"])
def test_other_dashes_are_still_options(patched, parse, text):
    def experiment(x: str = ""):
        pass

    with pytest.raises(SystemExit):
        parse(experiment, "--x", text)


def test_the_command_line_by_hand_reads_as_without_patches(only, parse):
    def experiment(name: str = "", n: int = 0, flag: bool = False, sizes: list = None, **more):
        pass

    lines = [
        "--name None --n 3 --flag --sizes 1 2 --extra 5 --seed 1 --results_dir here",
        "--name=a=b --n=3 --n=4 --flag True --sizes a --extra 1 2 yes",
        "--name json:[1] --sizes json:[",
        "",
    ]
    before = [parse(experiment, *line.split()) for line in lines]
    patches.apply("experiment_launcher")
    only()
    assert [parse(experiment, *line.split()) for line in lines] == before


@pytest.fixture
def repository(tmp_path):
    """A function that runs git in a new repository."""

    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    return git


def saved(directory):
    """What the library writes down of the git repository in a directory."""
    from experiment_launcher.utils import save_args

    arguments = {"seed": 0}
    save_args(str(directory), arguments, git_repo_path=str(directory))
    assert arguments == {"seed": 0}
    written = json.loads((directory / "args.json").read_text())
    return written["git_hash"], written["git_url"]


def test_the_commit_is_saved_whatever_the_remotes_are(patched, repository, tmp_path):
    assert saved(tmp_path) == ("", "")  # no commit
    repository("commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "first")
    commit = repository("rev-parse", "HEAD")
    assert saved(tmp_path) == (commit, "")
    repository("remote", "add", "fork", "https://example.org/fork")
    assert saved(tmp_path) == (commit, "https://example.org/fork")
    repository("remote", "add", "origin", "https://example.org/origin")
    assert saved(tmp_path) == (commit, "https://example.org/origin")
    repository("checkout", "-q", "--detach")
    assert saved(tmp_path) == (commit, "https://example.org/origin")


def test_without_a_repository_nothing_is_saved_of_git(patched, tmp_path):
    assert saved(tmp_path) == ("", "")


def test_revert_leaves_the_library_as_it_was():
    names = ("launcher", "utils", "decorators")
    modules = [importlib.import_module(f"experiment_launcher.{name}") for name in names]
    owners = [importlib.import_module("experiment_launcher"), *modules, modules[0].Launcher]
    before = [dict(vars(owner)) for owner in owners]
    patches.apply("experiment_launcher")
    during = [dict(vars(owner)) for owner in owners]
    patches.revert("experiment_launcher")
    assert during != before
    assert [dict(vars(owner)) for owner in owners] == before
    assert launch({"x": "a"}, parameters="x: str = '',").error is None


WITHOUT_DISTUTILS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "distutils":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import patches
"""


def in_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_distutils_is_supplied_for_the_import_only():
    code = f"""{WITHOUT_DISTUTILS}
import experiment_launcher
print(hasattr(experiment_launcher, "Launcher"))
patches.apply("experiment_launcher")
from experiment_launcher import Launcher, is_local, run_experiment, single_experiment, single_experiment_flat
from experiment_launcher.launcher import string_to_primitive
print(string_to_primitive("Yes"), string_to_primitive("off"), string_to_primitive("maybe"), "distutils" in sys.modules)
patches.revert()
print(hasattr(experiment_launcher, "Launcher"))
patches.apply("experiment_launcher")
print(hasattr(experiment_launcher, "Launcher"))
"""
    assert in_process(code) == ["False", "True", "False", "maybe", "False", "False", "True"]


def test_importing_the_patches_imports_neither_the_library_nor_joblib():
    code = (
        "import sys, patches.experiment_launcher; print([n in sys.modules for n in ('experiment_launcher', 'joblib', 'git')])"
    )
    assert in_process(code) == ["[False,", "False,", "False]"]


def test_a_trap_in_the_script_does_not_end_its_waiting(patched, tmp_path):
    """bash leaves `wait` with 128 + the signal's number when a trap has been run."""
    from experiment_launcher import Launcher

    launcher = Launcher("trapped", "json.tool", n_seeds=1, base_dir=str(tmp_path), use_timestamp=False)
    script = launcher.generate_slurm(["--line"])
    (command,) = [line for line in script.splitlines() if line.endswith("--line  &")]
    start = script.index("json/tool.py")
    started = script[script.rindex("\n", 0, start) : script.index(command) + len(command)]
    # In the place of the experiment one that has its script trapped, and then fails.
    script = script.replace(started, "\n(sleep 0.2; kill -USR1 $$; sleep 0.3; exit 7) &", 1)
    done = subprocess.run(["bash", "-c", "trap 'echo trapped' USR1\n" + script], capture_output=True, text=True)
    assert "trapped" in done.stdout
    assert done.returncode == 7, done.stderr
