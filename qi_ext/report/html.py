"""The page of a report as HTML, from the template page.html; it needs no other file."""

import base64
import statistics
from dataclasses import dataclass
from itertools import cycle

import jinja2
import yaml
from markupsafe import Markup

from qi_ext.report import plots
from qi_ext.report.tables import DEMONSTRATED, GAIT_COLUMNS, NAMES, gait_cells, row_heading, row_label, totals, with_spread
from qi_ext.robot.courses import Course

POLICIES = {"deterministic": "agent, deterministic", "stochastic": "agent, stochastic", **NAMES}


@dataclass(frozen=True)
class Content:
    """Results that a page shows of one experiment, beside its curves; all but the evaluations are of its first run.

    evaluations: of `compare`, one a run, the first with `gait_measures`. robustness: of `compare_robustness`, or empty. agent,
    expert: lists of `RecordedEpisode`, one a direction or course. stances: {name: (T, 4)}, bool, feet on the ground in the
    first of these. films: list of (mp4, caption). notes: remarks, a list of lines. demonstrated: of `demonstrated_gait`.
    """

    evaluations: list
    robustness: list
    agent: list
    expert: list
    stances: dict
    films: list
    notes: list
    demonstrated: dict | None = None


def render_page(experiments, contents, title, sections=()):
    """Return the report as HTML.

    experiments: {title: [`Run`, ...]}, whose curves are drawn. contents: {title: `Content`}, for those of them that are shown
    in full. sections: of a sweep, which come first, each a dict: `title`, a table of `heads` and `rows`, its `caption`, and
    `drawings`, [(caption, SVG), ...].
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qi_ext.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title,
        subtitle=f"Unitree A1 in MuJoCo, told {_told(contents)}; learned by imitation.",
        sections=[each | {"drawings": [(text, Markup(svg)) for text, svg in each["drawings"]]} for each in sections],
        experiments=[_experiment(name, experiments[name], content) for name, content in contents.items()],
        curves=[(name, Markup(svg)) for name, svg in plots.learning_curves(experiments)],
        curves_caption="Each point is the mean over neighbouring updates; of several seeds, mean and standard deviation, over "
        "those that have come so far.",
        legend=list(zip(cycle(plots.COLOURS), experiments, strict=False)) if len(experiments) > 1 else [],
    )


def _experiment(title, runs, content):
    """The values that the template shows of one experiment."""
    run = runs[0]
    metadata = run.agent.metadata
    made = [f"demonstrations: {metadata.get('demonstrations_source', run.config.get('demonstrations', '?'))}"]
    made += [
        f"seed {each.config['seed']}: {each.result['steps']:,} steps"
        + (f" in {each.result['training_seconds'] / 60.0:.1f} minutes" if "training_seconds" in each.result else "")
        for each in runs
        if each.result
    ]
    made.append(f"made with {metadata.get('versions', 'unknown versions')}")
    notes = list(content.notes)
    notes += [f"{each.path} is not finished: as of step {each.agent.step:,}." for each in runs if each.result is None]
    if len(runs) > 1:
        notes.append(f"Returns are over all seeds; the rest of what follows is of seed {run.config['seed']}.")
    return {
        "title": title,
        "command": run.command,
        "made": "; ".join(made),
        "notes": notes,
        "films": [{"data": base64.b64encode(film).decode(), "caption": caption} for film, caption in content.films],
        "returns": _returns(content.evaluations),
        "directions": _directions(content.evaluations[0]),
        "directions_title": "along each course" if row_heading(content.evaluations[0]) == "course" else "in each direction",
        "gaits": _gaits(content.evaluations[0], content.demonstrated),
        "drawings": [{"svg": Markup(svg), "caption": caption} for svg, caption in _drawings(content)],
        "config": yaml.safe_dump(run.config, sort_keys=False),
    }


def _told(contents):
    """Say what the robots of a page are told."""
    turns = any(row_heading(content.evaluations[0]) == "course" for content in contents.values())
    return "in which direction to walk, how fast, and where to face" if turns else "in which direction to walk"


def _drawings(content):
    first = content.agent[0]
    if isinstance(first.command, Course):
        for pair in zip(content.agent, content.expert, strict=True):
            yield plots.paths(*pair), "One episode: the path that was commanded, and those walked."
    else:
        yield plots.polar(content.agent, content.expert), "One episode in each direction: commanded and achieved velocity."
    yield plots.gait_diagram(content.stances), f"Feet on the ground, {first.label}: the last two seconds."
    together = {"agent": first, NAMES["expert"]: content.expert[0]}
    yield plots.tracking(together), "Achieved velocity in the command's frame; dashed, the command."
    if content.robustness:
        names = {"deterministic": "agent", "expert": NAMES["expert"]}
        yield plots.robustness_bars(content.robustness, names), "Under pushes and noise, and commands that were never trained."


def _returns(evaluations):
    """A row a policy; mean and standard deviation over seeds, of an evaluation each."""
    rows = []
    for name in evaluations[0]:
        found = [evaluation[name] for evaluation in evaluations if name in evaluation]
        returns = [each["return_mean"] for each in found]
        directions = [row for each in found for row in each["directions"]]
        lowest, falls, episodes = totals({"directions": directions})
        deviation = f" ± {statistics.stdev(returns):.1f}" if len(returns) > 1 else ""
        error = statistics.mean(row["velocity_error_mean"] for row in directions)
        rows.append(
            [
                POLICIES.get(name, name),
                f"{statistics.mean(returns):.1f}{deviation}",
                f"{lowest:.1f}",
                f"{error:.3f}",
                f"{falls}/{episodes}",
            ]
        )
    return {"heads": ["", "return", f"lowest {row_heading(evaluations[0])}", "velocity error, m/s", "falls"], "rows": rows}


def _directions(evaluation):
    rows = [
        [POLICIES.get(name, name), row_label(row), with_spread(row, "±"),
         f"{row['length_mean']:.0f}", f"{row['velocity_error_mean']:.3f}", f"{row['falls']}/{row['episodes']}"]
        for name, result in evaluation.items() for row in result["directions"]
    ]  # fmt: skip
    return {"heads": ["", row_heading(evaluation), "return", "length", "velocity error, m/s", "falls"], "rows": rows}


def _gaits(evaluation, demonstrated=None):
    rows = []
    for name, result in evaluation.items():
        if "mean" in result and name != "stochastic":
            rows.append([POLICIES.get(name, name), *gait_cells(result["mean"])])
    if demonstrated is not None:
        rows.append([DEMONSTRATED, *gait_cells(demonstrated)])
    return {"heads": ["", *(head.replace("\n", ", ") for head, *_ in GAIT_COLUMNS)], "rows": rows}
