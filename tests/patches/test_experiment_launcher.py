"""experiment-launcher as patched: what is launched arrives as given, locally and in real scripts, and failures are seen."""

import json
import shlex
import subprocess
import sys
from math import inf

import pytest

import patches
from patches.experiment_launcher.failures import _WAIT
from patches.experiment_launcher.trial import launch

pytest.importorskip("experiment_launcher")

extensive = pytest.mark.extensive


@pytest.fixture
def patched():
    """All patches of the library are applied."""
    patches.apply("experiment_launcher")
    yield
    patches.revert("experiment_launcher")


@pytest.fixture
def parse(monkeypatch):
    """parse(function, *arguments): the values that an experiment gets of a command line, as `run_experiment` reads it."""

    def read(function, *arguments):
        from experiment_launcher import launcher

        monkeypatch.setattr(sys, "argv", ["experiment.py", *arguments])
        return launcher.parse_args(function)

    return read


# The command line


def test_annotations_of_all_usual_kinds_are_read(patched, parse):
    def experiment(
        a: "int" = 0, b: float | None = None, c: list[int] = (), d: "int | None" = None, e=0.5, f=None, g=True, h: bool = False
    ):
        pass

    line = "--a 1 --b 2 --c 3 4 --d 5 --e 6 --f seven --g False --h"
    given = parse(experiment, *line.split())
    expected = {"a": 1, "b": 2.0, "c": ["3", "4"], "d": 5, "e": 6.0, "f": "seven", "g": False, "h": False}
    assert given == expected | {"seed": None, "results_dir": None}

    def unreadable(model: dict = None):
        pass

    with pytest.raises(NotImplementedError, match=r"unreadable\(model: dict\): annotate it with one of str, int"):
        parse(unreadable)


def test_a_missing_required_parameter_is_named_with_exit_code_2(patched, parse, capsys):
    def experiment(n: int, x: float = 0.0):
        pass

    assert parse(experiment, "--n", "3")["n"] == 3
    with pytest.raises(SystemExit) as ended:
        parse(experiment, "--x", "1")
    assert ended.value.code == 2
    assert "--n is missing" in capsys.readouterr().err


def test_negative_numbers_are_numbers_and_other_dashes_are_options(patched, parse):
    def experiment(x: float = 0.0, several: list = None, name: str = ""):
        pass

    for text in ("-1e-3", "-1", "-.5", "-1.", "-1E+5", "-inf"):
        given = parse(experiment, "--x", text, "--several", "1", text)
        assert (given["x"], given["several"]) == (float(text), ["1", text])
    for text in ("-x", "-e5", "-1x"):
        with pytest.raises(SystemExit):
            parse(experiment, "--name", text)


def test_the_command_line_by_hand_reads_as_without_patches(parse):
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
    try:
        assert [parse(experiment, *line.split()) for line in lines] == before
    finally:
        patches.revert("experiment_launcher")


# Slurm scripts


PARAMETERS = """
    needed: float, text: str = 'walk', other: str = None, count: int = 1, limit: int = 5, gone: int = None, flag: bool = True,
    maybe: bool = True, sizes: list = None, names: list = None, empty: list = None, kinds: list = None, plain = 3, **more"""
VALUES = {
    "needed": -inf,
    "text": "A 'B' \"C\"; touch x & $HOME `pwd` * ~ \\ # %s, ü!\nnext line",
    "other": "--count",
    "count": -7,
    "limit": None,  # its default is another
    "gone": None,  # its default
    "flag": False,
    "maybe": None,
    "sizes": [64, -1e-3, "64", None, True, [1, "a b"]],
    "names": ["--flag", "-x", "it's", ""],
    "empty": [],
    "kinds": ["one"],
    "plain": -3,
    "extra_text": "007",
    "extra_dash": "--text",
    "extra_switch": "off",
    "extra_none": None,
    "extra_number": -2.5e-7,
    "extra_empty": "",
    "n": "json:{}",
}


@extensive
def test_all_values_arrive_in_a_slurm_job_as_they_do_locally(patched):
    local = launch(VALUES, parameters=PARAMETERS, local=True)
    slurm = launch(VALUES, parameters=PARAMETERS)
    assert local.error is None
    assert slurm.exit_codes == [0], slurm.output
    for outcome in (local, slurm):
        assert {name: repr(outcome.received[0][name]) for name in VALUES} == {name: repr(VALUES[name]) for name in VALUES}


@extensive
def test_a_script_of_a_patched_launcher_serves_an_experiment_without_patches(patched):
    sent = {"text": "a b", "maybe": None, "flag": False, "small": -1e-3, "names": ["x", "1"], "label": None, "extra": "a b"}
    parameters = "text: str = '', maybe: int = None, flag: bool = True, small: float = 0.0, names: list = None, "
    outcome = launch(sent, parameters=f"{parameters} label: str = '', **more", apply_in_job=False)
    assert outcome.exit_codes == [0], outcome.output
    assert {name: outcome.received[0][name] for name in sent} == sent | {"label": "None"}  # as without patches


@extensive
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


