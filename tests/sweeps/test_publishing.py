"""Published trials: what is made of a run in closed form, the tables, and the comparison with a run that was made again."""

import copy
import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from qi_ext.sweeps.published_curve import curve_csv, read_curve, return_reached
from qi_ext.sweeps.published_result import agent_hashes, learning_settings, published_result, recorded_commands
from qi_ext.sweeps.published_tables import by_name, read_results, with_tables
from qi_ext.sweeps.publishing import read_published, require_trained_beside
from qi_ext.sweeps.reproduction import exact_differences, returns_out_of_tolerance, same_machine
from qi_ext.utils.errors import UserError

README = "before\n<!-- tables: python benchmarks/results.py tables -->\n<!-- end of tables -->\nafter\n"
EXPERIMENTS = """
trials:
- {name: cloned, what: cloning, task: simple, n_steps: 0, warm_start: 1, gamma: 1, policy_hidden: [16, 8], pool: serial,
   episodes: 1}
- {name: gail, what: GAIL, task: simple, n_steps: 128, beside: cloned, robustness: true, reproduce: true}
"""


@pytest.fixture
def sweep(tmp_path):
    """The published sweep of two trials with three seeds each."""
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS)
    return read_published(tmp_path, tmp_path / "runs")


# Updates of 5,000 steps at 50 steps/s: 100 s each.
def write_progress(path, returns, episodes):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "return_mean", "length_mean", "episodes", "speed_along", "steps_per_second", "std"])
        for i, (return_mean, ended) in enumerate(zip(returns, episodes, strict=True), start=1):
            writer.writerow([5000 * i, return_mean, return_mean, ended, 0.1 * i, 50.0, 0.123456])
    return path


def test_minutes_count_what_came_before_the_first_update(tmp_path):
    curve = read_curve(write_progress(tmp_path / "progress.csv", [1.0] * 3, [1] * 3), training_seconds=360.0)
    assert curve["minutes"] * 60.0 == pytest.approx([160.0, 260.0, 360.0])


def test_a_return_is_reached_by_the_mean_over_the_episodes_of_the_last_20000_steps(tmp_path):
    # Four updates are 20,000 steps. Weighted by episodes: 400 from update 6 on, (3 * 300 + 1 * 700) / 4.
    path = write_progress(tmp_path / "progress.csv", [350, 100, None, 300, None, 700, 700], [1, 20, 0, 3, None, 1, 1])
    curve = read_curve(path, 700.0)
    assert return_reached(curve, 400) == {"steps": 30_000, "minutes": pytest.approx(10.0)}
    assert return_reached(curve, 400.1) == {"steps": 35_000, "minutes": pytest.approx(700 / 60)}
    assert return_reached(curve, 350) == {"steps": 5000, "minutes": pytest.approx(100 / 60)}
    assert return_reached(curve, 460.1) is None
    assert return_reached(read_curve(tmp_path / "none.csv", 0.0), 400) is None


def test_of_updates_longer_than_20000_steps_the_last_one_counts():
    columns = {"begin": [0, 30_000], "step": [30_000, 60_000], "episodes": [9, 1], "return_mean": [500, 900], "minutes": [1, 2]}
    curve = {name: np.array(values, float) for name, values in columns.items()}
    assert return_reached(curve, 800) == {"steps": 60_000, "minutes": 2.0}


def test_a_curve_is_short_and_its_means_are_over_episodes(tmp_path):
    # 401 updates, three a row; in each three the episodes are 1, 3 and 0.
    returns, episodes = ([values[i % 3] for i in range(401)] for values in ((100, 200, None), (1, 3, 0)))
    rows = list(
        csv.DictReader(io.StringIO(curve_csv(read_curve(write_progress(tmp_path / "p.csv", returns, episodes), 40_100))))
    )
    assert len(rows) == 134
    assert (rows[0]["step"], rows[0]["episodes"], rows[0]["return_mean"]) == ("15000", "4", "175")
    assert (rows[0]["minutes"], rows[0]["std"], rows[0]["discriminator_accuracy_policy"]) == ("5", "0.1235", "")
    assert float(rows[0]["speed_along"]) == pytest.approx(0.2)
    assert rows[-1]["step"] == "2005000"


