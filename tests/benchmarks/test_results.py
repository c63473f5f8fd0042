"""The published results: what is made of a run in closed form, their tables, and the whole way with tiny networks."""

import copy
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from qi_ext.demonstrations import load_demonstrations
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
README = "before\n<!-- tables: python benchmarks/results.py tables -->\n<!-- end of tables -->\nafter\n"
TINY = {
    **{
        "task": "simple",
        "n_steps": 128,
        "batch_size": 64,
        "n_envs": 4,
        "lanes_per_block": 2,
        "pool": "serial",
        "device": "cpu",
    },
    **{"policy_hidden": [16], "critic_hidden": [16], "discriminator_hidden": [16], "discriminator_batch_size": 32},
}
CLONED = {"name": "cloned", "what": "cloning", "options": TINY | {"n_steps": 0, "warm_start": 1}, "seeds": [3], "episodes": 1}
GAIL = {"name": "gail", "what": "GAIL", "options": TINY, "seeds": [3], "episodes": 1, "beside": "cloned", "reproduce": True}


@pytest.fixture(scope="module")
def modules():
    """The modules of the benchmark, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import experiments
        import published
        import reproduction
        import result_tables
        import running

        yield {module.__name__: module for module in (experiments, published, reproduction, result_tables, running)}


@pytest.fixture
def experiments(modules, tmp_path):
    """experiments(*rows): what is read of an experiments.yaml with these."""

    def read(*rows):
        (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(list(rows), sort_keys=False))
        return modules["experiments"].read_experiments(tmp_path)

    return read


# Ten updates of 5,000 steps at 50 steps/s: 100 s each.
def write_progress(path, returns, episodes):
    with open(path, "w", newline="") as file:
        names = ["step", "return_mean", "length_mean", "episodes", "speed_along", "steps_per_second", "std"]
        writer = csv.DictWriter(file, [*names, "discriminator_accuracy_policy"])
        writer.writeheader()
        for i, (return_mean, ended) in enumerate(zip(returns, episodes, strict=True), start=1):
            row = {"step": 5000 * i, "return_mean": return_mean, "length_mean": return_mean, "episodes": ended}
            writer.writerow(row | {"speed_along": 0.1 * i, "steps_per_second": 50.0, "std": 0.123456})


def test_minutes_count_what_came_before_the_first_update(modules, tmp_path):
    write_progress(tmp_path / "progress.csv", [1.0] * 3, [1] * 3)
    rows = modules["published"].progress(tmp_path / "progress.csv", training_seconds=360.0)
    assert [row["minutes"] * 60.0 for row in rows] == pytest.approx([160.0, 260.0, 360.0])
    assert [row["begin"] for row in rows] == [0, 5000, 10_000]


def test_a_return_is_reached_by_the_mean_over_the_episodes_of_the_last_20000_steps(modules, tmp_path):
    # Four updates are 20,000 steps. Weighted by episodes: 400 from update 6 on, (3 * 300 + 1 * 700) / 4.
    write_progress(tmp_path / "progress.csv", [350, 100, None, 300, None, 700, 700], [1, 20, 0, 3, 0, 1, 1])
    published = modules["published"]
    rows = published.progress(tmp_path / "progress.csv", 700.0)
    assert published.reached(rows, 400) == {"steps": 30_000, "minutes": pytest.approx(10.0)}
    assert published.reached(rows, 400.1) == {"steps": 35_000, "minutes": pytest.approx(700 / 60)}
    assert published.reached(rows, 350) == {"steps": 5000, "minutes": pytest.approx(100 / 60)}
    assert published.reached(rows, 460.1) is None
    assert published.reached([], 400) is None


def test_of_updates_longer_than_20000_steps_the_last_one_counts(modules):
    rows = [{"begin": 0, "step": 30_000, "episodes": 9, "return_mean": 500.0, "minutes": 1.0}]
    rows.append({"begin": 30_000, "step": 60_000, "episodes": 1, "return_mean": 900.0, "minutes": 2.0})
    assert modules["published"].reached(rows, 800) == {"steps": 60_000, "minutes": 2.0}


def test_a_curve_is_short_and_its_means_are_over_episodes(modules, tmp_path):
    published = modules["published"]
    # 401 updates, three a row; in each three the episodes are 1, 3 and 0.
    numbers = range(401)
    write_progress(tmp_path / "progress.csv", [(100, 200, None)[i % 3] for i in numbers], [(1, 3, 0)[i % 3] for i in numbers])
    text = published.curve_text(published.progress(tmp_path / "progress.csv", 40_100.0))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 134
    assert (rows[0]["step"], rows[0]["episodes"], rows[0]["return_mean"]) == ("15000", "4", "175")
    assert (rows[0]["minutes"], rows[0]["std"], rows[0]["discriminator_accuracy_policy"]) == ("5", "0.1235", "")
    assert float(rows[0]["speed_along"]) == pytest.approx(0.2)
    assert rows[-1]["step"] == "2005000"


def evaluated(returns, falls=1):
    """What `evaluate` gives for two episodes in each direction."""
    directions = [
        {"direction_deg": 90.0 * i, "return_mean": value, "falls": falls, "episodes": 2} for i, value in enumerate(returns)
    ]
    gait = {name: 0.5 for name in ("velocity_error_along", "velocity_error_across", "yaw_drift", "energy_per_metre")}
    gait |= {name: 0.25 for name in ("torque_saturation", "stride_frequency", "duty_factor", "state_distance")}
    return {
        "return_mean": float(np.mean(returns)),
        "directions": directions,
        "mean": gait | {"foot_clearance": None, "feet": {}, "state_samples": 7},
    }


@pytest.fixture
def published(modules, experiments, tmp_path):
    """published(seed, deterministic, **row): the result that is published of a run with these returns of two directions."""

    def make(seed, deterministic, **row):
        rows = [CLONED | {"seeds": [0, 1, 2]}, GAIL | {"seeds": [0, 1, 2], "robustness": True} | row]
        experiment = experiments(*rows)["gail"]
        directory = tmp_path / "run"
        directory.mkdir(exist_ok=True)
        save_file({"weight": np.arange(3.0)}, directory / "agent.safetensors", metadata={"seed": str(seed)})
        write_progress(directory / "progress.csv", [500.0], [1])
        run = {"steps": 5000, "training_seconds": 120.0, "demonstrations": "synthetic: x", "demonstrations_hash": "abc"}
        (directory / "result.json").write_text(json.dumps(run | {"device": "cpu"}))
        evaluation = {
            "deterministic": evaluated(deterministic),
            "stochastic": evaluated([100.0, 300.0]),
            "beside": evaluated([1.0]),
        }
        evaluation |= {"expert": evaluated([940.0, 930.0], falls=0), "random": evaluated([10.0, 5.0], falls=2)}
        disturbed = {name: evaluation[name] for name in ("deterministic", "beside", "expert")}
        evaluation["robustness"] = [{"condition": "pushes of 30 N"} | disturbed]
        (directory / "evaluation.json").write_text(json.dumps(evaluation))
        made = {"commit": "c", "clean": True, "processor": "P", "cores": 2, "gpu": None, "versions": {"python": "3.11"}}
        return modules["published"].publication(experiment, seed, directory, [made])[0]

    return make


def test_what_is_published_of_a_run(published):
    result = published(1, [800.0, 600.0])
    assert result["evaluation"]["deterministic"] == {
        **{"return_mean": 700.0, "lowest": 600.0, "falls": 2, "episodes": 4, "returns": {"0": 800.0, "90": 600.0}},
        "gait": {**dict.fromkeys(("velocity_error_along", "velocity_error_across", "yaw_drift", "energy_per_metre"), 0.5)}
        | dict.fromkeys(("torque_saturation", "stride_frequency", "duty_factor", "state_distance"), 0.25)
        | {"foot_clearance": None},
    }
    assert result["robustness"][0]["condition"] == "pushes of 30 N"
    assert result["robustness"][0]["expert"]["lowest"] == 930.0
    assert result["return_reached"] == {"400": {"steps": 5000, "minutes": 2.0}, "800": None}
    assert (result["training_minutes"], result["demonstrations"]["synthetic"]) == (2.0, True)
    training, evaluation = result["commands"]
    assert training.startswith("python launchers/run_gail.py --task simple --n_steps 128 ")
    assert training.endswith("--seed 1 --results_dir runs/results/gail --evaluation_episodes 0")
    assert evaluation.startswith("python launchers/evaluate.py --agent runs/results/gail/1/agent.safetensors --episodes 1 ")
    assert "--robustness --beside runs/results/cloned/1/agent.safetensors" in evaluation


def test_the_hash_of_an_agents_tensors_is_not_that_of_its_metadata(modules, tmp_path):
    hashes = []
    for value, metadata in ((1.0, {"a": "1"}), (1.0, {"b": "2"}), (np.nextafter(1.0, 2.0), {"a": "1"})):
        save_file({"weight": np.array([value])}, tmp_path / "agent.safetensors", metadata=metadata)
        hashes.append(modules["published"].agent_hashes(tmp_path / "agent.safetensors"))
    assert len({each["file_sha256"] for each in hashes}) == 3
    assert hashes[0]["tensors_sha256"] == hashes[1]["tensors_sha256"] != hashes[2]["tensors_sha256"]


def rows_of(text, heading):
    """The rows of the table below a heading, lists of cells."""
    lines = text.split(f"{heading}\n", 1)[1].lstrip("\n").split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_tables_hold_means_and_deviations_over_seeds(modules, published, experiments):
    results = {"gail": [published(0, [800.0, 600.0]), published(1, [900.0, 900.0])]}
    results["gail"][1]["return_reached"]["400"] = {"steps": 15_000, "minutes": 4.0}
    results["gail"][1]["return_reached"]["800"] = {"steps": 15_000, "minutes": 4.0}
    read = experiments(CLONED | {"seeds": [0, 1]}, GAIL | {"seeds": [0, 1], "robustness": True})
    text = modules["result_tables"].written_anew(README, read, results)
    assert text.startswith("before\n<!-- tables") and text.endswith("<!-- end of tables -->\nafter\n")
    head, _, gail, expert, random = rows_of(text, "## Simple")
    assert gail[0] == "GAIL"
    assert gail[1].startswith("`python launchers/run_gail.py --task simple --n_steps 128")
    # 700 and 900: mean 800, deviation 141.4.
    assert gail[2:7] == ["0 1", "5,000", "2.0", "800 +- 141 (600)", "4/8"]
    assert gail[7:] == ["200 +- 0 (100)", "4/8", "10,000, 3.0", "1 of 2 seeds"]
    assert expert[:1] + expert[5:7] == ["trot controller", "935 +- 0 (930)", "0/8"]
    assert random[:1] + random[5:7] == ["random torques", "8 +- 0 (5)", "8/8"]
    assert "Not run yet: cloned 0 1.\n" in text
    walks = rows_of(text, "### Simple: how the agents walk, acting deterministically")
    assert [row[0] for row in walks[2:]] == ["GAIL", "trot controller"]
    assert walks[2][1] == "+0.500" and walks[2][8] == "-"
    (disturbed,) = rows_of(text, "### Simple: under disturbances, acting deterministically")[2:]
    assert disturbed[:4] == ["GAIL; beside: cloning", "pushes of 30 N", "800 +- 141 (600)", "4/8"]
    assert disturbed[-2:] == ["935 +- 0 (930)", "0/8"]
    assert "2 cores, P, no GPU, learning on cpu; python 3.11." in text
    assert modules["result_tables"].written_anew(text, read, results) == text
    assert modules["result_tables"].written_anew(text, read, {}).split("<!--")[0] == "before\n"


def test_baselines_that_are_the_same_episodes_count_once(modules, published, experiments):
    """The trot controller meets the same starts beside each agent of a seed and a number of steps."""
    first, second = published(0, [800.0]), published(1, [800.0])
    again = copy.deepcopy(first) | {"name": "again"}
    read = experiments(GAIL | {"seeds": [0, 1], "beside": ""}, GAIL | {"name": "again", "what": "again", "beside": ""})
    for found in (first, second, again):
        found["robustness"] = []
    text = modules["result_tables"].written_anew(README, read, {"gail": [first, second], "again": [again]})
    expert, random = rows_of(text, "## Simple")[-2:]
    assert (expert[6], random[6]) == ("0/8", "8/8")


def test_conditions_are_joined_by_name(modules, published, experiments):
    results = [published(0, [800.0]), published(1, [600.0])]
    for result, order in zip(results, (1, -1), strict=True):
        other = copy.deepcopy(result["robustness"][0]) | {"condition": "noise"}
        other["deterministic"]["return_mean"] = 10.0
        result["robustness"] = [*result["robustness"], other][::order]
    read = experiments(CLONED | {"seeds": [0, 1]}, GAIL | {"seeds": [0, 1], "robustness": True})
    text = modules["result_tables"].written_anew(README, read, {"gail": results})
    pushes, noise = rows_of(text, "### Simple: under disturbances, acting deterministically")[2:]
    assert (pushes[2], noise[2]) == ("700 +- 141 (600)", "10 +- 0 (600)")


def test_one_seed_has_no_deviation_and_what_was_never_reached_no_figure(modules, published, experiments):
    result = published(0, [800.0])
    read = experiments(CLONED, GAIL)
    text = modules["result_tables"].written_anew(README, read, {"gail": [result]})
    gail = rows_of(text, "## Simple")[2]
    assert (gail[5], gail[-1]) == ("800 (800)", "-")


def test_the_committed_tables_are_those_of_the_committed_results(modules):
    tables = modules["result_tables"]
    experiments = modules["experiments"].read_experiments(ROOT / "results")
    text = (ROOT / "results" / "README.md").read_text()
    anew = tables.written_anew(text, experiments, tables.read_results(ROOT / "results", experiments))
    assert anew == text, "write them anew: python benchmarks/results.py tables"


def test_the_committed_results_are_of_the_demonstrations_that_there_are_now(modules):
    experiments = modules["experiments"].read_experiments(ROOT / "results")
    for name, results in modules["result_tables"].read_results(ROOT / "results", experiments).items():
        config = experiments[name].config
        demonstrations = load_demonstrations(config.demonstrations, task_commands(config.task.task), config.compat)
        assert {result["demonstrations"]["hash"] for result in results} == {demonstrations.content_hash()}


def test_the_table_of_the_projects_readme_is_that_of_the_results():
    """Its rows are those of the results' tables, with less in them."""
    ours, theirs = ((ROOT / name).read_text() for name in ("README.md", "results/README.md"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in theirs.splitlines() if line.startswith("| ")]
    hard = theirs.index("## Hard\n")
    published = {row[1]: row for row in cells if row[1].startswith("`python")}
    baselines = {row[0]: row for row in (rows_of(theirs[hard:], "## Hard")) if row[0] in ("trot controller", "random torques")}

    def short(text):
        return re.sub(r" \+- \d+", "", text)

    rows = rows_of(ours, "same on any machine of that type.")[2:]
    assert len(rows) >= 4
    for what, command, deterministic, stochastic, falls, training in rows:
        if not command:
            row = baselines[what.removesuffix(", hard")]
            assert (deterministic, falls) == (short(row[5]), row[6].replace("/", " of "))
            continue
        row = published[command]
        assert (deterministic, stochastic) == (short(row[5]), short(row[7])), what
        (fallen, of), (others, _) = row[6].split("/"), row[8].split("/")
        assert falls == f"{fallen}, {others} of {of} each"
        assert training == f"{row[4]} minutes"


def test_a_result_of_other_options_or_defaults_than_the_experiment_has_is_refused(modules, experiments, tmp_path):
    read = experiments(CLONED)
    made = {"options": read["cloned"].options, "settings": read["cloned"].settings, "commands": read["cloned"].commands(3)}
    folder = tmp_path / "cloned" / "3"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(made))
    assert modules["result_tables"].read_results(tmp_path, read) == {"cloned": [made]}
    del made["settings"]["disturb_after"]  # which came later, and here leaves everything as it was
    (folder / "result.json").write_text(json.dumps(made))
    assert modules["result_tables"].read_results(tmp_path, read) == {"cloned": [made]}
    others = [made | {"options": {"task": "hard"}}, made | {"settings": made["settings"] | {"max_kl": 0.02}}]
    others.append(made | {"commands": [made["commands"][0], f"{made['commands'][1]} --robustness"]})
    others.append(made | {"settings": made["settings"] | {"demonstrations": "other.npz"}})
    for text, words in (*((json.dumps(other), "options or defaults") for other in others), ("{", "cannot be read")):
        (folder / "result.json").write_text(text)
        with pytest.raises(UserError, match=words):
            modules["result_tables"].read_results(tmp_path, read)


