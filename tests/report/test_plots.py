"""Drawings: each is an SVG, in the page's colour, that shows the given numbers."""

import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest

from qi_ext.evaluation import RecordedEpisode
from qi_ext.report import plots
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import COURSES
from qi_ext.tasks.directions import task_commands

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def curve(scale=1.0, n=50):
    steps = np.arange(1.0, n + 1.0) * 1e4
    values = scale * np.linspace(0.0, 900.0, n)
    return SimpleNamespace(curves={"step": steps, "return_mean": values, "std": np.full(n, np.nan)})


def episode(command, speed=0.45, n=100, fell=False):
    observations = np.zeros((n, 37))
    observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1] = speed * command.features[:2]
    observations[:, a1.GOAL] = command.features
    return RecordedEpisode(command, observations, np.zeros((n, 12)), [command] * n, fell, 0.0)


def test_ink_takes_the_colour_of_the_page():
    ((_, svg),) = plots.learning_curves({"a": [curve()]})
    assert "currentColor" in svg
    assert plots.INK not in svg.lower()
    ElementTree.fromstring(svg)


def test_curves_without_a_number_are_left_out():
    assert [title for title, _ in plots.learning_curves({"a": [curve()]})] == ["return of training episodes"]
    assert plots.learning_curves({"a": [SimpleNamespace(curves={})]}) == []


def test_several_seeds_have_a_band_and_each_group_its_colour():
    ((_, one),) = plots.learning_curves({"a": [curve()]})
    ((_, seeds),) = plots.learning_curves({"a": [curve(), curve(0.5)]})
    assert "fill-opacity: 0.2" not in one
    assert "fill-opacity: 0.2" in seeds
    ((_, both),) = plots.learning_curves({"first": [curve(), curve(0.5)], "second": [curve()]})
    assert plots.COLOURS[1] not in one
    assert plots.COLOURS[1] in both


def drawn(svg, colour):
    """The points of the longest line, (n, 2), the first one at the origin."""
    lines = [
        path.get("d") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if f"stroke: {colour}" in path.get("style", "") and "fill: none" in path.get("style", "")
    ]  # fmt: skip
    points = np.array(re.findall(r"[ML] (\S+) (\S+)", max(lines, key=len)), dtype=float)
    return points - points[0]


def test_a_seed_that_has_just_begun_does_not_end_the_curve():
    ((_, alone),) = plots.learning_curves({"a": [curve()]})
    ((_, both),) = plots.learning_curves({"a": [curve(0.5, n=2), curve()]})
    np.testing.assert_allclose(drawn(both, plots.COLOURS[0])[-1], drawn(alone, plots.COLOURS[0])[-1], rtol=0.02)


@pytest.mark.parametrize(("last", "unit"), [(500_000, "thousand steps"), (900, "steps"), (1_200_000, "million steps")])
def test_steps_have_a_unit_that_their_number_asks_for(last, unit):
    steps = np.linspace(0.0, last, 50)
    ((_, svg),) = plots.learning_curves({"a": [SimpleNamespace(curves={"step": steps, "return_mean": steps})]})
    assert unit in texts(svg)


@pytest.mark.parametrize(("minutes", "marks"), [(10.0, {"5 min", "10 min"}), (0.5, {"10 s", "20 s", "30 s"})])
def test_the_minutes_of_training_are_marked(minutes, marks):
    run = curve()
    run.curves["minutes"] = np.linspace(0.0, minutes, 50)
    ((_, svg),) = plots.learning_curves({"a": [run]})
    assert marks <= set(texts(svg))
    ((_, both),) = plots.learning_curves({"a": [run], "b": [run]})  # which need not be as fast
    assert not marks & set(texts(both))


def test_a_critic_that_explains_less_than_nothing_is_drawn_whole():
    run = SimpleNamespace(curves={"step": np.arange(1.0, 51.0), "explained_variance": np.linspace(-3.0, 0.9, 50)})
    ((_, svg),) = plots.learning_curves({"a": [run]})
    assert "−3" in texts(svg)


