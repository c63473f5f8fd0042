"""What the benchmarks share: options, rounds, a table of medians over the rounds, and a flat JSON file."""

import importlib.metadata
import json
import platform
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.sampling.pool import available_cpus
from qi_ext.sweeps.made_with import processor
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output, write_whole


@dataclass
class Measure:
    """title: of its row in the table. form: format of its numbers. target: it is met from here on; or None."""

    title: str
    form: str
    target: float | None = None


def make_parser(program, description, rounds):
    """Return a parser with the options of all benchmarks. rounds: the default without --quick."""
    parser = Parser(program, description)
    parser.add_argument("--json", type=str, help="the JSON file to write [none]", metavar="FILE")
    parser.add_argument("--rounds", type=int, help=f"rounds to take medians over [{rounds}; 1 with --quick]", metavar="R")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs; its numbers mean nothing")
    return parser


def parse(parser, arguments, rounds):
    """Return the parsed options, with the number of rounds to run. Raises UserError where one of them cannot be had."""
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else rounds
    for name in ("rounds", "threads"):
        if getattr(options, name, 1) < 1:
            raise UserError(f"--{name}: must be at least 1, not {getattr(options, name)}")
    if options.json:
        require_output(options.json, "--json")
    return options


def say(text):
    """Print a line about progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def take_rounds(rounds, take_round, warm_up=False):
    """Return {name: [value of each round]}. take_round: gives {name: value}. warm_up: whether a first round does not count."""
    if warm_up:
        say("warming up")
        take_round()
    rows = []
    for i in range(rounds):
        say(f"round {i + 1} of {rounds}")
        rows.append(take_round())
    return {name: [row[name] for row in rows] for name in rows[0]}


def machine(packages):
    """Processor, and versions of `packages`: two lines."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{available_cpus()} CPUs available: {processor()}\nPython {platform.python_version()}, {versions}"


def print_table(measures, values, columns, judged):
    """Print a Markdown table. measures: {name: Measure}. values: {name + suffix: [of each round]}. columns: {title: suffix}.

    Targets are for the column without a suffix. judged: whether they are for a run such as this one.
    """
    print()
    print(f"| median (min .. max) | {' | '.join(columns)} | target |")
    print("| --- |" + " ---: |" * len(columns) + " --- |")
    for name, measure in measures.items():
        cells = []
        for suffix in columns.values():
            numbers = values.get(name + suffix)
            parts = [measure.form.format(pick(numbers)) for pick in (statistics.median, min, max)] if numbers else []
            cells.append("{} ({} .. {})".format(*parts) if numbers else "")
        print(f"| {measure.title} | {' | '.join(cells)} | {_verdict(measure, values.get(name), judged)} |")


def write_medians(path, values, facts):
    """Write the median of each measure, and facts about the run, as one flat JSON object; nothing where there is no path."""
    if path:
        flat = facts | {name: statistics.median(numbers) for name, numbers in values.items()}
        write_whole(path, json.dumps(flat, indent=2) + "\n")


def _verdict(measure, numbers, judged):
    if measure.target is None:
        return ""
    wanted = f">= {measure.form.format(measure.target)}"
    if not judged or not numbers:
        return wanted
    return f"{wanted}: {'met' if statistics.median(numbers) >= measure.target else 'missed'}"
