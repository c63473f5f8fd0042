"""Tables of an evaluation, as a terminal of 120 columns shows them."""

import numpy as np
import pytest
from rich.console import Console

from qi_ext.evaluation.episodes import summarize
from qi_ext.report.tables import GAIT_COLUMNS, gait_table, robustness_table, row_label, table
from qi_ext.robot.commands import Command


def result(*returns, falls=0, **gait):
    """A result of `evaluate`, made up: a direction for each return. gait: numbers that are not 1."""
    measured = {name: 1.0 for _, name, _ in GAIT_COLUMNS} | gait
    directions = [
        {
            "direction_deg": 180.0 * i,
            "episodes": 4,
            "return_mean": mean,
            "return_std": 2.5,
            "length_mean": 987.6,
            "falls": falls,
            "velocity_error_mean": 0.0123,
        }
        | measured
        for i, mean in enumerate(returns)
    ]
    return {"return_mean": sum(returns) / len(returns), "directions": directions, "mean": measured}


@pytest.fixture
def compared():
    """Results in the form of `compare`, in two directions."""
    random = result(3.0, 5.0, falls=4)
    del random["mean"]
    return {"deterministic": result(900.0, 800.0), "expert": result(950.0, 940.0, energy_per_metre=432.1), "random": random}


def lines_of(rendered):
    console = Console(width=120)
    with console.capture() as captured:
        console.print(rendered)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 120
    return lines


def rows_of(rendered):
    """The cells of each row."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines_of(rendered) if line.startswith("│")]
    return rows


def test_each_policy_has_a_row_a_direction_and_its_mean(compared):
    rows = rows_of(table(compared, "some recording"))
    assert [row[:2] for row in rows] == [
        [name, direction]
        for name in ("deterministic", "trot controller", "random torques")
        for direction in ("0", "180", "mean")
    ]
    assert rows[1] == ["deterministic", "180", "800.0 +- 2.5", "988", "0.012 m/s", "0/4"]
    assert rows[2] == ["deterministic", "mean", "850.0", "", "", ""]
    assert rows[-2][-1] == "4/4"
    for row in compared["random"]["directions"]:
        del row["return_std"]  # as in older results
    assert rows_of(table(compared))[-2][2] == "5.0"


def test_the_speed_is_told_where_there_are_several():
    commands = [Command(45.0, 0.3), Command(45.0, 0.5)]
    labels = [row_label(summarize(command, commands, *np.ones((4, 2)))) for command in commands]
    assert labels == ["45 at 0.3 m/s", "45 at 0.5 m/s"]
    assert row_label(summarize(commands[0], commands[:1], *np.ones((4, 2)))) == "45"


def test_a_single_direction_has_no_mean_row():
    (row,) = rows_of(table({"deterministic": result(900.0)}))
    assert row[1] == "0"
    (row,) = rows_of(gait_table({"deterministic": result(900.0)}))
    assert row[0] == "0"


def test_a_source_with_brackets_is_shown_as_it_is(compared):
    assert "demonstrations: walk[/b][new].npz" in "\n".join(lines_of(table(compared, "walk[/b][new].npz")))


def test_the_gait_is_shown_beside_the_trot_controllers_and_not_that_of_chance(compared):
    rows = rows_of(gait_table(compared))
    # The first rows are the heading's second lines.
    assert [row[:2] for row in rows[-6:]] == [
        [direction, policy] for direction in ("0", "180", "mean") for policy in ("deterministic", "trot controller")
    ]
    assert "432" in rows[-1]
    assert not any("random" in cell for row in rows for cell in row)


def test_rows_of_courses_say_so_and_fit(compared):
    for found in compared.values():
        for row in found["directions"]:
            del row["direction_deg"]
            row["course"] = "figure-eight"
    for rendered in (table(compared), gait_table(compared)):
        text = "\n".join(lines_of(rendered))
        assert "course" in text and "figure-eight" in text and "direction" not in text and "\u2026" not in text


def test_a_missing_number_is_a_dash():
    assert rows_of(gait_table({"expert": result(900.0, foot_clearance=None)}))[-1].count("-") == 1


def test_robustness_has_the_mean_the_lowest_direction_and_all_falls():
    conditions = [
        {"condition": "undisturbed", "deterministic": result(900.0, 800.0), "expert": result(950.0, 940.0)},
        {"condition": "pushes of 60 N", "deterministic": result(300.0, 100.0, falls=3), "expert": result(700.0, 600.0)},
    ]
    rows = rows_of(robustness_table(conditions))
    assert rows[-2:] == [
        ["undisturbed", "850.0 (800.0)", "0/8", "945.0 (940.0)", "0/8"],
        ["pushes of 60 N", "200.0 (100.0)", "6/8", "650.0 (600.0)", "0/8"],
    ]


def test_there_is_no_minus_zero(compared):
    compared["deterministic"] = result(900.0, 800.0, velocity_error_along=-1e-5, velocity_error_across=-1e-5, yaw_drift=-1e-4)
    assert not [line for line in lines_of(gait_table(compared)) if "-0.00" in line]