def evaluated(returns, falls=1):
    """A result of `evaluate` for two episodes in each direction."""
    directions = [
        {"direction_deg": 90.0 * i, "return_mean": value, "falls": falls, "episodes": 2, "velocity_error_mean": 0.1 * (i + 1)}
        for i, value in enumerate(returns)
    ]
    gait = dict.fromkeys(("velocity_error_along", "velocity_error_across", "yaw_drift", "energy_per_metre"), 0.5)
    gait |= dict.fromkeys(("torque_saturation", "stride_frequency", "duty_factor", "state_distance"), 0.25)
    mean = gait | {"foot_clearance": None, "feet": {}, "state_samples": 7}
    return {"return_mean": float(np.mean(returns)), "directions": directions, "mean": mean}


@pytest.fixture
def make(sweep):
    """make(seed, deterministic): the published result of GAIL with these returns of two directions."""

    def make(seed, deterministic):
        trial = by_name(sweep.trials)["gail"][seed]
        trial.directory.mkdir(parents=True, exist_ok=True)
        save_file({"weight": np.arange(3.0)}, trial.directory / "agent.safetensors")
        write_progress(trial.directory / "progress.csv", [500.0], [1])
        run = {"steps": 5000, "training_seconds": 120.0, "demonstrations": "synthetic: x", "demonstrations_hash": "abc"}
        (trial.directory / "result.json").write_text(json.dumps(run | {"device": "cpu"}))
        evaluation = {
            "deterministic": evaluated(deterministic),
            "stochastic": evaluated([100.0, 300.0]),
            "beside": evaluated([1.0]),
            "expert": evaluated([940.0, 930.0], falls=0),
            "random": evaluated([10.0, 5.0], falls=2),
        }
        disturbed = {name: evaluation[name] for name in ("deterministic", "beside", "expert")}
        evaluation["robustness"] = [{"condition": "pushes of 30 N"} | disturbed]
        (trial.directory / "evaluation.json").write_text(json.dumps(evaluation))
        made = {"commit": "c", "clean": True, "processor": "P", "cores": 2, "gpu": None, "versions": {"python": "3.11"}}
        return published_result(trial, [made])[0]

    return make


def test_what_is_published_of_a_run(make):
    result = make(1, [800.0, 600.0])
    deterministic = result["evaluation"]["deterministic"]
    assert deterministic["gait"]["velocity_error"] == pytest.approx(0.15)
    assert deterministic.pop("gait").items() >= {"yaw_drift": 0.5, "duty_factor": 0.25, "foot_clearance": None}.items()
    assert deterministic == {
        **{"return_mean": 700.0, "lowest": 600.0, "falls": 2, "episodes": 4, "returns": {"0": 800.0, "90": 600.0}}
    }
    assert (result["robustness"][0]["condition"], result["robustness"][0]["expert"]["lowest"]) == ("pushes of 30 N", 930.0)
    assert result["return_reached"] == {"400": {"steps": 5000, "minutes": 2.0}, "800": None}
    assert (result["training_minutes"], result["demonstrations"]["synthetic"]) == (2.0, True)


def test_a_result_is_read_with_settings_of_any_number_of_digits(make, sweep, tmp_path):
    trial = by_name(sweep.trials)["gail"][1]
    exact = replace(trial, fixed=trial.fixed | {"max_kl": 0.012345678})
    folder = tmp_path / "results"
    (folder / "gail" / "1").mkdir(parents=True)
    make(1, [800.0, 600.0])
    result = published_result(exact, [])[0]
    (folder / "gail" / "1" / "result.json").write_text(json.dumps(result))
    assert read_results(folder, (exact,))["gail"][0]["settings"]["max_kl"] == 0.012345678


def test_the_commands_are_as_one_would_type_them(sweep):
    cloned, gail = (trials[1] for trials in by_name(sweep.trials).values())
    training, evaluation = recorded_commands(cloned)
    options = "--task simple --n_steps 0 --warm_start 1 --gamma 1 --policy_hidden 16 8 --pool serial"
    place = "--seed 1 --results_dir runs/results/cloned --evaluation_episodes 0"
    assert training == f"python launchers/run_gail.py {options} {place}"
    agent = "runs/results/cloned/1/agent.safetensors"
    evaluate = "python launchers/evaluate.py --agent"
    assert evaluation == f"{evaluate} {agent} --episodes 1 --pool serial --json runs/results/cloned/1/evaluation.json"
    assert f"--episodes 96 --robustness --beside {agent} --json" in recorded_commands(gail)[1]
    along = replace(gail, publication=replace(gail.publication, courses=("drawn", "circle")))
    assert "--episodes 96 --courses drawn circle --robustness" in recorded_commands(along)[1]


