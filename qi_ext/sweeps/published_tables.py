"""The tables of results/README.md, made of the published results."""

import re
import shlex
import statistics
from pathlib import Path

from qi_ext.report.tables import NAMES
from qi_ext.sweeps.published_result import COLUMNS, LEVELS, learning_settings, recorded_commands, training_command
from qi_ext.sweeps.schemas import PUBLISHED
from qi_ext.tasks.directions import TASKS
from qi_ext.training.config import with_later_settings
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import read_json

BEGIN, END = "<!-- tables: python benchmarks/results.py tables -->\n", "<!-- end of tables -->\n"
BASELINES = ("expert", "random")


def by_name(trials):
    """Return {name: [trials of its seeds]}, in the order of the sweep's file."""
    groups = {}
    for trial in sorted(trials, key=lambda trial: trial.index):
        groups.setdefault(trial.name, []).append(trial)
    return groups


def read_results(folder, trials):
    """Return the published results in `folder`, {name: [content of result.json of each seed]}, of those that have any.

    Raises UserError where one cannot be read, or was made by another evaluation or other settings than its trial has now.
    """
    found = {}
    for name, of_name in by_name(trials).items():
        paths = [(Path(folder, name, str(trial.seed), "result.json"), trial) for trial in of_name]
        results = [_read_result(path, trial) for path, trial in paths if path.exists()]
        if results:
            found[name] = results
    return found


def with_tables(text, trials, results):
    """Return `text`, of README.md, with the tables of `results` between its marks. Raises UserError where it has none."""
    return between_marks("README.md", text, BEGIN, END, _parts(by_name(trials), results))


def between_marks(name, text, begin, end, parts):
    """Return `text`, of the file `name`, with `parts` in place of what is between the lines `begin` and `end`.

    Raises UserError where `text` has not each of these lines once, in this order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(f"{name}: must have the lines {begin.strip()} and {end.strip()}, once, in this order")
    tables = "".join(f"\n{part}" for part in parts)
    return re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + tables + "\n" + end, text, flags=re.DOTALL)


def _parts(trials, results):
    """Yield headings, tables and paragraphs, each with its line's end. trials: {name: [Trial, ...]}."""
    for task in TASKS:
        rows = [(trials[name][0], found) for name, found in results.items() if trials[name][0].config.task.task == task]
        if not rows:
            continue
        yield f"## {task.capitalize()}\n"
        yield _returns(rows)
        yield f"### {task.capitalize()}: how the agents walk, acting deterministically\n"
        yield _gaits(rows)
        disturbed = [(trial, [each for each in found if each["robustness"]]) for trial, found in rows]
        disturbed = [(trial, found) for trial, found in disturbed if found]
        if disturbed:
            yield f"### {task.capitalize()}: under disturbances, acting deterministically\n"
            yield _robustness(disturbed, trials)
    yield from not_run_yet({name: [trial.seed for trial in of_name] for name, of_name in trials.items()}, results)
    if results:
        yield "## Made with\n"
        yield _made_with(results)


def not_run_yet(seeds, results):
    """Yield a line that names what is missing, if anything is. seeds: {name: seeds}. results: {name: [{"seed": of each}]}."""
    missing = []
    for name, of_name in seeds.items():
        published = [result["seed"] for result in results.get(name, [])]
        if left := [str(seed) for seed in of_name if seed not in published]:
            missing.append(" ".join([name, *left]))
    if missing:
        yield f"Not run yet: {', '.join(missing)}.\n"


def _returns(rows):
    heads = ["run", "command", "seeds", "steps", "minutes", "deterministic", "falls", "stochastic", "falls"]
    lines = []
    for trial, found in rows:
        lines.append(
            [
                trial.publication.what,
                f"`{shlex.join(training_command(trial))}`",
                " ".join(str(result["seed"]) for result in found),
                f"{statistics.mean(result['steps'] for result in found):,.0f}",
                f"{statistics.mean(result['training_minutes'] for result in found):.1f}",
                *_return_and_falls([result["evaluation"]["deterministic"] for result in found]),
                *_return_and_falls([result["evaluation"]["stochastic"] for result in found]),
                *(reached_cell([_reached(result, level) for result in found]) for level in LEVELS),
            ]
        )
    for name in BASELINES:
        cells = _return_and_falls([result["evaluation"][name] for result in _distinct(rows)])
        lines.append([NAMES[name], *[""] * 4, *cells, *[""] * (2 + len(LEVELS))])
    return markdown_table([*heads, *(f"to {level}: steps, minutes" for level in LEVELS)], lines, left=2)


