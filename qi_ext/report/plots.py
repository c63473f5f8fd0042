"""Drawings of a report, each an SVG as text, in the colour of the page's text."""

import io
import textwrap
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qi_ext.report.tables import totals
from qi_ext.robot import a1
from qi_ext.robot.courses import Course
from qi_ext.robot.frames import velocity_in_command_frame

INK = "#010203"  # of text and axes, replaced by the page's colour; no line has it
COLOURS = ("#2f81d6", "#e07b28", "#2aa876", "#b65fc2", "#d64550", "#8a8f98", "#b59b1c", "#1fa5b8")
AGENT, EXPERT, COMMANDED = COLOURS[0], COLOURS[1], "#8a8f98"
STYLE = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.alpha": 0.35,
    "grid.color": "#8a8f98",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "qi_ext",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

# Title, [(column, label of its line)], and the range of the axis; None is that of the data.
ACCURACIES = [("discriminator_accuracy_policy", "agent"), ("discriminator_accuracy_expert", "expert")]
CURVES = (
    ("return of training episodes", [("return_mean", "")], (0, 1000)),
    ("length of episodes, steps", [("length_mean", "")], (0, 1000)),
    ("speed along the command, m/s", [("speed_along", "")], None),
    ("discriminator: share judged rightly", ACCURACIES, (0, 1)),
    ("discriminator: logits", [("logit_policy", "agent"), ("logit_expert", "expert")], None),
    ("discriminator: entropy, nats", [("discriminator_entropy", "")], (0, 0.75)),
    ("reward that is trained on", [("reward", "mean"), ("reward_std", "deviation")], None),
    ("standard deviation of actions", [("std", "")], None),
    ("critic: explained variance", [("explained_variance", "")], (None, 1)),
    ("policy step: kl, nats", [("kl", "")], None),
    ("policy step: share of the full one", [("line_search_step", "")], (-0.05, 1.05)),
)
LINES = ("-", "--")


def learning_curves(groups):
    """Draw the curves of groups of runs, {title: [`Run`, ...]}: mean over seeds, and their standard deviation.

    Returns a list of (title, SVG); curves without a number are left out. Groups have the `COLOURS` in order and no legend.
    """
    drawn = []
    runs_drawn = [run for runs in groups.values() for run in runs]
    unit, scale = _unit(max((run.curves["step"][-1] for run in runs_drawn if len(run.curves.get("step", ()))), default=0.0))
    for title, lines, limits in CURVES:
        with _drawing() as (figure, axes):
            for i, (runs, colour) in enumerate(zip(groups.values(), cycle(COLOURS), strict=False)):
                for (column, name), style in zip(lines, LINES, strict=False):
                    curves = [run.curves for run in runs if column in run.curves]
                    _band(axes, curves, column, scale, colour, style, "" if i else name)
            if not axes.lines:
                continue
            axes.set_title(title, loc="left")
            axes.set_xlabel(unit)
            axes.set_xlim(left=0.0)
            if limits:
                axes.set_ylim(*limits)
            if len(groups) == 1:
                _mark_minutes(axes, runs_drawn, scale)
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
            drawn.append((title, _svg(figure)))
    return drawn


def polar(agent, expert):
    """Draw achieved and commanded velocities of lists of `RecordedEpisode`, one a direction; a cross marks a fall."""
    with _drawing(polar=True, height=3.6) as (figure, axes):
        commands = [episode.command for episode in agent]
        axes.plot(
            [command.direction for command in commands],
            [command.speed for command in commands],
            "o", markersize=13, markerfacecolor="none", markeredgecolor=COMMANDED, label="commanded",
        )  # fmt: skip
        fastest = max(command.speed for command in commands)
        for episodes, colour, name, marker in ((expert, EXPERT, "trot controller", "D"), (agent, AGENT, "agent", "o")):
            for fell in (False, True):
                drawn = [episode for episode in episodes if episode.fell == fell]
                if not drawn:
                    continue
                velocity = np.array([each.observations[:, a1.TRUNK_VX : a1.TRUNK_VY + 1].mean(axis=0) for each in drawn])
                angle, speed = np.arctan2(velocity[:, 1], velocity[:, 0]), np.linalg.norm(velocity, axis=1)
                shown = {"marker": "x" if fell else marker, "label": f"{name}, fell" if fell else name}
                axes.plot(angle, speed, markersize=6, color=colour, linestyle="none", **shown)
                fastest = max(fastest, *speed)
        axes.set_ylim(0, 1.25 * fastest or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.set_rlabel_position(22.5)
        axes.tick_params(axis="x", pad=8.0)
        axes.set_title("mean velocity, m/s")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0))
        return _svg(figure)