@extensive
def test_nothing_in_a_value_or_a_directory_is_run_or_expanded(patched):
    folder = "my 'runs' $x; 100%A"
    body = "print('found' in os.listdir('.')); print('python:', sys.executable, 'BARE' in os.environ)"
    outcome = launch({"env__": "x;touch found"}, parameters="env: str = '',", body=body, folder=folder)
    assert outcome.exit_codes == [0], outcome.output
    assert {"False", f"python: {sys.executable} False"} <= set(outcome.output.splitlines())  # the launcher's own Python
    assert outcome.received[0]["results_dir"].endswith(f"{folder}/trial/env___x;touchfound")
    lines = [line.split(maxsplit=2) for line in outcome.scripts[0].splitlines()]
    ((out,), (err,)) = (shlex.split(line[2]) for line in lines if line[:2] in (["#SBATCH", "-o"], ["#SBATCH", "-e"]))
    logs = f"{folder.replace('%', '%%')}/trial/slurm_logs/%A_%a"
    assert out.endswith(f"{logs}.out") and err.endswith(f"{logs}.err")


@extensive
def test_seeds_of_a_job_array_come_from_slurm(patched):
    outcome = launch({"n": 3}, parameters="n: int,", use_job_array_seeds=True, start_seed=4, n_seeds=2)
    assert "#SBATCH -a 0-1" in outcome.scripts[0]
    assert [(given["seed"], given["n"]) for given in outcome.received] == [(4, 3)]
    assert outcome.exit_codes == [0]


@pytest.fixture
def launcher_of(tmp_path, monkeypatch):
    """launcher_of(module, source, **options): a `Launcher` of an experiment of this source."""
    from experiment_launcher import Launcher

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(module, source, **options):
        (tmp_path / f"{module}.py").write_text(source)
        return Launcher("trial", module, 1, base_dir=str(tmp_path), **options)

    return make


@extensive
def test_a_conda_environment_chooses_its_own_python(patched, launcher_of, tmp_path):
    (tmp_path / "miniconda3").mkdir()
    source = "def experiment(seed=0, results_dir='.'): pass"
    script = launcher_of("chosen_by_conda", source, conda_env="walking").generate_slurm(["--seed 0"])
    assert "conda activate walking\n" in script
    assert f"\npython {tmp_path}/chosen_by_conda.py \\\n" in script
    assert sys.executable not in script


# Failures


@extensive
@pytest.mark.parametrize("failing", [(), (0, 2)])
def test_a_script_fails_where_any_of_its_experiments_does(patched, failing):
    outcome = launch(n_seeds=3, n_exps_in_parallel=3, body=f"sys.exit(5 if seed in {failing} else 0)")
    assert [given["seed"] for given in outcome.received] == [0, 1, 2]
    assert outcome.exit_codes == [5 if failing else 0]
    for seed in range(3):
        assert (f"Experiment {seed + 1} of 3 ended with exit code 5" in outcome.output) == (seed in failing)
    assert outcome.output.strip().endswith("...done.")


@extensive
def test_a_trap_in_the_script_does_not_end_its_waiting():
    """bash leaves `wait` with 128 + the signal's number when a trap has been run."""
    failing = "experiments=(); (sleep 0.2; kill -USR1 $$; sleep 0.3; exit 7) & experiments+=($!)"
    script = f"trap 'echo trapped' USR1; {failing}\n{_WAIT}\nexit $exit_code"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("trapped\n", 7)


@extensive
def test_a_refused_script_and_a_missing_sbatch_stop_the_launcher_by_name(patched, tmp_path, monkeypatch):
    from experiment_launcher import launcher

    outcome = launch(n_seeds=2, refuse=True)
    assert isinstance(outcome.error, RuntimeError)
    assert "slurm_trial_0.sh" in str(outcome.error) and "exit code 1" in str(outcome.error)
    assert not outcome.received
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no sbatch on PATH"):
        launcher.os.system("sbatch script.sh")


@pytest.mark.parametrize(
    ("sequential", "n_jobs"), [(True, 1), pytest.param(False, 1, marks=extensive), pytest.param(False, 2, marks=extensive)]
)
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
    head, line = str(outcome.error).splitlines()
    assert head == "1 of 4 experiments failed:"
    assert "'n': 1" in line and "'seed': 1" in line and line.endswith("KeyError: 'lost'")


@extensive
def test_a_launcher_can_go_on_after_failures(patched, launcher_of):
    source = "def experiment(n: int = 0, seed: int = 0, results_dir: str = '.'):\n    assert n\n"
    launcher = launcher_of("asserting", source)
    launcher.add_experiment(n=0)
    with pytest.raises(RuntimeError, match="1 of 1 experiments failed"):
        launcher.run(local=True)
    launcher.add_experiment(n__=1)
    launcher.run(local=True)


# Surroundings


@extensive
def test_the_commit_is_saved_whatever_the_remotes_are(patched, tmp_path):
    from experiment_launcher.utils import save_args

    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def saved():
        arguments = {"seed": 0}
        save_args(str(tmp_path), arguments, git_repo_path=str(tmp_path))
        assert arguments == {"seed": 0}
        written = json.loads((tmp_path / "args.json").read_text())
        return written["git_hash"], written["git_url"]

    assert saved() == ("", "")  # no repository
    git("init", "-q")
    assert saved() == ("", "")  # no commit
    git("commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert saved() == (commit, "")
    for remote in ("fork", "origin"):
        git("remote", "add", remote, f"https://example.org/{remote}")
        assert saved() == (commit, f"https://example.org/{remote}")
    git("checkout", "-q", "--detach")
    assert saved() == (commit, "https://example.org/origin")


WITHOUT_DISTUTILS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "distutils":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import patches
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


@extensive
def test_distutils_is_supplied_for_the_import_only():
    done = subprocess.run([sys.executable, "-c", WITHOUT_DISTUTILS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False", "maybe", "False", "False", "True"]
