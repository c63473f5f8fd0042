"""Tests of what is written: files, links and tables are checked, commands and examples run with tiny budgets."""

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest

from patches.imitation_lib.library import COMMIT, found_commit
from qi_ext.robot import a1

ROOT = Path(__file__).parents[1]
# All documents, and those whose commands and examples run.
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])}
PAGES = {name: text for name, text in DOCUMENTS.items() if name == "README.md" or name.startswith("docs/")}
EXAMPLES = [(page, code) for page, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = sorted({line for line in LINES if line.startswith("python launchers/")})
SWEEP = "launchers/sweeps/first.yaml"  # is run in making `folder`

# Options that make each launcher quick; the last value of an option is the one that counts.
TINY_RUN = "--n_steps 64 --batch_size 64 --n_envs 4 --policy_hidden 16 --critic_hidden 16 --discriminator_hidden 16"
TINY = {
    "run_gail.py": f"{TINY_RUN} --discriminator_batch_size 32 --evaluation_episodes 0 --pool serial --warm_start_threads 1",
    "evaluate.py": "--episodes 1",
    "record.py": "--seconds 0.1",
    "report.py": "--episodes 1",
    "make_demonstrations.py": "--seconds 2 --n_directions 2",
    "export.py": "",
    "sweep.py": "",
}
TINY_SWEEP = """
fixed: {n_steps: 64, batch_size: 64, n_envs: 4, policy_hidden: [16], critic_hidden: [16], discriminator_hidden: [16],
  discriminator_batch_size: 32, evaluation_episodes: 1}
seeds: 1
resources: {cores: 1}
"""


def main_of(launcher):
    return runpy.run_path(str(ROOT / "launchers" / launcher))["main"]


@pytest.fixture(scope="module")
def short():
    """Films, fitted gaits, episodes, and what comes before a recording take a moment each."""
    from qi_ext.tasks import QuadrupedDirection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qi_ext.report.page.FILM_SECONDS", 0.1)
        patch.setattr("qi_ext.demonstrations.fitting.SECONDS", 1.0)
        patch.setattr("qi_ext.demonstrations.recording.SETTLING_SECONDS", 0.1)
        patch.setattr(QuadrupedDirection, "__init__", partialmethod(QuadrupedDirection.__init__, horizon=100))
        yield


@pytest.fixture(scope="module")
def folder(short, tmp_path_factory):
    """The folder of a reader: with a run, a recording, a sweep, and the package's folders."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "qi_ext" / "demonstrations" / "data").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for settings in ("--task hard --n_directions 2", "--task follow --warm_start 1"):
            main_of("run_gail.py")([*settings.split(), *TINY["run_gail.py"].split()])
        sweep = folder / SWEEP
        sweep.parent.mkdir(parents=True)
        sweep.write_text(TINY_SWEEP)
        patch.setenv("MUJOCO_GL", "off")  # no films, which would take longest
        speeds = "--task hard --speeds 0.3 0.5 0.7 --n_directions 1 --seconds 1 --output speeds.npz"
        main_of("make_demonstrations.py")(speeds.split())
        main_of("make_demonstrations.py")(["--task", "simple", "--seconds", "6", "--format", "clips", "--output", "clips"])
        shutil.copy(Path("clips", "0000-nominal.txt"), "pace1.txt")
        assert main_of("sweep.py")([SWEEP, "--local"]) == 0
        (recording,) = (code for page, code in EXAMPLES if page == "docs/own-recording.md")
        exec(compile(recording, "own-recording.md", "exec"), {})
    return folder


@pytest.mark.extensive
@pytest.mark.parametrize("command", [command for command in COMMANDS if command != f"python launchers/sweep.py {SWEEP}"])
def test_its_commands_run(folder, monkeypatch, tmp_path, request, command):
    import torch

    if "record.py" in command:
        request.getfixturevalue("drawing")
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    monkeypatch.chdir(here)
    _, launcher, *options = shlex.split(command)
    launcher = launcher.removeprefix("launchers/")
    if "imitation_lib" in options and found_commit() != COMMIT:
        pytest.skip("imitation-lib is not installed")
    if "cuda" in options and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    if "warp" in options:
        pytest.importorskip("mujoco_warp")
    options += ["--seconds", "1"] if "--from" in options else [] if "--check" in options else TINY[launcher].split()
    if launcher == "sweep.py":
        monkeypatch.setenv("MUJOCO_GL", "off")  # its runs are processes of their own, whose films would be whole
        if not {"--status", "--best"} & set(options):
            options += ["--local"]  # also where there is a Slurm
    if "--warm_start" in options:
        options += ["--warm_start", "1"]
    if "stock" in options:
        options += ["--agent", "pretrained/simple"]  # an episode takes as long as it lasts, and here it is one a policy
    if (launcher == "run_gail.py" and "--resume" not in options) or options[0].endswith(".yaml"):
        shutil.rmtree("runs")
    assert not main_of(launcher)(options)
    if "--output" in options:
        assert Path(options[options.index("--output") + 1]).stat().st_size > 1000


def test_the_published_trials_that_are_named_can_be_run_from_nothing(tmp_path):
    """A trial that is evaluated beside the agent of another one cannot be run alone."""
    from qi_ext.sweeps.publishing import read_published, require_trained_beside

    trials = {(trial.name, trial.seed): trial for trial in read_published(ROOT / "results", tmp_path).trials}
    named = re.findall(r"python benchmarks/results.py run ([a-z][\w-]*) --seeds (\d)", "\n".join(DOCUMENTS.values()))
    assert named
    for name, seed in named:
        require_trained_beside([trials[name, int(seed)]])


def test_there_are_commands_of_every_launcher():
    launchers = {path.name for path in ROOT.glob("launchers/*.py")}
    assert {command.split()[1].removeprefix("launchers/") for command in COMMANDS} == launchers == set(TINY)


def test_the_observation_table_is_that_of_the_task():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (\S+) \| (\S+) \|$", PAGES["docs/task.md"], re.MULTILINE)
    assert [(int(index), *row) for index, *row in rows] == a1.observation_table()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_files_sections_and_make_targets_that_it_names_are_there(document):
    text = DOCUMENTS[document]
    named = re.findall(r"(?:launchers|benchmarks)/(?!test_)\w+\.py", text)
    assert [name for name in named if not (ROOT / name).is_file()] == []
    for link, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        path = (ROOT / document).parent / link if link else ROOT / document
        assert path.exists(), link
        assert not section or section in sections(path.read_text()), f"{link}#{section}"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)) <= set(targets)


def sections(text):
    """Return what links to the headings of `text` end in."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_its_python_parses(page, code):
    ast.parse(code)


@pytest.mark.extensive
def test_the_example_of_ones_own_agent_in_the_pool_runs(tmp_path):
    (example,) = (code for page, code in EXAMPLES if page == "docs/own-agent.md")
    script = tmp_path / "example.py"
    script.write_text(example)
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "LOKY_MAX_CPU_COUNT")}
    environment["OMP_NUM_THREADS"] = "1"  # threads of torch wait for each other for long where the processors are busy
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    rows = re.findall(r"^ *([\d,]+) steps: mean return -\d+\.\d of 10 episodes$", done.stdout, re.MULTILINE)
    learned = [int(steps.replace(",", "")) for steps in rows]
    assert len(learned) == 3
    assert learned[0] == 0 < learned[1] < learned[2]
    assert "GLFW" not in done.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_are_closed_and_nothing_is_left_to_fill_in(document):
    assert len(re.findall(r"^```", DOCUMENTS[document], re.MULTILINE)) % 2 == 0
    assert not re.search(r"@[A-Z]+@|TODO", DOCUMENTS[document])