def test_settings_are_defaults_too_without_seed_place_and_machine(sweep):
    settings = learning_settings(sweep.trials[0].config)
    assert (settings["n_steps"], settings["max_kl"]) == (0, 0.01)
    assert not settings.keys() & {"seed", "results_dir", "evaluation_episodes", "n_workers", "pool", "device"}


def test_the_hash_of_an_agents_tensors_is_not_that_of_its_metadata(tmp_path):
    hashes = []
    for value, metadata in ((1.0, {"a": "1"}), (1.0, {"b": "2"}), (np.nextafter(1.0, 2.0), {"a": "1"})):
        save_file({"weight": np.array([value])}, tmp_path / "agent.safetensors", metadata=metadata)
        hashes.append(agent_hashes(tmp_path / "agent.safetensors"))
    assert len({each["file_sha256"] for each in hashes}) == 3
    assert hashes[0]["tensors_sha256"] == hashes[1]["tensors_sha256"] != hashes[2]["tensors_sha256"]


def test_an_agent_that_another_is_evaluated_beside_must_be_trained_first(sweep):
    cloned, gail = (trials[0] for trials in by_name(sweep.trials).values())
    require_trained_beside([cloned, gail])
    with pytest.raises(UserError, match="gail: is evaluated beside cloned, seed 0"):
        require_trained_beside([gail])


def test_an_unpublished_trial_is_refused_by_name(tmp_path):
    (tmp_path / "experiments.yaml").write_text("trials: [{name: mine}]")
    with pytest.raises(UserError, match=r"trial 0 \(mine\): needs `name`, and `what`"):
        read_published(tmp_path, tmp_path)


def rows_of(text, heading):
    """The rows of the table below a heading, lists of cells, without those of the head."""
    lines = text.split(f"{heading}\n", 1)[1].lstrip("\n").split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_tables_hold_means_and_deviations_over_seeds(make, sweep):
    results = {"gail": [make(0, [800.0, 600.0]), make(1, [900.0, 900.0])]}
    results["gail"][1]["return_reached"] = dict.fromkeys(("400", "800"), {"steps": 15_000, "minutes": 4.0})
    text = with_tables(README, sweep.trials, results)
    assert text.startswith("before\n<!-- tables") and text.endswith("<!-- end of tables -->\nafter\n")
    gail, expert, random = rows_of(text, "## Simple")
    assert gail[:2] == ["GAIL", "`python launchers/run_gail.py --task simple --n_steps 128`"]
    # 700 and 900: mean 800, deviation 141.4.
    assert gail[2:7] == ["0 1", "5,000", "2.0", "800 +- 141 (600)", "4/8"]
    assert gail[7:] == ["200 +- 0 (100)", "4/8", "10,000, 3.0", "1 of 2 seeds"]
    assert expert[:1] + expert[5:7] == ["trot controller", "935 +- 0 (930)", "0/8"]
    assert random[:1] + random[5:7] == ["random torques", "8 +- 0 (5)", "8/8"]
    assert "Not run yet: cloned 0 1 2, gail 2.\n" in text
    gail, expert = rows_of(text, "### Simple: how the agents walk, acting deterministically")
    assert (gail[:3], gail[10], expert[0]) == (["GAIL", "0.150", "+0.500"], "-", "trot controller")
    (disturbed,) = rows_of(text, "### Simple: under disturbances, acting deterministically")
    assert disturbed[:4] == ["GAIL; beside: cloning", "pushes of 30 N", "800 +- 141 (600)", "4/8"]
    assert disturbed[-2:] == ["935 +- 0 (930)", "0/8"]
    assert "2 cores, P, no GPU, learning on cpu; python 3.11." in text
    assert with_tables(text, sweep.trials, results) == text