def paths(agent, expert):
    """Draw the path of one course from above, commanded and walked by two `RecordedEpisode`s; a cross marks a fall."""
    with _drawing(height=3.2) as (figure, axes):
        longest = max(agent, expert, key=lambda episode: len(episode.commands))
        axes.plot(*longest.commanded_path.T, "--", color=COMMANDED, linewidth=2.5, label="commanded")
        for episode, colour, name in ((expert, EXPERT, "trot controller"), (agent, AGENT, "agent")):
            walked = episode.poses[:, :2]
            axes.plot(*walked.T, color=colour, linewidth=1.2, label=f"{name}, fell" if episode.fell else name)
            if episode.fell:
                axes.plot(*walked[-1], "x", markersize=7, color=colour)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_title(f"{agent.label}, from above", loc="left")
        axes.set_xlabel("m")
        axes.legend()
        return _svg(figure)


def gait_diagram(stances, seconds=2.0):
    """Draw the feet on the ground in the last `seconds`. stances: {name: (T, 4), bool}, one below the other."""
    with _drawing(rows=len(stances), height=1.3 * len(stances) + 0.4) as (figure, all_axes):
        for axes, (name, stance), colour in zip(np.atleast_1d(all_axes), stances.items(), cycle(COLOURS), strict=False):
            shown = stance[-round(seconds / a1.CONTROL_DT) :]
            for row, foot in enumerate(shown.T):
                edges = np.flatnonzero(np.diff(np.concatenate([[False], foot, [False]]).astype(int)))
                bars = [(begin * a1.CONTROL_DT, (end - begin) * a1.CONTROL_DT) for begin, end in edges.reshape(-1, 2)]
                axes.broken_barh(bars, (row - 0.4, 0.8), color=colour)
            axes.set_yticks(range(4), a1.LEGS)
            axes.invert_yaxis()
            axes.set_xlim(0, len(shown) * a1.CONTROL_DT)
            axes.set_title(name, loc="left")
        axes.set_xlabel("s")
        return _svg(figure)


def tracking(episodes):
    """Draw the velocity along and across the command over time, and where headings are commanded the error of the heading.

    episodes: {name: `RecordedEpisode`} under one command or course.
    """
    first = max(episodes.values(), key=lambda episode: len(episode.commands))
    on_course = isinstance(first.command, Course)
    with _drawing(rows=3 if on_course else 2, height=4.6 if on_course else 3.4) as (figure, (along, across, *turning)):
        for (name, episode), colour in zip(episodes.items(), COLOURS, strict=False):
            time = a1.CONTROL_DT * np.arange(len(episode.observations))
            velocity_along, velocity_across = velocity_in_command_frame(episode.observations)
            along.plot(time, velocity_along, color=colour, label=name, linewidth=1.0)
            across.plot(time, velocity_across, color=colour, linewidth=1.0)
            for axes in turning:
                axes.plot(time, np.degrees(episode.observations[:, a1.YAW]), color=colour, linewidth=1.0)
        if on_course:
            time = a1.CONTROL_DT * np.arange(len(first.commands))
            speeds = [command.speed for command in first.commands]
            along.plot(time, speeds, color=COMMANDED, linestyle="--", linewidth=1.0)
        else:
            along.axhline(first.command.speed, color=COMMANDED, linestyle="--", linewidth=1.0)
        for axes in (across, *turning):
            axes.axhline(0.0, color=COMMANDED, linestyle="--", linewidth=1.0)
            axes.set_title("velocity to its left, m/s" if axes is across else "heading less commanded, degrees", loc="left")
        along.set_title(f"velocity along the command of {first.label}, m/s", loc="left")
        (turning or [across])[-1].set_xlabel("s")
        along.legend(ncols=len(episodes))
        return _svg(figure)


