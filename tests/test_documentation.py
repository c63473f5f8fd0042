"""What the README and the pages in docs/ say of the code: their commands and examples run, with tiny budgets."""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from patches.imitation_lib.library import COMMIT, found_commit
from qi_ext.robot import a1

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {"README.md": README} | {f"docs/{path.name}": path.read_text() for path in sorted(ROOT.glob("docs/*.md"))}
EXAMPLES = [(page, code) for page, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = sorted({line for line in LINES if line.startswith("python launchers/")})

# What makes each launcher quick; the last value of an option is the one that counts.
TINY_RUN = "--n_steps 64 --batch_size 64 --n_envs 4 --policy_hidden 16 --critic_hidden 16 --discriminator_hidden 16"
TINY = {
    "run_gail.py": f"{TINY_RUN} --discriminator_batch_size 32 --evaluation_episodes 0 --pool serial",
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
"""


def main_of(launcher):
    return runpy.run_path(str(ROOT / "launchers" / launcher))["main"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader would be: with a run, a recording, and the package's folders."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "qi_ext" / "demonstrations" / "data").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main_of("run_gail.py")(["--task", "hard", "--n_directions", "2", *TINY["run_gail.py"].split()])
        sweep = folder / "launchers" / "sweeps" / "first.yaml"
        sweep.parent.mkdir(parents=True)
        sweep.write_text(TINY_SWEEP)
        patch.setenv("MUJOCO_GL", "off")  # no films, which would take longest
        assert main_of("sweep.py")([str(sweep), "--local"]) == 0
        (recording,) = (code for page, code in EXAMPLES if page == "docs/own-recording.md")
        exec(compile(recording, "own-recording.md", "exec"), {})
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(folder, monkeypatch, tmp_path, request, command):
    import torch

    if "record.py" in command:
        request.getfixturevalue("drawing")
    monkeypatch.setattr("qi_ext.report.page.FILM_SECONDS", 0.1)
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    monkeypatch.chdir(here)
    _, launcher, *options = shlex.split(command)
    launcher = launcher.removeprefix("launchers/")
    if "imitation_lib" in options and found_commit() != COMMIT:
        pytest.skip("imitation-lib is not installed")
    if "cuda" in options and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    options += TINY[launcher].split()
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


def test_the_published_rows_that_are_named_can_be_run_from_nothing(monkeypatch, tmp_path):
    """Those that are evaluated beside another one's agent cannot be run alone."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from experiments import read_experiments
    from running import require_beside

    experiments = read_experiments(ROOT / "results")
    text = "\n".join([*PAGES.values(), (ROOT / "results" / "README.md").read_text()])
    named = re.findall(r"python benchmarks/results.py run ([a-z][\w-]*) --seeds (\d)", text)
    assert named
    for name, seed in named:
        require_beside([(experiments[name], int(seed))], tmp_path)


def test_there_are_commands_of_every_launcher():
    launchers = {path.name for path in ROOT.glob("launchers/*.py")}
    assert {command.split()[1].removeprefix("launchers/") for command in COMMANDS} == launchers == set(TINY)


def test_the_observation_table_is_that_of_the_task():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    assert [(int(index), *row) for index, *row in rows] == a1.observation_table()


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_it_names_are_there(page):
    named = set(re.findall(r"launchers/\w+\.py|benchmarks/\w+\.py", PAGES[page]))
    assert all((ROOT / name).is_file() for name in named)
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", PAGES[page]))
    assert all((ROOT / page).parent.joinpath(link).exists() for link in links)


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_its_python_parses(page, code):
    ast.parse(code)


def test_the_example_of_ones_own_agent_in_the_pool_runs(tmp_path):
    (example,) = (code for page, code in EXAMPLES if page == "docs/own-agent.md")
    script = tmp_path / "example.py"
    script.write_text(example + "    print(core.n_episodes, sum(sample[5] for sample in dataset))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    learned, evaluated = map(int, done.stdout.split())
    assert learned > 0
    assert evaluated == 10


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_left_to_fill_in(page):
    assert not re.search(r"@[A-Z]+@", PAGES[page])