def _distinct(rows):
    """Return one result of each seed and number of steps, because the baselines' episodes are the same in all of those."""
    return list({(result["seed"], result["steps"]): result for _, found in rows for result in found}.values())


def _gaits(rows):
    agents = [(trial.publication.what, [result["evaluation"]["deterministic"] for result in found]) for trial, found in rows]
    expert = (NAMES["expert"], [result["evaluation"]["expert"] for result in _distinct(rows)])
    walkers = [*agents, expert]
    gaits = [each["gait"] for _, evaluations in walkers for each in evaluations]
    # Older results lack some measures.
    columns = [column for column in COLUMNS if any(column[1] in gait for gait in gaits)]
    lines = [
        [what, *(_mean([each["gait"].get(name) for each in evaluations], form) for _, name, form in columns)]
        for what, evaluations in walkers
    ]
    return markdown_table(["run", *(heading.replace("\n", ", ", 1) for heading, *_ in columns)], lines)


def _robustness(rows, trials):
    lines = []
    for trial, found in rows:
        what, beside = trial.publication.what, trial.publication.beside
        if beside:
            what += f"; beside: {trials[beside][0].publication.what}"
        for condition in [row["condition"] for row in found[0]["robustness"]]:
            same = [next(row for row in result["robustness"] if row["condition"] == condition) for result in found]
            cells = [what, condition]
            for name in ("deterministic", "beside", "expert"):
                cells += _return_and_falls([row[name] for row in same]) if name in same[0] else ["", ""]
            lines.append(cells)
    heads = ["run", "condition", "agent", "falls", "beside", "falls", NAMES["expert"], "falls"]
    return markdown_table(heads, lines, left=2)


def _made_with(results):
    names_by_machine = {}
    for name, found in results.items():
        for result in found:
            for made in result["made_with"]:
                names = names_by_machine.setdefault(_machine(made, result["device"]), [])
                if name not in names:
                    names.append(name)
    if len(names_by_machine) == 1:
        return f"{next(iter(names_by_machine))}.\n"
    return "".join(f"- {machine}: {', '.join(names)}.\n" for machine, names in names_by_machine.items())


def _machine(made, device):
    """Words for a machine and its versions."""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    changed = "" if made["clean"] else ", with changes that are not committed"
    return f"{made['cores']} cores, {made['processor']}, {made['gpu'] or 'no GPU'}, learning on {device}; {versions}{changed}"


def _return_and_falls(evaluations):
    """Cells: mean return over seeds +- deviation (of the lowest direction of any seed), and falls of episodes."""
    lowest = min(each["lowest"] for each in evaluations)
    falls, episodes = (sum(each[key] for each in evaluations) for key in ("falls", "episodes"))
    returns = [each["return_mean"] for each in evaluations]
    deviation = f" +- {statistics.stdev(returns):.0f}" if len(returns) > 1 else ""
    return [f"{statistics.mean(returns):.0f}{deviation} ({lowest:.0f})", f"{falls}/{episodes}"]


def _reached(result, level):
    reached = result["return_reached"][str(level)]
    return None if reached is None else (reached["steps"], reached["minutes"])


def reached_cell(seeds):
    """Return mean steps and minutes to a return, or how many seeds came there. seeds: of each (steps, minutes), or None."""
    there = [each for each in seeds if each is not None]
    if len(there) < len(seeds):
        return f"{len(there)} of {len(seeds)} seeds" if there else "-"
    steps, minutes = (statistics.mean(values) for values in zip(*there, strict=True))
    return f"{steps:,.0f}, {minutes:.1f}"


def _mean(values, form):
    known = [value for value in values if value is not None]
    return format(statistics.mean(known), form) if known else "-"


def markdown_table(heads, lines, left=1):
    """Return a Markdown table; all columns but the first `left` are numbers."""
    rules = ["---"] * left + ["---:"] * (len(heads) - left)
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in (heads, rules, *lines))


def _read_result(path, trial):
    try:
        result = read_json(path, PUBLISHED)
        settings = with_later_settings(result["settings"])
    except UserError as error:
        raise UserError(f"{path}: cannot be read ({error}); make it anew: python benchmarks/results.py run") from None
    now, (_, evaluation) = learning_settings(trial.config), recorded_commands(trial)
    if (settings, result["commands"][1:]) != (now, [evaluation]):
        again = f"python benchmarks/results.py run {trial.name}"
        raise UserError(f"{path}: was made with another evaluation or other settings than now; make it anew: {again}")
    return result
