"""What the benchmarks print and write: the machine, a table of medians over rounds, and a flat JSON file."""

import importlib.metadata
import json
import platform
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from qi_ext.sampling.pool import available_cpus
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output, write_atomically


@dataclass
class Measure:
    """title: what the table calls it. form: how its numbers are written. target: it is met from here on; or None."""

    title: str
    form: str
    target: float | None = None


def add_options(parser, rounds):
    """The options that all benchmarks have. rounds: the default, without --quick."""
    parser.add_argument("--json", type=str, help="the JSON file to write [none]", metavar="FILE")
    parser.add_argument("--rounds", type=int, help=f"rounds to take medians over [{rounds}; 1 with --quick]", metavar="R")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs; its numbers mean nothing")


def checked_rounds(options, rounds):
    """How many rounds to run. Raises UserError where they or the JSON file cannot be had."""
    chosen = (1 if options.quick else rounds) if options.rounds is None else options.rounds
    if chosen < 1:
        raise UserError(f"--rounds: must be at least 1, not {chosen}")
    if options.json:
        require_output(options.json, "--json")
    return chosen


def say(text):
    """Tell on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def processor():
    """The processor's model."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return model


def machine(packages):
    """Processor, and versions of `packages`: two lines."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{available_cpus()} CPUs available: {processor()}\nPython {platform.python_version()}, {versions}"


def table(measures, values, columns, judged):
    """Lines of a Markdown table. measures: {name: Measure}. values: {name + suffix: [of each round]}. columns: {title: suffix}.

    Targets are of the column without a suffix; judged: whether this run is one that they are for.
    """
    yield f"| median (min .. max) | {' | '.join(columns)} | target |"
    yield "| --- |" + " ---: |" * len(columns) + " --- |"
    for name, measure in measures.items():
        cells = []
        for suffix in columns.values():
            numbers = values.get(name + suffix)
            parts = [measure.form.format(pick(numbers)) for pick in (statistics.median, min, max)] if numbers else []
            cells.append("{} ({} .. {})".format(*parts) if numbers else "")
        yield f"| {measure.title} | {' | '.join(cells)} | {_verdict(measure, values.get(name), judged)} |"


def write_medians(path, values, facts):
    """The median of each measure, and facts about the run, as one flat JSON object."""
    flat = facts | {name: statistics.median(numbers) for name, numbers in values.items()}
    with write_atomically(path) as file:
        file.write(json.dumps(flat, indent=2).encode() + b"\n")


def _verdict(measure, numbers, judged):
    if measure.target is None:
        return ""
    wanted = f">= {measure.form.format(measure.target)}"
    if not judged or not numbers:
        return wanted
    return f"{wanted}: {'met' if statistics.median(numbers) >= measure.target else 'missed'}"
