"""The report: what runs have learned, as one HTML page that needs nothing else."""

import base64
import statistics
import tempfile
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from qi_ext.evaluation.comparison import compare, gait_measures
from qi_ext.evaluation.gait import Contacts, stances
from qi_ext.evaluation.recorded_episodes import walks
from qi_ext.evaluation.robustness import compare_robustness, conditions
from qi_ext.report import plots
from qi_ext.report.runs import read_run
from qi_ext.report.tables import GAIT_COLUMNS, NAMES, gait_cells, totals
from qi_ext.robot import a1
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.utils.display import Display
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically

FILM_SECONDS = 4.0
POLICIES = {"deterministic": "agent, deterministic", "stochastic": "agent, stochastic", **NAMES}


@dataclass(frozen=True)
class Look:
    """What is shown of runs that differ in their seed, beside their curves; all but the returns is of the first.

    evaluations: of `compare`, one a run, the first with `gait_measures`. robustness: of `compare_robustness`, or empty. agent,
    expert: lists of `Walk`s, one a direction. contacts: {name: stances, (T, 4)}, in the first. films: list of (mp4, caption).
    notes: what is to be said, in words.
    """

    evaluations: list
    robustness: list
    agent: list
    expert: list
    contacts: dict
    films: list
    notes: list


def write_report(paths, output, episodes, robustness=False, demonstrations=""):
    """Write the page of the runs in run directories `paths` to `output`; its size in bytes is returned.

    episodes: per direction, where result.json has no evaluation, and of robustness. Runs that differ in their seed only are
    shown together. demonstrations: where episodes start; each agent's own otherwise. Raises UserError, SamplingError, OSError.
    """
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise UserError("RUN_DIR: one of them is named twice; leave it out")
    groups = grouped([read_run(path) for path in paths])
    looks = {title: look_at(runs, episodes, robustness, demonstrations) for title, runs in groups.items()}
    named = "; ".join(groups) if len(groups) < 3 else f"{len(groups)} experiments"
    content = page(groups, looks, f"How it learned to walk: {named}").encode()
    with write_atomically(output) as file:
        file.write(content)
    return len(content)


def look_at(runs, episodes, robustness=False, demonstrations=""):
    """Run the episodes that a report shows, of runs that differ in their seed; see `write_report`. Returns `Look`."""
    subject = runs[0].subject
    environment = subject.environment(demonstrations)
    commands = environment.commands
    evaluations = [(run.result or {}).get("evaluation") for run in runs]
    if evaluations[0] and "mean" not in evaluations[0].get("deterministic", {}):
        evaluations[0] = None  # it has no gait
    n_episodes = 2 * len(commands) + 4 * episodes * len(commands) * evaluations.count(None)
    if robustness:
        n_episodes += 2 * episodes * len(commands) * len(conditions(commands))
    with (
        closing(BatchedSampler(environment, subject.lanes_per_block)) as sampler,
        Display("walking", n_episodes, "episodes") as display,
    ):
        keys = (subject.seed, subject.step)
        of = {
            name: walks(sampler, controller, commands, *keys, 0, display.advance)
            for name, controller in (("agent", PolicyController(subject.actor, True)), ("expert", ExpertController()))
        }
        for i, run in enumerate(runs):
            if evaluations[i] is None:
                of_run = (run.subject.seed, run.subject.step)
                measures = {} if i else gait_measures(environment, *of_run)
                evaluations[i] = compare(sampler, run.subject.actor, episodes, *of_run, display.advance, measures=measures)
        disturbed = compare_robustness(sampler, subject.actor, episodes, *keys, display.advance) if robustness else []
    contacts = Contacts(environment.model)
    feet = {
        POLICIES.get(name, name): stances(contacts(found[0].observations, found[0].actions)[0]) for name, found in of.items()
    }
    notes = subject.notes(environment, demonstrations)
    try:
        films = _films(environment.model, of["agent"], of["expert"])
    except UserError as error:
        films = []
        notes.append(f"There is no film here: {error}.")
    return Look(evaluations, disturbed, of["agent"], of["expert"], feet, films, notes)


