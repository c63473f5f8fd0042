"""Summary of a sweep: tables on a terminal, a report page, and the best agent."""

import shutil

from rich.table import Table
from rich.text import Text

from qi_ext.report import plots
from qi_ext.report.html import render_page
from qi_ext.report.page import gather_content
from qi_ext.report.runs import read_run
from qi_ext.sweeps.ranking import CONFIDENCE, marginals
from qi_ext.utils.files import write_atomically, write_whole
from qi_ext.utils.reading import open_regular

REPORT = "report.html"
N_CURVES = len(plots.COLOURS)  # configurations, the best ones, whose curves are drawn
NO_MARGINALS = (
    "What a setting does by itself is not drawn, because not each of its values is done with all values of the others."
)
HEADS = ("configuration", "return", f"{CONFIDENCE:.0%} of the mean", "lowest seed", "seeds")


def status_table(found):
    """Return a rich table with a row a trial."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in ("trial", "state", "steps", "left", "return", ""):
        table.add_column(head, justify="right" if head in ("steps", "left", "return") else "left", overflow="fold")
    for each in found:
        mean = each.mean_return()
        share = f"{min(1.0, each.steps / each.n_steps):.0%}" if each.n_steps else ""  # the last batch is a whole one
        cells = (
            f"{each.trial.configuration}, seed {each.trial.seed}",
            each.state,
            share,
            "" if each.seconds_left is None else _duration(each.seconds_left),
            "" if mean is None else f"{mean:.1f}",
            each.reason,
        )
        table.add_row(*map(Text, cells))
    return table


def ranking_table(ranked):
    """Return a rich table with a row a configuration."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in HEADS:
        table.add_column(head, justify="left" if head == HEADS[0] else "right", overflow="fold")
    for row in _rows(ranked):
        table.add_row(*map(Text, row))
    return table


def write_best(sweep, ranked, episodes):
    """Write the report of a sweep, and copy the agents of the best seeds of the best configurations.

    ranked: {task: [`Ranked`, ...]}, as `rank` gives. episodes: per direction, of what the page shows and result.json lacks.
    Returns the report's path and {task: path of the agent}. Raises UserError, SamplingError, OSError.
    """
    groups, looks, agents = {}, {}, {}
    for task, of_task in ranked.items():
        best = of_task[0]
        agents[task] = sweep.directory / ("best.safetensors" if len(ranked) == 1 else f"best-{task}.safetensors")
        source = best.found[best.best_seed].trial.directory / "agent.safetensors"
        with open_regular(source) as source, write_atomically(agents[task]) as target:
            shutil.copyfileobj(source, target)
        for each in of_task[: N_CURVES // len(ranked)]:
            seeds = sorted(each.returns, key=each.returns.get, reverse=True)  # the first one is looked at
            if seeds:
                groups[each.name] = [read_run(each.found[seed].trial.directory) for seed in seeds]
        looks[best.name] = gather_content(groups[best.name], episodes)
    sections = [_section(task if len(ranked) > 1 else "", of_task) for task, of_task in ranked.items()]
    text = render_page(groups, looks, f"Sweep {sweep.directory.name}", sections)
    report = sweep.directory / REPORT
    write_whole(report, text)
    return report, agents


def _section(task, ranked):
    by_name = {each.name: (list(each.returns.values()), each.interval) for each in ranked}
    drawings = [("Returns by configuration, a point a seed; the mean, and its interval.", plots.by_value(by_name))]
    done = [status for each in ranked for status in each.found.values()]
    by_setting = marginals(done)
    for name, values in by_setting.items():
        drawn = {value: (returns, None) for value, returns in values.items()}
        drawings.append((f"Returns by {name}, over all values of the other settings; the mean.", plots.by_value(drawn)))
    return {
        "title": f"The best configurations, {task}" if task else "The best configurations",
        "heads": HEADS,
        "rows": list(_rows(ranked)),
        "caption": "By the mean return, deterministic, over seeds; the interval is Student's, of the mean. The best seed of "
        "several is also a lucky one: what to expect of a configuration is its mean."
        + ("" if by_setting or len(ranked) < 2 else f" {NO_MARGINALS}"),
        "drawings": drawings,
    }


def _rows(ranked):
    for each in ranked:
        seeds = f"{len(each.returns)}" + ("" if each.is_complete else f" of {each.n_seeds}")
        if not each.returns:
            yield each.name, "-", "-", "-", seeds
            continue
        low_high = "-" if each.interval is None else "{:.1f} to {:.1f}".format(*each.interval)
        yield each.name, f"{each.mean:.1f}", low_high, f"{min(each.returns.values()):.1f}", seeds


def _duration(seconds):
    minutes = round(seconds / 60.0)
    return f"{minutes // 60}:{minutes % 60:02d}"