def test_the_settings_of_an_experiment_are_its_defaults_too_without_seed_place_and_machine(experiments):
    settings = experiments(CLONED)["cloned"].settings
    assert (settings["n_steps"], settings["max_kl"]) == (0, 0.01)
    assert not settings.keys() & {"seed", "results_dir", "evaluation_episodes", "n_workers", "pool", "device"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "Über"}, "lower-case"),
        ({"name": "cloned"}, "taken"),
        ({"what": None}, "what"),
        ({"options": {"task": "simple", "colour": 1}}, "--colour"),
        ({"options": {"seed": 1}}, "seed"),
        ({"options": {"n_steps": -1}}, "--n_steps"),
        ({"seeds": []}, "seeds"),
        ({"seeds": ["0"]}, "seeds"),
        ({"episodes": 0}, "episodes"),
        ({"robustness": 1}, "robustness"),
        ({"beside": "nothing"}, "beside"),
        ({"beside": ["cloned"]}, "beside"),
        ({"options": {1: 2}}, "options"),
        ({"beside": "cloned", "seeds": [3, 4]}, "same seeds"),
        ({"speed": 1.0}, "speed: no such key"),
    ],
)
def test_a_row_that_cannot_be_run_is_refused_by_name(experiments, change, named):
    with pytest.raises(UserError) as caught:
        experiments(CLONED, GAIL | change)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_row_has_96_episodes_unless_it_says_otherwise(experiments):
    bare = {name: GAIL[name] for name in ("name", "what")}
    (simple,) = experiments(bare | {"options": {"task": "simple"}}).values()
    (hard,) = experiments(bare | {"options": {"task": "hard"}}).values()
    assert (simple.episodes, hard.episodes, hard.seeds) == (96, 12, (0, 1, 2))