def robustness_bars(rows, names):
    """Draw the return under each condition, and falls. rows: of `compare_robustness`. names: {key in a row: label}."""
    with _drawing(height=0.5 * len(rows) + 0.8, width=6.4) as (figure, axes):
        thickness = 0.8 / len(names)
        for i, ((key, name), colour) in enumerate(zip(names.items(), COLOURS, strict=False)):
            at = np.arange(len(rows)) + (i - (len(names) - 1) / 2.0) * thickness
            returns = [row[key]["return_mean"] for row in rows]
            axes.barh(at, returns, thickness, color=colour, label=name)
            for height, value, row in zip(at, returns, rows, strict=True):
                _, falls, episodes = totals(row[key])
                if falls:
                    axes.text(value + 8.0, height, f"{falls} of {episodes} fell", va="center", fontsize=7)
        axes.set_yticks(range(len(rows)), [row["condition"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1000)
        axes.set_xlabel("return of at most 1000")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(names))
        return _svg(figure)


def by_value(values):
    """Draw returns, a row a value. values: {value as text: (returns, interval of the mean or None)}."""
    with _drawing(height=0.3 * len(values) + 0.8) as (figure, axes):
        for at, (returns, interval) in enumerate(values.values()):
            axes.plot(returns, [at] * len(returns), "o", markersize=4, color=AGENT, alpha=0.6)
            if interval:
                axes.plot(interval, [at + 0.15] * 2, color=EXPERT)
            if returns:
                axes.plot(np.mean(returns), at + 0.15, "D", markersize=5, color=EXPERT)
        axes.set_yticks(range(len(values)), [textwrap.fill(name, 28) for name in values], fontsize=7, parse_math=False)
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(0, 1000)
        axes.set_xlabel("return")
        return _svg(figure)


class _drawing:
    """Context of a figure and its axes, in the style of the page."""

    def __init__(self, rows=1, width=4.6, height=2.7, polar=False):
        self._style = matplotlib.rc_context(STYLE)
        self._rows, self._size, self._polar = rows, (width, height), polar

    def __enter__(self):
        self._style.__enter__()
        figure = Figure(figsize=self._size)
        return figure, figure.subplots(self._rows, sharex=True, subplot_kw={"polar": True} if self._polar else {})

    def __exit__(self, *exception):
        self._style.__exit__(*exception)


def _svg(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _unit(n_steps):
    """The unit of an axis of so many steps, in words, and its size."""
    for unit, scale in (("million steps", 1e6), ("thousand steps", 1e3)):
        if n_steps >= scale:
            return unit, scale
    return "steps", 1.0


def _mark_minutes(axes, runs, scale):
    """Mark the minutes of training (seconds of a short one) of the longest run along the top."""
    curves = max((run.curves for run in runs if "minutes" in run.curves), key=lambda each: each["step"][-1], default=None)
    if curves is None:
        return
    unit, seconds = ("min", 60.0) if curves["minutes"][-1] >= 2.0 else ("s", 1.0)
    times = 60.0 / seconds * np.append(0.0, curves["minutes"])
    marks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0.0, times[-1])
    marks = marks[(marks > 0.0) & (marks <= times[-1])]
    top = axes.twiny()
    top.set_xticks(np.interp(marks, times, np.append(0.0, curves["step"])) / scale, [f"{each:g} {unit}" for each in marks])
    top.set_xlim(axes.get_xlim())
    top.tick_params(length=2.0, labelsize=7)
    top.grid(False)


def _band(axes, curves, column, scale, colour, style, label):
    """Draw the mean over the seeds that have a number, at the steps of the longest, and from two on the standard deviation."""
    curves = [_known(each["step"], each[column]) for each in curves]
    curves = [each for each in curves if len(each[0])]
    if not curves:
        return
    steps = max((each[0] for each in curves), key=lambda each: each[-1])
    values = np.array([np.interp(steps, *each, left=np.nan, right=np.nan) for each in curves])
    mean = np.nanmean(values, axis=0)
    axes.plot(steps / scale, mean, style, color=colour, label=label)
    several = np.isfinite(values).sum(axis=0) > 1
    if several.any():
        deviation = np.nanstd(values[:, several], axis=0, ddof=1)
        low, high = mean[several] - deviation, mean[several] + deviation
        axes.fill_between(steps[several] / scale, low, high, color=colour, alpha=0.2, linewidth=0)


def _known(steps, values):
    known = np.isfinite(values)
    return steps[known], values[known]
