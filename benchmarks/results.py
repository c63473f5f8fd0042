"""The experiments of results/experiments.yaml: run them, write the tables of their results, or check that they come out again.

    python benchmarks/results.py run [NAME ...] [--seeds 0 1]
    python benchmarks/results.py tables
    python benchmarks/results.py check [NAME ...]

run trains and evaluates each trial of the sweep, one after the other, in runs/results/NAME/SEED, and publishes a curve and the
figures in results/NAME/SEED. What is finished is not done again, so it can be stopped at any time and started anew. tables
writes the tables of results/README.md. check reruns the first seed of each trial that says `reproduce`, or of those that are
named, and exits with 1 where what is published does not come out: the agent's tensors to the last bit, and figures to 6 digits,
where processor and versions are those of then, or else mean returns within 5 % or three deviations over the published seeds.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from tables import say

from patches.imitation_lib.library import COMMIT, found_commit
from qi_ext.sweeps.commands import write_description
from qi_ext.sweeps.made_with import ROOT
from qi_ext.sweeps.published_result import RUNS
from qi_ext.sweeps.published_tables import by_name, read_results, with_tables
from qi_ext.sweeps.publishing import read_published, require_trained_beside, run_and_publish
from qi_ext.sweeps.reproduction import POLICIES, exact_differences, returns_out_of_tolerance, same_machine
from qi_ext.utils.command_line import Parser, run_command
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole


def main(arguments=None):
    """Parse, and do it. Returns 1 where `check` finds a difference; raises UserError for the user's mistakes."""
    parser = Parser("results.py", __doc__)
    parser.add_argument("action", type=str, help="run, tables or check", metavar="ACTION")
    parser.add_argument("names", type=str, nargs="*", help="trials of experiments.yaml [all]", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", help="of run: which seeds [those of the trial]", metavar="N")
    text = "experiments.yaml, README.md and what is published [results]"
    parser.add_argument("--results", type=str, default=str(ROOT / "results"), help=text, metavar="DIR")
    text = "where run leaves its runs [runs/results]"
    parser.add_argument("--runs", type=str, default=str(ROOT / RUNS), help=text, metavar="DIR")
    options = parser.parse_args(arguments)
    folder = Path(options.results).absolute()
    if options.action not in ("run", "tables", "check"):
        raise UserError(f"ACTION: must be run, tables or check, not {options.action!r}")
    if options.action == "tables" and options.names:
        raise UserError("tables: is of all experiments; leave the names out")
    if options.action != "run" and options.seeds is not None:
        raise UserError(f"--seeds: is not for {options.action}; leave it out")
    sweep = read_published(folder, options.runs)
    trials = by_name(sweep.trials)
    for name in options.names:
        if name not in trials:
            raise UserError(f"{name}: no such experiment; there are {', '.join(trials)}")
    if options.action == "run":
        return run(sweep, options.names or list(trials), options.seeds, folder)
    if options.action == "check":
        return check(folder, options.names or [name for name in trials if trials[name][0].publication.reproduce])
    return write_tables(folder, sweep.trials)


def run(sweep, names, seeds, folder):
    """Train, evaluate and publish trials, one after the other, so that each is published as soon as it is done."""
    chosen = [trial for trial in sweep.trials if trial.name in names]
    for seed in seeds or []:
        if not any(trial.seed == seed for trial in chosen):
            raise UserError(f"--seeds: none of the trials has {seed}; leave it out")
    chosen = [trial for trial in chosen if (seeds is None or trial.seed in seeds) and can_run(trial)]
    if not chosen:
        raise UserError("run: there is nothing to run; look at the names and at what is installed")
    require_trained_beside(chosen)
    write_description(sweep, "--runs")
    for trial in chosen:
        say(f"== {trial.name}, seed {trial.seed}")
        run_and_publish(sweep, trial, folder)


def write_tables(folder, trials):
    """Write the tables of the published results into README.md."""
    results = read_results(folder, trials)
    readme = folder / "README.md"
    if not readme.is_file():
        raise UserError(f"{readme}: no such file; the tables go between the marks in it")
    text = with_tables(readme.read_text(), trials, results)
    write_whole(readme, text)


def check(folder, names):
    """Rerun the first published seed of each name, compare and print. Returns 1 where something differs, else 0."""
    differs = False
    with tempfile.TemporaryDirectory() as temporary:
        sweep = read_published(folder, Path(temporary, "runs"))
        trials = {name: of_name for name, of_name in by_name(sweep.trials).items() if name in names}
        results = read_results(folder, [trial for of_name in trials.values() for trial in of_name])
        names = [name for name in results if can_run(trials[name][0])]
        if not names:
            raise UserError("check: nothing of that is published, or can be run here")
        minutes = sum(results[name][0]["training_minutes"] for name in names)
        say(f"{len(names)} runs; their training took {minutes:.0f} minutes where they were made")
        write_description(sweep, "TMPDIR")
        print_row(["run", "seed", "deterministic", "again", "stochastic", "again", "machine", "verdict"])
        print_row(["---"] * 8)
        for name in names:
            say(f"== {name}")
            published = results[name][0]
            trial = next(trial for trial in trials[name] if trial.seed == published["seed"])
            # Without what needs another run or is long.
            trial = replace(trial, publication=replace(trial.publication, beside="", robustness=False))
            run_and_publish(sweep, trial, Path(temporary, "results"))
            again = json.loads(Path(temporary, "results", name, str(trial.seed), "result.json").read_text())
            same = same_machine(published, again)
            found = exact_differences(published, again) if same else returns_out_of_tolerance(results[name], again)
            differs = differs or bool(found)
            means = [f"{each['evaluation'][policy]['return_mean']:.1f}" for policy in POLICIES for each in (published, again)]
            verdict = f"differs: {', '.join(found)}" if found else "identical" if same else "within the tolerance"
            print_row([name, str(trial.seed), *means, "same" if same else "another", verdict])
    return 1 if differs else 0


def print_row(cells):
    print(f"| {' | '.join(cells)} |", flush=True)


def can_run(trial):
    """Return whether what a trial needs is installed; say so where it is not."""
    if trial.config.run.backend == "imitation_lib" and found_commit() != COMMIT:
        say(f"{trial.name}: skipped, because imitation-lib is not installed (requirements-upstream.txt)")
        return False
    return True


if __name__ == "__main__":
    run_command("results.py", main)