def test_on_the_same_machine_every_figure_must_be_the_same(modules, published):
    reproduction, first = modules["reproduction"], published(0, [800.0, 600.0])
    again = copy.deepcopy(first)
    again["training_minutes"] = 7.0
    again["return_reached"]["400"]["minutes"] = 7.0
    again["made_with"][0] |= {"commit": "other", "cores": 64}
    del again["evaluation"]["beside"]
    assert reproduction.same_machine(first, again)
    assert reproduction.exact_differences(first, again) == []
    again["evaluation"]["stochastic"]["falls"] += 1
    again["agent"]["tensors_sha256"] = "0"
    again["return_reached"]["400"] = None
    names = {"evaluation.stochastic.falls", "agent.tensors_sha256", "return_reached.400"}
    assert set(reproduction.exact_differences(first, again)) == names


def test_vector_units_tell_processors_of_one_name_apart(modules, published):
    first, again = published(0, [800.0]), published(0, [800.0])
    again["made_with"][0]["vector_units"] = "AVX2"
    assert modules["reproduction"].same_machine(first, again), "the first was made before they were noted"
    first["made_with"][0]["vector_units"] = "AVX512"
    assert not modules["reproduction"].same_machine(first, again)


@pytest.mark.parametrize("change", [{"processor": "Q"}, {"gpu": "G"}, {"versions": {"python": "3.12"}}])
def test_another_processor_or_version_is_another_machine(modules, published, change):
    again = published(0, [800.0])
    again["made_with"][0] |= change
    assert not modules["reproduction"].same_machine(published(0, [800.0]), again)