def test_stances_are_drawn_as_bars():
    stance = np.zeros((300, 4), dtype=bool)
    stance[-100:-50, 0] = stance[-20:, 0] = stance[:150, 3] = True  # the last of them ends within the first of the 200 shown
    svg = plots.gait_diagram({"agent": stance, "trot controller": stance})
    bars = re.findall(rf"fill: {plots.COLOURS[0]}", svg)
    assert len(bars) == 3
    assert {"agent", "trot controller", *a1.LEGS} <= set(texts(svg))


def test_falls_and_high_speeds_are_in_the_drawing_of_velocities():
    commands = task_commands("hard")
    agent = [episode(command, 1.5, fell=i == 3) for i, command in enumerate(commands)]
    expert = [episode(command, 0.5) for command in commands]
    found = texts(plots.polar(agent, expert))
    assert {"commanded", "agent", "agent, fell", "trot controller"} <= set(found) and "trot controller, fell" not in found
    assert max(float(text) for text in found if text and re.fullmatch(r"[\d.]+", text)) >= 1.5
    assert "agent, fell" not in texts(plots.polar(expert, expert))


def on_circle(n=100, fell=False, speed=0.5):
    """An episode that keeps to its command, at a speed of its own."""
    observations = np.zeros((n, 37))
    observations[:, a1.TRUNK_VX], observations[:, a1.GOAL] = speed, (1.0, 0.0, 0.5)
    commands = [Command(0.0, 0.5, 3.6 * t) for t in range(n)]
    return RecordedEpisode(COURSES["circle"], observations, np.zeros((n, 12)), commands, fell, 0.0)


def test_the_paths_of_a_course_are_seen_from_above():
    svg = plots.paths(on_circle(n=26, fell=True), on_circle(speed=0.25))
    assert {"commanded", "agent, fell", "trot controller", "circle, from above"} <= set(texts(svg))
    circle, small, quarter = (drawn(svg, colour) for colour in (plots.COMMANDED, plots.EXPERT, plots.AGENT))
    np.testing.assert_allclose(np.ptp(circle, axis=0), 2.0 * np.ptp(small, axis=0), rtol=0.02)
    np.testing.assert_allclose(np.ptp(circle, axis=0), np.ptp(circle[:, 0]), rtol=0.02)  # as broad as high
    np.testing.assert_allclose(quarter[-1], [np.ptp(circle[:, 0]) / 2, -np.ptp(circle[:, 0]) / 2], rtol=0.05)


def test_the_error_of_the_heading_is_drawn_where_a_course_commands_one():
    assert "heading less commanded, degrees" in texts(plots.tracking({"agent": on_circle(), "expert": on_circle(50)}))
    assert "heading less commanded, degrees" not in texts(plots.tracking({"agent": episode(task_commands("hard")[0])}))


def test_falls_are_written_beside_the_bars():
    def condition(name, falls):
        directions = [{"return_mean": 500.0, "falls": each, "episodes": 4} for each in (falls, 0)]
        row = {"return_mean": 500.0, "directions": directions}
        return {"condition": name, "deterministic": row, "expert": row | {"directions": directions[1:]}}

    rows = [condition("undisturbed", 0), condition("pushes of 60 N", 3)]
    found = texts(plots.robustness_bars(rows, {"deterministic": "agent", "expert": "trot controller"}))
    assert [text for text in found if text and "fell" in text] == ["3 of 8 fell"]
    assert {"undisturbed", "pushes of 60 N", "agent", "trot controller"} <= set(found)


def test_a_dollar_in_a_value_is_no_formula():
    name = "wandb $x_{$"
    assert any("$x_{$" in text for text in texts(plots.by_value({name: ([100.0], None)})))


def test_each_return_and_the_interval_of_the_mean_are_drawn_by_value():
    svg = plots.by_value({"0.9": ([100.0, 300.0], (150.0, 250.0)), "0.97": ([500.0], None)})
    assert {"0.9", "0.97", "return"} <= set(texts(svg))
    drawn = {
        colour: [use for use in ElementTree.fromstring(svg).iter(f"{SVG}use") if f"fill: {colour}" in use.get("style", "")]
        for colour in (plots.AGENT, plots.EXPERT)
    }
    assert {colour: len(uses) for colour, uses in drawn.items()} == {plots.AGENT: 3, plots.EXPERT: 2}
