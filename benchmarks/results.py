"""The experiments of results/experiments.yaml: run them, write the tables of what they gave, or see whether they give it again.

    python benchmarks/results.py run [NAME ...] [--seeds 0 1]
    python benchmarks/results.py tables
    python benchmarks/results.py check [NAME ...]

run trains and evaluates each row and seed, one after the other, in runs/results/NAME/SEED, and publishes a curve and the
figures in results/NAME/SEED. What is finished is not done again, so it can be stopped at any time and started anew. tables
writes the tables of results/README.md. check reruns the first seed of each row that says `reproduce`, or of those that are
named, and exits with 1 where what is published does not come out: the agent's tensors to the last bit, and figures to 6 digits,
where processor and versions are those of then, or else mean returns within 5 % or three deviations over the published seeds.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

from experiments import RUNS, read_experiments
from published import ROOT
from reproduction import POLICIES, exact_differences, far_off, same_machine
from result_tables import read_results, written_anew
from running import require_beside, run_one
from tables import say

from patches.imitation_lib.library import COMMIT, found_commit
from qi_ext.utils.command_line import Parser, run_command
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically


def main(arguments=None):
    """Parse, and do it. Returns 1 where `check` finds a difference; raises UserError for the user's mistakes."""
    parser = Parser("results.py", __doc__)
    parser.add_argument("action", type=str, help="run, tables or check", metavar="ACTION")
    parser.add_argument("names", type=str, nargs="*", help="rows of experiments.yaml [all]", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", help="of run: which seeds [those of the row]", metavar="N")
    text = "experiments.yaml, README.md and what is published [results]"
    parser.add_argument("--results", type=str, default=str(ROOT / "results"), help=text, metavar="DIR")
    text = "where run leaves its runs [runs/results]"
    parser.add_argument("--runs", type=str, default=str(ROOT / RUNS), help=text, metavar="DIR")
    options = parser.parse_args(arguments)
    folder, runs = Path(options.results).absolute(), Path(options.runs).absolute()
    if options.action not in ("run", "tables", "check"):
        raise UserError(f"ACTION: must be run, tables or check, not {options.action!r}")
    if options.action == "tables" and options.names:
        raise UserError("tables: is of all experiments; leave the names out")
    if options.action != "run" and options.seeds is not None:
        raise UserError(f"--seeds: is not for {options.action}; leave it out")
    experiments = read_experiments(folder)
    for name in options.names:
        if name not in experiments:
            raise UserError(f"{name}: no such experiment; there are {', '.join(experiments)}")
    chosen = [each for name, each in experiments.items() if name in options.names or not options.names]
    if options.action == "run":
        return run(chosen, options.seeds, folder, runs)
    if options.action == "check":
        wanted = chosen if options.names else [each for each in chosen if each.reproduce]
        return check(wanted, read_results(folder, {each.name: each for each in wanted}))
    results = read_results(folder, experiments)
    readme = folder / "README.md"
    if not readme.is_file():
        raise UserError(f"{readme}: no such file; the tables go between the marks in it")
    text = written_anew(readme.read_text(), experiments, results)
    with write_atomically(readme) as file:
        file.write(text.encode())


def run(chosen, seeds, folder, runs):
    """Each row and seed, one after the other, because each uses the whole machine, and its minutes are published."""
    for seed in seeds or []:
        if not any(seed in each.seeds for each in chosen):
            raise UserError(f"--seeds: none of the rows has {seed}; leave it out")
    pairs = [(each, seed) for each in chosen if can_run(each) for seed in each.seeds if seeds is None or seed in seeds]
    if not pairs:
        raise UserError("run: there is nothing to run; look at the names and at what is installed")
    require_beside(pairs, runs)
    for experiment, seed in pairs:
        say(f"== {experiment.name}, seed {seed}")
        run_one(experiment, seed, runs, folder)


def check(chosen, results):
    """Rerun, compare and print; returns 1 where something differs, else 0."""
    wanted = [each for each in chosen if each.name in results and can_run(each)]
    if not wanted:
        raise UserError("check: nothing of that is published, or can be run here")
    minutes = sum(results[each.name][0]["training_minutes"] for each in wanted)
    say(f"{len(wanted)} runs; their training took {minutes:.0f} minutes where they were made")
    heads = ["run", "seed", "deterministic", "again", "stochastic", "again", "machine", "verdict"]
    print_row(heads)
    print_row(["---"] * len(heads))
    differs = False
    for experiment in wanted:
        say(f"== {experiment.name}")
        published = results[experiment.name]
        again = rerun(experiment, published[0]["seed"])
        same = same_machine(published[0], again)
        found = exact_differences(published[0], again) if same else far_off(published, again)
        differs = differs or bool(found)
        figures = [f"{result['evaluation'][name]['return_mean']:.1f}" for name in POLICIES for result in (published[0], again)]
        verdict = f"differs: {', '.join(found)}" if found else "identical" if same else "within the tolerance"
        print_row([experiment.name, str(again["seed"]), *figures, "same" if same else "another", verdict])
    return 1 if differs else 0


def print_row(cells):
    print(f"| {' | '.join(cells)} |", flush=True)


def rerun(experiment, seed):
    """The result of one seed, run anew, without what needs another run or is long."""
    alone = dataclasses.replace(experiment, beside="", robustness=False)
    with tempfile.TemporaryDirectory() as folder:
        run_one(alone, seed, Path(folder, "runs"), Path(folder, "results"))
        return json.loads(Path(folder, "results", alone.name, str(seed), "result.json").read_text())


def can_run(experiment):
    """Whether what the experiment needs is installed; says so where it is not."""
    if experiment.config.backend == "imitation_lib" and found_commit() != COMMIT:
        say(f"{experiment.name}: skipped, because imitation-lib is not installed (requirements-upstream.txt)")
        return False
    return True


if __name__ == "__main__":
    run_command("results.py", main)