def test_the_tests_of_the_promises_are_there_and_run_where_it_is_said():
    rows = re.findall(r"\| `([\w/]+\.py)::(\w+)` \| ([\w-]+) \|$", DOCUMENTS["tests/README.md"], re.MULTILINE)
    assert rows
    found = {path: targets_of_tests(ROOT / "tests" / path) for path, _, _ in rows}
    assert [(path, name, target) for path, name, target in rows if found[path].get(name) != target] == []


# The make target that runs a test of each marker; `test` runs those of none.
TARGETS = {"slow": "test-slow", "gpu": "test-gpu", "slurm": "test-all", "extensive": "test-all"}


def targets_of_tests(path):
    """Return {test: make target that runs it} of a file, empty where there is no such file."""
    code = ast.parse(path.read_text() if path.is_file() else "")
    values = [node.value for node in code.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"]
    targets = {}

    def visit(body, marks):
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                own = marks | {ast.unparse(mark) for mark in node.decorator_list}
                targets[node.name] = next((TARGETS[name] for name in TARGETS if f"pytest.mark.{name}" in own), "test")
                visit(node.body if isinstance(node, ast.ClassDef) else [], own)

    visit(code.body, {ast.unparse(mark) for value in values for mark in getattr(value, "elts", [value])})
    return targets
