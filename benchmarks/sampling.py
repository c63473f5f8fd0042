"""Steps per second of the pool beside bare physics, the stock ways to sample, and itself with one worker; one run.

    python benchmarks/sampling.py --json FILE --workers 2

All walk: a policy cloned from the demonstrations acts, and bare physics replays what it did. Prints a table, medians over
rounds of each round's ratio, and writes the medians as one flat JSON object. benchmarks/README.md says how to read it.
"""

import importlib.metadata
import json
import platform
import statistics
from pathlib import Path

from qi_ext.errors import UserError
from qi_ext.files import require_output, write_atomically
from qi_ext.training.arguments import Parser, run_command

ROUNDS = 7
PACKAGES = ("mujoco", "numpy", "joblib", "gymnasium", "mushroom-rl", "loco-mujoco", "torch")
COLUMNS = {"8 lanes": "_8", "32 lanes": "", "128 lanes": "_128"}

# Measure: (what the table calls it, how its numbers are written, target at 32 lanes and 2 workers or None).
MEASURES = {
    "physics": ("pool / bare mj_step", "{:.3f}", 0.90),
    "stock_core": ("pool / stock Core", "{:.2f}", 4.5),
    "async_vector_env": ("pool / AsyncVectorEnv", "{:.2f}", None),
    "scaling": ("pool / one worker", "{:.3f}", 1.85),
    "pool_steps_per_second": ("pool, steps/s", "{:.0f}", None),
    "bare_steps_per_second": ("bare mj_step, steps/s", "{:.0f}", None),
    "stock_steps_per_second": ("stock Core, steps/s", "{:.0f}", None),
    "vector_steps_per_second": ("AsyncVectorEnv, steps/s", "{:.0f}", None),
    "one_worker_steps_per_second": ("one worker, steps/s", "{:.0f}", None),
    "bytes_sent_per_step": ("bytes sent a step", "{:.0f}", None),
    "bytes_received_per_step": ("bytes received a step", "{:.0f}", None),
    "worker_rss_mb": ("memory of a worker, MB", "{:.0f}", None),
    "share_policy": ("time: policy", "{:.1%}", None),
    "share_observation": ("time: observation, reward, bookkeeping", "{:.1%}", None),
    "share_physics": ("time: physics", "{:.1%}", None),
    "share_transport": ("time: transport and waiting", "{:.1%}", None),
}


def main(arguments=None):
    """Parse, measure, print, write. Raises UserError for the user's mistakes, before anything is measured."""
    parser = Parser("sampling.py", __doc__)
    parser.add_argument("--json", type=str, help="the JSON file to write [none]", metavar="FILE")
    parser.add_argument("--workers", type=str, default="2", help="processes, or auto: all available [2]", metavar="N")
    parser.add_argument("--rounds", type=int, help=f"rounds to take medians over [{ROUNDS}; 1 with --quick]", metavar="R")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs; its numbers mean nothing")
    options = parser.parse_args(arguments)
    n_workers = _workers(options.workers)
    rounds = (1 if options.quick else ROUNDS) if options.rounds is None else options.rounds
    if rounds < 1:
        raise UserError(f"--rounds: must be at least 1, not {rounds}")
    if options.json:
        require_output(options.json, "--json")

    # Here, because every process of every contender imports this file, and few need torch.
    from sampling_rounds import measure

    values, walks = measure(n_workers, rounds, options.quick)
    print(_machine(n_workers, rounds))
    print()
    for line in _table(values, n_workers):
        print(line)
    print()
    for name, walk in walks.items():
        print(
            f"{name}: {walk.falls} falls in {walk.steps:,} steps, mean reward {walk.reward / walk.steps:.3f} a step (at most 1)"
        )
    if options.json:
        flat = {"workers": n_workers, "rounds": rounds}
        flat |= {name: statistics.median(numbers) for name, numbers in values.items()}
        with write_atomically(options.json) as file:
            file.write(json.dumps(flat, indent=2).encode() + b"\n")


def _workers(text):
    from qi_ext.sampling.pool import available_cpus

    if text == "auto":
        return available_cpus()
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers: must be auto or a whole number of at least 1, not {text!r}")
    return int(text)


def _machine(n_workers, rounds):
    from qi_ext.sampling.pool import available_cpus

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    return (
        f"{n_workers} workers, {rounds} rounds, on {available_cpus()} CPUs available: {processor}\n"
        f"Python {platform.python_version()}, {versions}"
    )


def _table(values, n_workers):
    """Lines of a Markdown table."""
    yield f"| median (min .. max) | {' | '.join(COLUMNS)} | target (32 lanes, 2 workers) |"
    yield "| --- |" + " ---: |" * len(COLUMNS) + " --- |"
    for name, (title, form, target) in MEASURES.items():
        cells = []
        for suffix in COLUMNS.values():
            numbers = values[name + suffix]
            low, middle, high = (form.format(pick(numbers)) for pick in (min, statistics.median, max))
            cells.append(f"{middle} ({low} .. {high})")
        yield f"| {title} | {' | '.join(cells)} | {_verdict(statistics.median(values[name]), form, target, n_workers)} |"


def _verdict(value, form, target, n_workers):
    if target is None:
        return ""
    wanted = f">= {form.format(target)}"
    if n_workers != 2:
        return wanted
    return f"{wanted}: {'met' if value >= target else 'missed'}"


if __name__ == "__main__":
    run_command("sampling.py", main)