def page(groups, looks, title, sections=()):
    """The report of runs as HTML. groups: {title: [`Run`, ...]}, whose curves are drawn. looks: {title: `Look`}, at those
    groups that are shown beside. sections: of a sweep, which come first, each a dict: `title`, a table of `heads` and `rows`,
    its `caption`, and `drawings`, [(caption, SVG), ...].
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qi_ext.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title,
        subtitle="Unitree A1 in MuJoCo, told in which direction to walk; learned by imitation.",
        sections=[each | {"drawings": [(text, Markup(svg)) for text, svg in each["drawings"]]} for each in sections],
        groups=[_group(name, groups[name], look) for name, look in looks.items()],
        curves=[(name, Markup(svg)) for name, svg in plots.learning_curves(groups)],
        curves_caption="Each point is the mean over neighbouring updates; of several seeds, mean and standard deviation, over "
        "those that have come so far.",
        legend=list(zip(cycle(plots.COLOURS), groups, strict=False)) if len(groups) > 1 else [],
    )


def grouped(runs):
    """Runs that differ in their seed only, {title: [`Run`, ...]}, those that are finished first."""
    groups = {}
    for run in sorted(runs, key=lambda run: run.result is None):
        groups.setdefault(run.title, []).append(run)
    return groups


def _films(model, agent, expert):
    """The films of a page: all directions, and the first one beside the expert. Raises UserError where nothing draws."""
    from qi_ext.report.video import beside, grid, write_video

    shown = [
        (
            beside([agent[0], expert[0]], ["agent", NAMES["expert"]], 480, 360),
            "Beside the trot controller, from the same start.",
        )
    ]
    if len(agent) > 1:
        shown.insert(0, (grid(agent, "all directions", 320, 240), "Each direction; the orange arrow is the command."))
    n_steps = round(FILM_SECONDS / a1.CONTROL_DT)
    films = []
    with tempfile.TemporaryDirectory() as folder, Display("drawing", n_steps * len(shown), "steps") as display:
        for layout, caption in shown:
            path = Path(folder, "film.mp4")
            write_video(path, model, layout, min(n_steps, layout.n_steps), display.advance)
            films.append((path.read_bytes(), caption))
    return films


def _group(title, runs, look):
    """What the template shows of runs that differ in their seed only."""
    run = runs[0]
    metadata = run.subject.metadata
    made = [f"demonstrations: {metadata.get('demonstrations_source', run.config.get('demonstrations', '?'))}"]
    made += [
        f"seed {each.config['seed']}: {each.result['steps']:,} steps in {each.result['training_seconds'] / 60.0:.1f} minutes"
        for each in runs
        if each.result
    ]
    made.append(f"made with {metadata.get('versions', 'unknown versions')}")
    notes = list(look.notes)
    notes += [f"{each.path} is not finished: as of step {each.subject.step:,}." for each in runs if each.result is None]
    if len(runs) > 1:
        notes.append(f"Returns are over all seeds; the rest of what follows is of seed {run.config['seed']}.")
    return {
        "title": title,
        "command": run.command,
        "made": "; ".join(made),
        "notes": notes,
        "films": [{"data": base64.b64encode(film).decode(), "caption": caption} for film, caption in look.films],
        "returns": _returns(look.evaluations),
        "directions": _directions(look.evaluations[0]),
        "gaits": _gaits(look.evaluations[0]),
        "drawings": [{"svg": Markup(svg), "caption": caption} for svg, caption in _drawings(look)],
        "config": yaml.safe_dump(run.config, sort_keys=False),
    }


def _drawings(look):
    first = f"{look.agent[0].command.direction_deg:g} degrees"
    yield plots.polar(look.agent, look.expert), "One episode in each direction: what was commanded, and what came of it."
    yield plots.gait_diagram(look.contacts), f"Feet on the ground, {first}: the last two seconds."
    together = {"agent": look.agent[0], NAMES["expert"]: look.expert[0]}
    yield plots.tracking(together), "How closely the commanded velocity is kept."
    if look.robustness:
        names = {"deterministic": "agent", "expert": NAMES["expert"]}
        yield plots.robustness_bars(look.robustness, names), "Under pushes and noise, and told what was never trained."


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
    return {"heads": ["", "return", "lowest direction", "velocity error, m/s", "falls"], "rows": rows}


def _directions(evaluation):
    rows = [
        [POLICIES.get(name, name), f"{row['direction_deg']:g}", f"{row['return_mean']:.1f} ± {row['return_std']:.1f}",
         f"{row['length_mean']:.0f}", f"{row['velocity_error_mean']:.3f}", f"{row['falls']}/{row['episodes']}"]
        for name, result in evaluation.items() for row in result["directions"]
    ]  # fmt: skip
    return {"heads": ["", "direction", "return", "length", "velocity error, m/s", "falls"], "rows": rows}


def _gaits(evaluation):
    rows = []
    for name, result in evaluation.items():
        if "mean" in result and name != "stochastic":
            rows.append([POLICIES.get(name, name), *gait_cells(result["mean"])])
    return {"heads": ["", *(head.replace("\n", ", ") for head, *_ in GAIT_COLUMNS)], "rows": rows}