def test_what_several_trials_share_counts_once_and_conditions_are_joined_by_name(make, sweep):
    """The trot controller meets the same starts beside each agent of a seed and a number of steps."""
    results = [make(0, [800.0]), make(1, [600.0])]
    for result, order in zip(results, (1, -1), strict=True):
        other = copy.deepcopy(result["robustness"][0]) | {"condition": "noise"}
        other["deterministic"]["return_mean"] = 10.0
        result["robustness"] = [*result["robustness"], other][::order]
    alone = copy.deepcopy(results[0]) | {"robustness": []}
    text = with_tables(README, sweep.trials, {"cloned": [alone], "gail": results})
    cloned, _, expert, random = rows_of(text, "## Simple")
    assert (expert[6], random[6]) == ("0/8", "8/8")
    assert (cloned[5], cloned[-1]) == ("800 (800)", "-"), "one seed has no deviation"
    pushes, noise = rows_of(text, "### Simple: under disturbances, acting deterministically")
    assert (pushes[2], noise[2]) == ("700 +- 141 (600)", "10 +- 0 (600)")


def test_a_result_of_another_evaluation_or_other_settings_than_the_trial_has_is_refused(make, sweep, tmp_path):
    result, path = make(1, [800.0]), tmp_path / "results" / "gail" / "1" / "result.json"
    path.parent.mkdir(parents=True)

    def read(**changed):
        path.write_text(json.dumps(result | changed))
        return read_results(tmp_path / "results", sweep.trials)

    assert read() == {"gail": [result]}
    del result["settings"]["disturb_after"]  # which came later, and here leaves everything as it was
    assert read() == {"gail": [result]}
    for changed in (
        {"settings": result["settings"] | {"max_kl": 0.03}},
        {"settings": result["settings"] | {"demonstrations": "other.npz"}},
        {"commands": [result["commands"][0], f"{result['commands'][1]} --robustness"]},
    ):
        with pytest.raises(UserError, match="was made with another evaluation or other settings"):
            read(**changed)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path / "results", sweep.trials)


def test_on_the_same_machine_every_figure_must_be_the_same(make):
    first = make(0, [800.0, 600.0])
    again = copy.deepcopy(first)
    again["training_minutes"] = again["return_reached"]["400"]["minutes"] = 7.0
    again["made_with"][0] |= {"commit": "other", "cores": 64}
    del again["evaluation"]["beside"]
    assert same_machine(first, again)
    assert exact_differences(first, again) == []
    again["evaluation"]["stochastic"]["falls"] += 1
    again["agent"]["tensors_sha256"] = "0"
    again["return_reached"]["400"] = None
    names = {"evaluation.stochastic.falls", "agent.tensors_sha256", "return_reached.400"}
    assert set(exact_differences(first, again)) == names


def test_processor_vector_units_and_versions_tell_machines_apart(make):
    first = make(0, [800.0])
    for change in ({"processor": "Q"}, {"gpu": "G"}, {"versions": {"python": "3.12"}}):
        again = copy.deepcopy(first)
        again["made_with"][0] |= change
        assert not same_machine(first, again)
    again = copy.deepcopy(first)
    again["made_with"][0]["vector_units"] = "AVX2"
    assert same_machine(first, again), "the first was made before they were noted"
    first["made_with"][0]["vector_units"] = "AVX512"
    assert not same_machine(first, again)


def test_elsewhere_mean_returns_must_lie_near_the_published_ones(make):
    result = make(0, [800.0])

    def with_return(value):
        again = copy.deepcopy(result)
        again["evaluation"]["deterministic"]["return_mean"] = value
        return again

    # Mean 800, deviation 10: three of them are less than 5 %, which are 40.
    seeds = [with_return(value) for value in (790.0, 800.0, 810.0)]
    assert [returns_out_of_tolerance(seeds, with_return(value)) for value in (761.0, 839.0)] == [[], []]
    expected = [["evaluation.deterministic.return_mean"]] * 2
    assert [returns_out_of_tolerance(seeds, with_return(value)) for value in (759.0, 841.0)] == expected
    # Deviation 100: three are 300.
    seeds = [with_return(value) for value in (500.0, 600.0, 700.0)]
    assert [returns_out_of_tolerance(seeds, with_return(value)) for value in (899.0, 901.0)] == [[], expected[0]]
