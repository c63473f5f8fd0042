"""The report of runs: read their directories, run the episodes that it shows, write one HTML page."""

import tempfile
from contextlib import closing
from pathlib import Path

from qi_ext.evaluation import evaluate_agent, evaluate_robustness, record_episodes
from qi_ext.evaluation.gait import Contacts, demonstrated_gait, stances
from qi_ext.report.html import POLICIES, Content, render_page
from qi_ext.report.runs import by_experiment, read_run
from qi_ext.report.tables import NAMES
from qi_ext.robot import a1
from qi_ext.robot.courses import Course
from qi_ext.sampling.controllers import ExpertController
from qi_ext.utils.display import Display
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole

FILM_SECONDS, COURSE_SECONDS = 4.0, 10.0


def write_report(paths, output, episodes, robustness=False, demonstrations=""):
    """Write the page of the runs in run directories `paths` to `output`; return its size in bytes.

    episodes: per direction, where result.json has no evaluation, and for robustness. Runs that differ only in their seed are
    shown together. robustness: show pushes, noise and other commands too. demonstrations: where episodes start; each agent's
    own where it is empty. Raises UserError, SamplingError, OSError.
    """
    experiments = by_experiment([read_run(path) for path in paths])
    contents = {title: gather_content(runs, episodes, robustness, demonstrations) for title, runs in experiments.items()}
    named = "; ".join(experiments) if len(experiments) < 3 else f"{len(experiments)} experiments"
    page = render_page(experiments, contents, f"How it learned to walk: {named}").encode()
    write_whole(output, page)
    return len(page)


def gather_content(runs, episodes, robustness=False, demonstrations=""):
    """Run the episodes that a page shows of `runs`, which differ only in their seed; the other arguments as in `write_report`.

    Returns a `Content`: the returns of all runs, and all else of the first. Raises UserError, SamplingError.
    """
    agent = runs[0].agent
    environment = agent.environment(demonstrations)
    key = (agent.seed, agent.step)
    evaluations = [(run.result or {}).get("evaluation") for run in runs]
    if evaluations[0] and "mean" not in evaluations[0].get("deterministic", {}):
        evaluations[0] = None  # an older one, without the gait
    with closing(agent.source(environment)) as source:
        with Display("walking", 2 * len(environment.commands), "episodes") as display:
            recorded = {
                name: record_episodes(source, controller, environment.commands, *key, progress=display.advance)
                for name, controller in (("agent", agent.controller()), ("expert", ExpertController()))
            }
        for i, run in enumerate(runs):
            if evaluations[i] is None:
                evaluations[i] = evaluate_agent(source, run.agent.actor, episodes, run.agent.seed, run.agent.step)
        conditions = evaluate_robustness(source, agent.actor, episodes, *key) if robustness else []
    contacts = Contacts(environment.model)
    first = {POLICIES.get(name, name): of_policy[0] for name, of_policy in recorded.items()}
    notes = agent.notes(environment, demonstrations)
    try:
        films = _films(environment.model, **recorded)
    except UserError as error:
        films = []
        notes.append(f"There is no film here: {error}.")
    return Content(
        evaluations=evaluations,
        robustness=conditions,
        **recorded,
        stances={name: stances(contacts(episode.observations, episode.actions)[0]) for name, episode in first.items()},
        films=films,
        notes=notes,
        demonstrated=demonstrated_gait(environment.demonstrations),
    )


def _films(model, agent, expert):
    """The films of a page, [(mp4, caption), ...]: all directions or courses, and the first one beside the trot controller.

    agent, expert: lists of `RecordedEpisode`. Raises UserError where nothing draws.
    """
    from qi_ext.report.video import beside, grid, write_video

    together = beside([agent[0], expert[0]], ["agent", NAMES["expert"]], 480, 360)
    shown = [(together, FILM_SECONDS, "Beside the trot controller, from the same start.")]
    if len(agent) > 1 and isinstance(agent[0].command, Course):
        caption = "Each course; the orange arrow and line are the command, the blue line is the path walked."
        shown.insert(0, (grid(agent, "all courses", 320, 240), COURSE_SECONDS, caption))
    elif len(agent) > 1:
        caption = "Each direction; the orange arrow is the command."
        shown.insert(0, (grid(agent, "all directions", 320, 240), FILM_SECONDS, caption))
    lengths = [min(round(seconds / a1.CONTROL_DT), layout.n_steps) for layout, seconds, _ in shown]
    films = []
    with tempfile.TemporaryDirectory() as folder, Display("drawing", sum(lengths), "steps") as display:
        for (layout, _, caption), n_steps in zip(shown, lengths, strict=True):
            path = Path(folder, "film.mp4")
            write_video(path, model, layout, n_steps, display.advance)
            films.append((path.read_bytes(), caption))
    return films