def test_elsewhere_mean_returns_must_lie_near_the_published_ones(modules, published):
    far_off = modules["reproduction"].far_off
    # Mean 800, deviation 10: three of them are less than 5 %, which are 40.
    seeds = [published(seed, [value]) for seed, value in enumerate((790.0, 800.0, 810.0))]
    assert far_off(seeds, published(0, [839.0])) == far_off(seeds, published(0, [761.0])) == []
    assert far_off(seeds, published(0, [841.0])) == far_off(seeds, published(0, [759.0])) != []
    # Deviation 100: three are 300.
    seeds = [published(seed, [value]) for seed, value in enumerate((500.0, 600.0, 700.0))]
    assert far_off(seeds, published(0, [899.0])) == []
    assert far_off(seeds, published(0, [901.0])) == ["evaluation.deterministic.return_mean"]


def test_what_is_evaluated_beside_must_come_first(modules, experiments, tmp_path):
    cloned, gail = experiments(CLONED, GAIL).values()
    require_beside = modules["running"].require_beside
    require_beside([(cloned, 3), (gail, 3)], tmp_path)
    with pytest.raises(UserError, match="cloned, seed 3"):
        require_beside([(gail, 3)], tmp_path)


def launch(folder, *words):
    command = [sys.executable, str(BENCHMARKS / "results.py"), *words]
    command += ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of two experiments that were run with tiny networks."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "results").mkdir()
    (folder / "results" / "experiments.yaml").write_text(yaml.safe_dump([CLONED, GAIL], sort_keys=False))
    (folder / "results" / "README.md").write_text(README)
    code, _, errors = launch(folder, "run")
    assert code == 0, errors
    return folder


