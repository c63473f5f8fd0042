"""The tables of results/README.md, made of the published results."""

import json
import re
import shlex
import statistics
from pathlib import Path

from published import LEVELS

from qi_ext.report.tables import GAIT_COLUMNS, NAMES
from qi_ext.tasks.directions import TASKS
from qi_ext.utils.errors import UserError

BEGIN, END = "<!-- tables: python benchmarks/results.py tables -->\n", "<!-- end of tables -->\n"
BESIDE = ("expert", "random")

# Settings that some results were published without, with the value that they were made with.
ADDED = {"disturb_after": 0, "demonstrations": "trot"}


def read_results(folder, experiments):
    """The published results in `folder`, {name: [of each seed]}, in the order of `experiments`, of those that there are any of.

    Raises UserError where one cannot be read, or was made by other commands, options or defaults than its experiment has now.
    """
    found = {}
    for name, experiment in experiments.items():
        paths = [Path(folder, name, str(seed), "result.json") for seed in experiment.seeds]
        results = [_read(path, experiment) for path in paths if path.exists()]
        if results:
            found[name] = results
    return found


def written_anew(text, experiments, results):
    """`text`, of the README, with the tables between their marks as they are now. Raises UserError where it has no marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"README.md: must have the lines {BEGIN.strip()} and {END.strip()}, once, in this order")
    tables = "".join(f"\n{part}" for part in _parts(experiments, results))
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + tables + "\n" + END, text, flags=re.DOTALL)


def _parts(experiments, results):
    """Headings, tables and paragraphs, each with its line's end."""
    for task in TASKS:
        rows = {experiments[name]: found for name, found in results.items() if experiments[name].config.task.task == task}
        if not rows:
            continue
        yield f"## {task.capitalize()}\n"
        yield _returns(rows)
        yield f"### {task.capitalize()}: how the agents walk, acting deterministically\n"
        yield _gaits(rows)
        disturbed = {row: found for row, found in rows.items() if any(result["robustness"] for result in found)}
        if disturbed:
            yield f"### {task.capitalize()}: under disturbances, acting deterministically\n"
            yield _robustness(disturbed, experiments)
    missing = [
        f"{name} {' '.join(map(str, seeds))}"
        for name, experiment in experiments.items()
        if (seeds := [seed for seed in experiment.seeds if seed not in [each["seed"] for each in results.get(name, [])]])
    ]
    if missing:
        yield f"Not run yet: {', '.join(missing)}.\n"
    if results:
        yield "## Made with\n"
        yield _made_with(results)


def _returns(rows):
    heads = ["run", "command", "seeds", "steps", "minutes", "deterministic", "falls", "stochastic", "falls"]
    lines = []
    for row, found in rows.items():
        cells = [row.what, f"`python {shlex.join(row.command())}`", " ".join(str(result["seed"]) for result in found)]
        cells += [f"{statistics.mean(result['steps'] for result in found):,.0f}"]
        cells += [f"{statistics.mean(result['training_minutes'] for result in found):.1f}"]
        for name in ("deterministic", "stochastic"):
            cells += _return(found, name)
        lines.append([*cells, *(_reached(found, str(level)) for level in LEVELS)])
    everything = _baselines(rows)
    for name in BESIDE:
        lines.append([NAMES[name], *[""] * 4, *_return(everything, name), *[""] * (2 + len(LEVELS))])
    return _table([*heads, *(f"to {level}: steps, minutes" for level in LEVELS)], lines, left=2)


def _baselines(rows):
    """A result for each evaluation of the baselines; those of one seed and number of steps are the same episodes."""
    return list({(result["seed"], result["steps"]): result for found in rows.values() for result in found}.values())


def _gaits(rows):
    everything = _baselines(rows)
    named = [(row.what, found, "deterministic") for row, found in rows.items()] + [(NAMES["expert"], everything, "expert")]
    lines = []
    for what, found, name in named:
        gaits = [result["evaluation"][name]["gait"] for result in found]
        lines.append([what, *(_mean([gait[figure] for gait in gaits], form) for _, figure, form in GAIT_COLUMNS)])
    return _table(["run", *(heading.replace("\n", ", ", 1) for heading, *_ in GAIT_COLUMNS)], lines)


def _robustness(rows, experiments):
    lines = []
    for row, found in rows.items():
        found = [result for result in found if result["robustness"]]
        what = f"{row.what}; beside: {experiments[row.beside].what}" if row.beside else row.what
        for condition in found[0]["robustness"]:
            cells = [what, condition["condition"]]
            conditions = [_condition(result, condition["condition"]) for result in found]
            for name in ("deterministic", "beside", "expert"):
                cells += _return([{"evaluation": each} for each in conditions], name) if name in condition else ["", ""]
            lines.append(cells)
    heads = ["run", "condition", "agent", "falls", "beside", "falls", NAMES["expert"], "falls"]
    return _table(heads, lines, left=2)


def _condition(result, name):
    (found,) = (row for row in result["robustness"] if row["condition"] == name)
    return found


def _made_with(results):
    rows = {}
    for name, found in results.items():
        for result in found:
            for made in result["made_with"]:
                names = rows.setdefault(described(made, result["device"]), [])
                if name not in names:
                    names.append(name)
    if len(rows) == 1:
        return f"{next(iter(rows))}.\n"
    return "".join(f"- {text}: {', '.join(names)}.\n" for text, names in rows.items())


def described(made, device):
    """A machine and versions, in words."""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    changed = "" if made["clean"] else ", with changes that are not committed"
    return f"{made['cores']} cores, {made['processor']}, {made['gpu'] or 'no GPU'}, learning on {device}; {versions}{changed}"


def _return(found, name):
    """Mean return over seeds +- deviation (of the lowest direction of any seed), and falls of episodes."""
    figures = [result["evaluation"][name] for result in found]
    lowest = min(figure["lowest"] for figure in figures)
    falls, episodes = (sum(figure[key] for figure in figures) for key in ("falls", "episodes"))
    returns = [figure["return_mean"] for figure in figures]
    deviation = f" +- {statistics.stdev(returns):.0f}" if len(returns) > 1 else ""
    return [f"{statistics.mean(returns):.0f}{deviation} ({lowest:.0f})", f"{falls}/{episodes}"]


def _reached(found, level):
    """Mean steps and minutes to a return, or how many seeds reached it where some did not."""
    values = [result["return_reached"][level] for result in found]
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return f"{len(there)} of {len(values)} seeds" if there else "-"
    steps, minutes = (statistics.mean(value[key] for value in there) for key in ("steps", "minutes"))
    return f"{steps:,.0f}, {minutes:.1f}"


def _mean(values, form):
    known = [value for value in values if value is not None]
    return format(statistics.mean(known), form) if known else "-"


def _table(heads, lines, left=1):
    """A Markdown table; all columns but the `left` first are numbers."""
    rules = ["---"] * left + ["---:"] * (len(heads) - left)
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in (heads, rules, *lines))


def _read(path, experiment):
    try:
        result = json.loads(path.read_text())
        made = {"options": result["options"], "settings": ADDED | result["settings"], "commands": result["commands"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make it anew: python benchmarks/results.py run") from None
    seed = int(path.parent.name)
    if made != {"options": experiment.options, "settings": experiment.settings, "commands": experiment.commands(seed)}:
        again = f"python benchmarks/results.py run {experiment.name}"
        raise UserError(f"{path}: was made with other commands, options or defaults than there are now; make it anew: {again}")
    return result
