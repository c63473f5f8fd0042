"""What can be done with a sweep: begin it, look at it, run again what failed, and pick the best. Each returns an exit code."""

import time
from pathlib import Path

from qi_ext import slurm
from qi_ext.errors import UserError
from qi_ext.files import locked, require_writable, write_atomically
from qi_ext.sweeps import launching
from qi_ext.sweeps.description import read_sweep
from qi_ext.sweeps.ranking import rank
from qi_ext.sweeps.status import count, statuses
from qi_ext.training.display import make_console, say

SWEEP_FILE = "sweep.yaml"
LOOK_EVERY = 5.0  # s
STEPS_PER_CORE_SECOND = 1000  # simple-gail in results/README.md: 1.2 million steps in 9.7 minutes on two cores


def begin(path, directory="", on_slurm=None, wait=False, dry_run=False):
    """Run the sweep of a YAML file. directory: by default runs/sweeps/ and the name of the file. on_slurm: None is where there
    is sbatch. Raises UserError."""
    sweep = read_sweep(path, directory or Path("runs", "sweeps", Path(path).stem))
    on_slurm = _where(on_slurm)
    if dry_run:
        return _plan(sweep, sweep.trials, on_slurm)
    if sweep.directory.exists() and (not sweep.directory.is_dir() or any(sweep.directory.iterdir())):
        raise UserError(
            f"{sweep.directory}: is there already; --status and --retry {sweep.directory} go on with it; "
            "or choose another --results_dir"
        )
    require_writable(next(parent for parent in sweep.directory.parents if parent.exists()), "--results_dir")
    sweep.directory.mkdir(parents=True, exist_ok=True)
    with write_atomically(sweep.directory / SWEEP_FILE) as file:
        file.write(sweep.text)
    return _run(sweep, sweep.trials, on_slurm, wait)


def retry(directory, on_slurm=None, wait=False, dry_run=False):
    """Run what neither is done nor runs nor waits. Raises UserError."""
    sweep, on_slurm = _read(directory), _where(on_slurm)
    trials = [each.trial for each in statuses(sweep, _is_run(sweep)) if each.state in ("failed", "not begun")]
    if dry_run:
        return _plan(sweep, trials, on_slurm)
    return _run(sweep, trials, on_slurm, wait)


def show(directory):
    """Print what has become of each trial. Raises UserError."""
    from qi_ext.sweeps.summary import status_table

    sweep = _read(directory)
    found = statuses(sweep, _is_run(sweep))
    make_console().print(status_table(found))
    return _told(sweep, found)


def best(directory, episodes=4):
    """Rank the configurations; write the report and the best agent. episodes: per direction, of what the report measures.

    Raises UserError, SamplingError, OSError.
    """
    from qi_ext.sweeps.summary import ranking_table, write_best  # matplotlib

    sweep = _read(directory)
    found = statuses(sweep, _is_run(sweep))
    ranked = rank(found)
    make_console().print(ranking_table(ranked))
    report, agent = write_best(sweep, found, ranked, episodes)
    say(f"agent: {agent}, of {ranked[0].name}, seed {ranked[0].best_seed}")
    say(f"report: {report}, for a browser")
    return _told(sweep, found)


def _read(directory):
    path = Path(directory, SWEEP_FILE)
    if not path.is_file():
        raise UserError(
            f"{directory}: is not the directory of a sweep: it has no {SWEEP_FILE}; name one, such as runs/sweeps/hard"
        )
    return read_sweep(path, directory)


def _where(on_slurm):
    if on_slurm and not slurm.is_there():
        raise UserError("--slurm: there is no sbatch on PATH; --local runs it on this machine")
    return slurm.is_there() if on_slurm is None else on_slurm


def _is_run(sweep):
    """Whether a process of this machine runs the sweep."""
    try:
        with locked(sweep.directory / SWEEP_FILE, ""):
            return False
    except UserError:
        return True


def _run(sweep, trials, on_slurm, wait):
    stopped_by = None
    with locked(sweep.directory / SWEEP_FILE, f"{sweep.directory}: another process runs this sweep; see --status"):
        if trials and on_slurm:
            _submit(sweep, trials)
        elif trials:
            say(f"{len(trials)} trials, {launching.parallel(sweep.resources)} at a time; everything goes to {sweep.directory}")
            stopped_by = launching.run_here(sweep, trials)
    if on_slurm and not wait:
        say(f"{len(trials)} submitted; see sweep.py --status {sweep.directory}")
        return 0
    found = statuses(sweep)
    while on_slurm and any(each.state in ("running", "waiting") for each in found):
        time.sleep(LOOK_EVERY)
        found = statuses(sweep)
    code = _told(sweep, found)
    return 128 + stopped_by if stopped_by else code


def _submit(sweep, trials):
    try:
        launching.submit(sweep, trials)
    except RuntimeError as error:
        raise UserError(
            f"{error}. What was submitted before goes on; mend the resources in {sweep.directory / SWEEP_FILE}, "
            f"then sweep.py --retry {sweep.directory}"
        ) from None


def _told(sweep, found):
    """Print how many are in which state, and why those failed that did; 0 where all are done."""
    for each in found:
        if each.state == "failed":
            say(f"failed: {each.trial.directory}: {each.reason}")
            for line in each.lines:
                say(f"    {line}")
    say(count(found))
    if any(each.state == "failed" for each in found):
        say(f"sweep.py --retry {sweep.directory} goes on with them")
    return 0 if all(each.state == "done" for each in found) else 1


def _plan(sweep, trials, on_slurm):
    for trial in trials:
        say(f"{trial.directory}: {trial.config.n_steps:,} steps")
    steps = sum(trial.config.n_steps for trial in trials)
    resources = sweep.resources
    how = "jobs of Slurm" if on_slurm else f"runs here, {launching.parallel(resources)} at a time"
    say(f"{len(trials)} {how}, each with {resources.cores} cores and {resources.memory} MiB")
    hours = steps / STEPS_PER_CORE_SECOND / 3600.0
    say(f"{steps:,} steps: about {hours:.1f} core-hours at {STEPS_PER_CORE_SECOND:,} steps/s a core, without the evaluations")
    return 0
