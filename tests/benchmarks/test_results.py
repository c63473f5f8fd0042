"""The published results: the committed ones hold together, and the command runs, tabulates and checks tiny ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qi_ext.demonstrations import load_demonstrations
from qi_ext.sweeps import publishing
from qi_ext.sweeps.published_tables import by_name, read_results, with_tables
from qi_ext.sweeps.publishing import read_published
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
README = "before\n<!-- tables: python benchmarks/results.py tables -->\n<!-- end of tables -->\nafter\n"
EXPERIMENTS = """
fixed: {task: simple, batch_size: 64, n_envs: 4, lanes_per_block: 2, pool: serial, device: cpu, policy_hidden: [16],
  critic_hidden: [16], discriminator_hidden: [16], discriminator_batch_size: 32}
seeds: [3]
trials:
- {name: cloned, what: cloning, n_steps: 0, warm_start: 1, episodes: 1}
- {name: gail, what: GAIL, n_steps: 128, episodes: 1, beside: cloned, reproduce: true}
"""


@pytest.fixture(scope="module")
def committed():
    """The committed results: their trials, and {name: [content of each result.json]}."""
    trials = read_published(ROOT / "results", "runs").trials
    return trials, read_results(ROOT / "results", trials)


def test_the_committed_tables_are_those_of_the_committed_results(committed):
    text = (ROOT / "results" / "README.md").read_text()
    assert with_tables(text, *committed) == text, "write them anew: python benchmarks/results.py tables"


def test_the_committed_results_are_of_the_demonstrations_that_there_are_now(committed):
    trials, results = committed
    hashes = {}
    for name, found in results.items():
        task = by_name(trials)[name][0].config.task
        hashes.setdefault((task.demonstrations, task.task, task.compat), set()).update(
            result["demonstrations"]["hash"] for result in found
        )
    for (demonstrations, task, compat), published in hashes.items():
        assert published == {load_demonstrations(demonstrations, task_commands(task), compat).content_hash()}


def test_the_table_of_the_projects_readme_is_that_of_the_results():
    """Its rows are those of the results' tables, with less in them."""
    ours, theirs = ((ROOT / name).read_text() for name in ("README.md", "results/README.md"))

    def cells(text):
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]

    def short(text):
        return re.sub(r" \+- \d+", "", text)

    published = {row[1]: row for row in cells(theirs) if row[1].startswith("`python")}
    hard = cells(theirs[theirs.index("## Hard\n") : theirs.index("### Hard: how")])
    baselines = {f"{row[0]}, hard": row for row in hard if not row[1]}
    rows = [row for row in cells(ours) if row[0] in baselines or (len(row) == 6 and row[1].startswith("`python"))]
    assert len(rows) >= 4
    for what, command, deterministic, stochastic, falls, training in rows:
        if not command:
            row = baselines[what]
            assert (deterministic, falls) == (short(row[5]), row[6].replace("/", " of "))
            continue
        row = published[command]
        assert (deterministic, stochastic) == (short(row[5]), short(row[7])), what
        (fallen, of), (others, _) = row[6].split("/"), row[8].split("/")
        assert falls == f"{fallen}, {others} of {of} each"
        assert training == f"{row[4]} minutes"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["walk"], "ACTION: must be run, tables or check"),
        (["run", "nothing"], "nothing: no such experiment"),
        (["tables", "gail"], "leave the names out"),
        (["tables"], "README.md: no such file"),
        (["check", "--seeds", "3"], "--seeds: is not for check"),
        (["check", "cloned"], "check: nothing of that is published"),
        (["run", "--seeds", "3", "7"], "none of the trials has 7"),
    ],
)
def test_a_mistake_is_one_line(main, tmp_path, given, complaint):
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS)
    with pytest.raises(UserError) as caught:
        main([*given, "--results", str(tmp_path), "--runs", str(tmp_path / "runs")])
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def words(folder, *given):
    """The command on the results and runs in a folder."""
    return [*given, "--results", str(folder / "results"), "--runs", str(folder / "runs")]


@pytest.fixture(scope="module")
def main():
    """The main of results.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setenv("PYTHONPATH", str(ROOT))
        from results import main

        yield main


@pytest.fixture(scope="module")
def ran(main, tmp_path_factory):
    """The folder of two experiments that were run with tiny networks."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "results").mkdir()
    (folder / "results" / "experiments.yaml").write_text(EXPERIMENTS)
    (folder / "results" / "README.md").write_text(README)
    assert not main(words(folder, "run"))
    return folder


