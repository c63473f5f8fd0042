"""What a sweep has found, for a person: tables on a terminal, a page, and the best agent."""

import shutil

from rich.table import Table
from rich.text import Text

from qi_ext.evaluation import plots
from qi_ext.evaluation.page import look_at, page
from qi_ext.evaluation.runs import read_run
from qi_ext.files import write_atomically
from qi_ext.sweeps.ranking import CONFIDENCE, interval, marginals

REPORT, BEST_AGENT = "report.html", "best.safetensors"
N_CURVES = len(plots.COLOURS)  # configurations, the best ones, whose curves are drawn
HEADS = ("configuration", "return", f"{CONFIDENCE:.0%} of the mean", "lowest seed", "seeds")


def status_table(found):
    """A row a trial."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in ("trial", "state", "steps", "left", "return", ""):
        table.add_column(head, justify="right" if head in ("steps", "left", "return") else "left", overflow="fold")
    for each in found:
        mean = each.mean_return()
        share = f"{each.steps / each.n_steps:.0%}" if each.n_steps else ""
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
    """A row a configuration."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in HEADS:
        table.add_column(head, justify="left" if head == HEADS[0] else "right", overflow="fold")
    for row in _rows(ranked):
        table.add_row(*map(Text, row))
    return table


def write_best(sweep, found, ranked, episodes):
    """Write the report of a sweep, and copy the agent of the best seed of its best configuration. Returns both paths.

    found: of `statuses`. ranked: of `rank`.
    episodes: per direction, of what the page shows and result.json has not. Raises UserError, SamplingError, OSError.
    """
    best = ranked[0]
    trial = best.found[best.best_seed].trial
    agent = sweep.directory / BEST_AGENT
    with open(trial.directory / "agent.safetensors", "rb") as source, write_atomically(agent) as target:
        shutil.copyfileobj(source, target)
    groups = {}
    for each in ranked[:N_CURVES]:
        seeds = sorted(each.returns, key=each.returns.get, reverse=True)  # the first one is looked at
        if seeds:
            groups[each.name] = [read_run(each.found[seed].trial.directory) for seed in seeds]
    looks = {best.name: look_at(groups[best.name][0], episodes)}
    text = page(groups, looks, f"Sweep {sweep.directory.name}", _section(found, ranked))
    report = sweep.directory / REPORT
    with write_atomically(report) as file:
        file.write(text.encode())
    return report, agent


def _section(found, ranked):
    drawings = []
    for name, values in marginals(found).items():
        drawn = {value: (returns, interval(returns)) for value, returns in values.items()}
        drawings.append((name, plots.marginal(drawn)))
    return {
        "heads": HEADS,
        "rows": list(_rows(ranked)),
        "caption": "By the mean return, deterministic, over seeds; the interval is Student's, of the mean. The best seed of "
        "several is also a lucky one: what to expect of a configuration is its mean.",
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
