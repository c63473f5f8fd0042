"""Published returns of ours and of other libraries: read, as tables of docs/comparison.md, and as its plot."""

import statistics
from itertools import cycle
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field, TypeAdapter
from scipy.stats import bootstrap, trim_mean
from typing_extensions import TypedDict

from qi_ext.report.plots import COLOURS, LINES
from qi_ext.sweeps.published_tables import between_marks, markdown_table, not_run_yet, reached_cell
from qi_ext.sweeps.schemas import MadeWith
from qi_ext.training.result import Count, Line, Name
from qi_ext.training.result import Figure as Number
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import read_json

MODES = {"deterministic": "Acting deterministically", "stochastic": "Acting stochastically"}
LEVELS = (400, 800)  # returns
BEGIN, END = "<!-- tables: python benchmarks/peers.py tables -->\n", "<!-- end of tables -->\n"
RESAMPLES = 10_000


class Snapshot(TypedDict):
    """A policy on the way: env steps and minutes of training, and its mean returns."""

    step: Count
    minutes: Number
    deterministic: Number
    stochastic: Number


class Last(TypedDict):
    """The last policy, in one of MODES."""

    return_mean: Number
    falls: Count
    episodes: Annotated[Count, Field(ge=1)]


class MadeWithSpeed(MadeWith):
    """Also how fast the machine was: control steps per second of bare physics in one process."""

    physics_steps_per_second: Count


class PeerResult(TypedDict):
    """A file in results/peers/NAME/."""

    name: Name
    seed: Count
    command: Line
    snapshots: Annotated[list[Snapshot], Field(min_length=1, max_length=1000)]
    last: dict[Name, Last]
    made_with: MadeWithSpeed


RESULT = TypeAdapter(PeerResult)


def read_results(folder, peers):
    """Return what is published, {name: [result of each seed]}, in the order of `peers`.

    Raises UserError where a file cannot be read, or was made by another command than that of its peer now.
    """
    found = {}
    for name, peer in peers.items():
        for seed in peer.seeds:
            path = Path(folder, name, f"{seed}.json")
            if path.exists():
                result = read_json(path, RESULT)
                if result["command"] != peer.command:
                    raise UserError(f"{path}: was made by another command; make it anew: python benchmarks/peers.py run {name}")
                found.setdefault(name, []).append(result)
    return found


def reached(result, level, mode):
    """Return steps and minutes of the first snapshot whose mean return is at least `level`; None where there is none."""
    return next(((each["step"], each["minutes"]) for each in result["snapshots"] if each[mode] >= level), None)


def with_tables(text, peers, results):
    """Return `text`, of comparison.md, with the tables of `results` between its marks. Raises UserError where it has none."""
    return between_marks("comparison.md", text, BEGIN, END, _parts(peers, results))


def _parts(peers, results):
    yield from not_run_yet({name: peer.seeds for name, peer in peers.items()}, results)
    if not results:
        return
    for mode in MODES:
        heads = ["learner", "minutes", "steps", "return", "falls", *(f"to {level}: steps, minutes" for level in LEVELS)]
        yield f"{MODES[mode]}:\n"
        yield markdown_table(heads, [_row(peers[name].what, found, mode) for name, found in results.items()])
    commands = [
        [peers[name].what, f"`python {peers[name].command}`", " ".join(str(each["seed"]) for each in found)]
        for name, found in results.items()
    ]
    yield "Commands:\n"
    yield markdown_table(["learner", "command", "seeds"], commands, left=3)
    yield "Made with, in brackets steps per second of bare physics in one process, which say how fast the machine was:\n"
    yield "".join(f"- {machine}: {', '.join(names)}.\n" for machine, names in _made_with(results).items())


def _row(what, found, mode):
    last = [result["last"][mode] for result in found]
    ends = [result["snapshots"][-1] for result in found]
    return [
        what,
        f"{statistics.mean(each['minutes'] for each in ends):.1f}",
        f"{statistics.mean(each['step'] for each in ends):,.0f}",
        over_seeds([each["return_mean"] for each in last]),
        f"{sum(each['falls'] for each in last)}/{sum(each['episodes'] for each in last)}",
        *(reached_cell([reached(result, level, mode) for result in found]) for level in LEVELS),
    ]


def over_seeds(values):
    """Interquartile mean of a figure of each seed, and its 95 % bootstrap interval; the figure itself of one seed.

    As Agarwal et al. 2021 (Deep Reinforcement Learning at the Edge of the Statistical Precipice) recommend.
    """
    if len(values) == 1:
        return f"{values[0]:.0f}"
    resampling = {"n_resamples": RESAMPLES, "method": "percentile", "rng": np.random.default_rng(0)}
    interval = bootstrap((values,), lambda x, axis: trim_mean(x, 0.25, axis), **resampling).confidence_interval
    return f"{trim_mean(values, 0.25):.0f} [{interval.low:.0f}, {interval.high:.0f}]"


def _made_with(results):
    """Names of the learners, and how fast physics were then, by the words for machine and versions, {words: [name, ...]}."""
    names = {}
    for name, found in results.items():
        for result in found:
            made = result["made_with"]
            versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
            changed = "" if made["clean"] else ", with changes that are not committed"
            of_machine = names.setdefault(f"{made['cores']} cores, {made['processor']}; {versions}{changed}", [])
            of_machine.append(f"{name} {result['seed']} ({made['physics_steps_per_second']:,})")
    return names


def write_plot(path, peers, results):
    """Draw returns against minutes at `path`, a PNG: a panel for each of MODES, a line for each learner's mean over seeds."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = figure.subplots(1, len(MODES), sharey=True)
    colours = {name: colour for name, colour in zip(results, cycle(COLOURS), strict=False)}
    for axes, (mode, title) in zip(panels, MODES.items(), strict=True):
        for i, (name, found) in enumerate(results.items()):
            minutes, returns = mean_curve(found, mode)
            line = LINES[i // len(COLOURS)]
            axes.plot(minutes, returns, line, color=colours[name], label=peers[name].what)
        axes.set(title=title, xlabel="minutes of training", ylim=(0, 1000))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("return")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)


def mean_curve(found, mode):
    """Return minutes, as far as every seed came, and the mean return over seeds then, each (n,)."""
    end = min(result["snapshots"][-1]["minutes"] for result in found)
    minutes = np.linspace(0.0, end, 200)
    curves = [
        np.interp(minutes, [each["minutes"] for each in result["snapshots"]], [each[mode] for each in result["snapshots"]])
        for result in found
    ]
    return minutes, np.mean(curves, axis=0)