def test_each_experiment_leaves_a_curve_and_a_result(ran):
    cloned, gail = (json.loads((ran / "results" / name / "3" / "result.json").read_text()) for name in ("cloned", "gail"))
    assert (cloned["steps"], gail["steps"]) == (0, 128)
    assert list(gail["evaluation"]) == ["deterministic", "stochastic", "beside", "expert", "random"]
    assert gail["evaluation"]["expert"]["return_mean"] > 900.0
    assert gail["demonstrations"]["synthetic"]
    assert gail["made_with"][0]["vector_units"]
    assert set(gail["made_with"][0]["versions"]) == {"python", "torch", "mujoco", "numpy", "loco-mujoco", "mushroom-rl"}
    with open(ran / "results" / "gail" / "3" / "curve.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["64", "128"]
    assert len((ran / "results" / "cloned" / "3" / "curve.csv").read_text().splitlines()) == 1


def test_what_is_finished_is_not_done_again(ran):
    before = {path: path.read_bytes() for path in (ran / "results").rglob("*.*")}
    code, _, errors = launch(ran, "run")
    assert (code, "launchers" in errors) == (0, False)
    assert {path: path.read_bytes() for path in (ran / "results").rglob("*.*")} == before


def test_an_agent_that_is_newer_is_evaluated_again_and_so_is_what_it_is_beside(ran, tmp_path):
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    evaluation = tmp_path / "runs" / "gail" / "3" / "evaluation.json"
    at = evaluation.stat().st_mtime_ns + 1_000_000_000
    os.utime(tmp_path / "runs" / "cloned" / "3" / "agent.safetensors", ns=(at, at))
    code, _, errors = launch(tmp_path, "run")
    assert (code, errors.count("launchers/evaluate.py"), errors.count("launchers/run_gail.py")) == (0, 2, 0)


def test_a_run_of_which_nobody_knows_what_made_it_is_not_published(ran, tmp_path):
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs" / "gail" / "3.made_with.json").unlink()
    code, _, errors = launch(tmp_path, "run")
    assert (code, "3.made_with.json beside it is missing" in errors) == (2, True)


def test_a_run_with_other_options_is_not_published_as_this_one(ran, tmp_path):
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    changed = CLONED | {"options": CLONED["options"] | {"max_kl": 0.02}}
    (tmp_path / "results" / "experiments.yaml").write_text(yaml.safe_dump([changed], sort_keys=False))
    code, _, errors = launch(tmp_path, "run")
    assert (code, "max_kl" in errors) == (2, True)


def test_the_tables_are_written_into_the_readme(ran, tmp_path):
    shutil.copytree(ran / "results", tmp_path / "results")
    assert launch(tmp_path, "tables")[0] == 0
    assert "| GAIL | `python launchers/run_gail.py" in (tmp_path / "results" / "README.md").read_text()


def test_a_check_finds_the_figure_that_was_altered_and_no_other(ran, tmp_path):
    shutil.copytree(ran / "results", tmp_path / "results")
    path = tmp_path / "results" / "gail" / "3" / "result.json"
    result = json.loads(path.read_text())
    result["evaluation"]["deterministic"]["returns"]["0"] += 0.01
    path.write_text(json.dumps(result))
    code, printed, errors = launch(tmp_path, "check")
    assert code == 1, errors
    assert "| differs: evaluation.deterministic.returns.0 |" in printed
    assert "| cloned |" not in printed


def test_a_row_can_be_checked_that_does_not_say_so(ran, tmp_path):
    shutil.copytree(ran / "results", tmp_path / "results")
    code, printed, errors = launch(tmp_path, "check", "cloned")
    assert code == 0, errors
    assert re.search(r"\| cloned \| 3 \|.*\| same \| identical \|", printed)
    assert "| gail |" not in printed


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["walk"], "walk"),
        (["run", "nothing"], "nothing"),
        (["tables", "gail"], "names"),
        (["check", "--seeds", "3"], "--seeds"),
        (["check", "cloned"], "check: nothing of that is published"),
        (["run", "--seeds", "3", "7"], "has 7"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, modules, words, named, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from results import main

    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump([CLONED, GAIL], sort_keys=False))
    with pytest.raises(UserError) as caught:
        main([*words, "--results", str(tmp_path), "--runs", str(tmp_path / "runs")])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