@pytest.fixture
def copied(ran, tmp_path):
    """A copy of it that may be changed."""
    return shutil.copytree(ran, tmp_path / "copied")


@pytest.mark.extensive
def test_each_trial_leaves_a_curve_and_a_result_and_the_tables_hold_them(main, copied):
    cloned, gail = (json.loads((copied / "results" / name / "3" / "result.json").read_text()) for name in ("cloned", "gail"))
    assert (cloned["steps"], gail["steps"]) == (0, 128)
    assert list(gail["evaluation"]) == ["deterministic", "stochastic", "beside", "expert", "random"]
    assert gail["evaluation"]["expert"]["return_mean"] > 900.0
    assert gail["demonstrations"]["synthetic"]
    assert gail["made_with"][0]["vector_units"]
    assert set(gail["made_with"][0]["versions"]) == {"python", "torch", "mujoco", "numpy", "loco-mujoco", "mushroom-rl"}
    curves = [(copied / "results" / name / "3" / "curve.csv").read_text().splitlines() for name in ("cloned", "gail")]
    assert [[line.split(",")[0] for line in lines] for lines in curves] == [["step"], ["step", "64", "128"]]
    main(words(copied, "tables"))
    assert "| GAIL | `python launchers/run_gail.py" in (copied / "results" / "README.md").read_text()


@pytest.mark.extensive
def test_what_is_finished_is_not_done_again(main, copied, monkeypatch, capfd):
    before = {path: path.read_bytes() for path in (copied / "results").rglob("*.*")}
    evaluated = []
    monkeypatch.setattr(publishing, "_evaluate", lambda trial: evaluated.append(trial.name))
    assert not main(words(copied, "run"))
    assert ("begins" in capfd.readouterr().out, evaluated) == (False, [])
    assert {path: path.read_bytes() for path in (copied / "results").rglob("*.*")} == before

    # An agent that is newer is evaluated again, and so is the one that it is beside.
    at = (copied / "runs" / "gail" / "3" / "evaluation.json").stat().st_mtime_ns + 1_000_000_000
    os.utime(copied / "runs" / "cloned" / "3" / "agent.safetensors", ns=(at, at))
    assert not main(words(copied, "run"))
    assert ("begins" in capfd.readouterr().out, evaluated) == (False, ["cloned", "gail"])

    (copied / "runs" / "gail" / "3.made_with.json").unlink()
    with pytest.raises(UserError, match="3.made_with.json beside it is missing"):
        main(words(copied, "run", "gail"))


@pytest.mark.extensive
def test_a_run_with_other_options_is_not_published_as_this_one(main, copied, capfd):
    path = copied / "results" / "experiments.yaml"
    path.write_text(path.read_text().replace("fixed: {", "fixed: {max_kl: 0.02, "))
    with pytest.raises(UserError, match="max_kl is 0.01, not 0.02"):
        main(words(copied, "run"))
    (copied / "runs" / "cloned" / "3" / "result.json").unlink()  # nor is one that is not finished gone on with
    with pytest.raises(UserError, match="is not trained"):
        main(words(copied, "run"))
    assert "max_kl" in capfd.readouterr().out


@pytest.mark.extensive
def test_a_check_finds_the_figure_that_was_altered_and_no_other(main, copied, capsys):
    path = copied / "results" / "gail" / "3" / "result.json"
    result = json.loads(path.read_text())
    result["evaluation"]["deterministic"]["returns"]["0"] += 0.01
    path.write_text(json.dumps(result))
    assert main(words(copied, "check")) == 1
    printed = capsys.readouterr().out
    assert "| differs: evaluation.deterministic.returns.0 |" in printed
    assert "| cloned |" not in printed


@pytest.mark.extensive
def test_a_run_that_is_stopped_saves_and_says_so(copied):
    path = copied / "results" / "experiments.yaml"
    path.write_text(path.read_text().replace("n_steps: 128", "n_steps: 1000000, checkpoint_every: 0"))
    progress = copied / "runs" / "gail" / "3" / "progress.csv"
    command = [sys.executable, str(BENCHMARKS / "results.py"), *words(copied, "run", "gail")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        while len(progress.read_text().splitlines()) < 5:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=120)
    assert (process.returncode, "stopped by SIGTERM, and saved" in printed) == (143, True)
