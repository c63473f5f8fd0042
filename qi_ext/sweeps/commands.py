"""The commands on a sweep: begin it, show its state, run again what failed, and pick the best. Each returns an exit code."""

import os
import time
from pathlib import Path

from qi_ext.sweeps.description import read_sweep
from qi_ext.sweeps.ranking import by_task, rank
from qi_ext.sweeps.slurm_files import script_file
from qi_ext.sweeps.status import count, statuses
from qi_ext.utils import slurm
from qi_ext.utils.display import make_console, say
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import locked, require_name, require_writable, write_whole
from qi_ext.utils.programs import command, shell_word

SWEEP_FILE = "sweep.yaml"
POLL_SECONDS = 5.0
UNANSWERED_SECONDS = 600.0  # for which Slurm may be silent
STEPS_PER_CORE_SECOND = 1000  # simple-gail-4096 in results/README.md: 1.2 million steps in 9.7 minutes on two cores


def begin(path, directory="", on_slurm=None, wait=False, dry_run=False):
    """Run the sweep of a YAML file. directory: "" is runs/sweeps/ and the name of the file. on_slurm: None is where there is
    sbatch. Raises UserError."""
    if directory:
        require_name(directory, "--results_dir")
    sweep = read_sweep(path, directory or Path("runs", "sweeps", Path(path).stem))
    on_slurm = _choose_slurm(on_slurm)
    if dry_run:
        return _print_plan(sweep, on_slurm)
    _import_launching()
    if sweep.directory.exists() and (not sweep.directory.is_dir() or any(sweep.directory.iterdir())):
        raise UserError(
            f"{sweep.directory}: is there already; --status and --retry {sweep.directory} go on with it; "
            "or choose another --results_dir"
        )
    write_description(sweep, "--results_dir")
    return run(sweep, on_slurm, wait)


def retry(directory, on_slurm=None, wait=False, dry_run=False):
    """Run the trials that neither are done nor run nor wait. Raises UserError."""
    sweep, on_slurm = _read(directory), _choose_slurm(on_slurm)
    if dry_run:
        return _print_plan(sweep.only(_unfinished(sweep, _is_running(sweep))), on_slurm)
    return run(sweep, on_slurm, wait)


def show(directory):
    """Print the state of each trial. Raises UserError."""
    from qi_ext.sweeps.summary import status_table

    sweep = _read(directory)
    found = statuses(sweep, _is_running(sweep))
    make_console().print(status_table(found))
    return _print_states(sweep, found)


def best(directory, episodes=4):
    """Rank the configurations, of each task by itself; write the report and the best agents. episodes: per direction, of what
    the report measures.

    Raises UserError, SamplingError, OSError.
    """
    from qi_ext.sweeps.summary import ranking_table, write_best  # matplotlib

    sweep = _read(directory)
    found = statuses(sweep, _is_running(sweep))
    ranked = {task: rank(of_task) for task, of_task in by_task(found).items()}
    for of_task in ranked.values():
        make_console().print(ranking_table(of_task))
    report, agents = write_best(sweep, ranked, episodes)
    for task, agent in agents.items():
        say(f"agent: {agent}, of {ranked[task][0].name}, seed {ranked[task][0].best_seed}")
    say(f"report: {report}, for a browser")
    return _print_states(sweep, found)


def write_description(sweep, option):
    """Make the directory of a sweep and write its file there. Raises UserError, naming `option`, where that cannot be done."""
    require_writable(next(parent for parent in (sweep.directory, *sweep.directory.parents) if parent.exists()), option)
    sweep.directory.mkdir(parents=True, exist_ok=True)
    write_whole(sweep.directory / SWEEP_FILE, sweep.text)


def run(sweep, on_slurm=False, wait=False):
    """Run the trials of a sweep that neither are done nor run nor wait; its file is in its directory. Raises UserError."""
    launching, stopped_by = _import_launching(), None
    with locked(sweep.directory / SWEEP_FILE, f"{sweep.directory}: another process runs this sweep; see --status"):
        trials = _unfinished(sweep)
        if trials and on_slurm:
            _submit(sweep, trials)
        elif trials:
            say(f"{len(trials)} trials, {sweep.resources.at_once} at a time; everything goes to {sweep.directory}")
            stopped_by = launching.run_here(sweep, trials)
    if on_slurm and not wait:
        say(f"{len(trials)} submitted; see {command('sweep')} --status {shell_word(sweep.directory)}")
        return 0
    code = _print_states(sweep, _wait(sweep) if on_slurm else statuses(sweep))
    return 128 + stopped_by if stopped_by else code


def _read(directory):
    path = Path(directory, SWEEP_FILE)
    if not os.path.isfile(path):  # not Path's own, which raises where a name is too long
        raise UserError(
            f"{directory}: is not the directory of a sweep: it has no {SWEEP_FILE}; name one, such as runs/sweeps/hard"
        )
    return read_sweep(path, directory)


def _choose_slurm(on_slurm):
    if on_slurm and not slurm.is_there():
        raise UserError("--slurm: there is no sbatch on PATH; --local runs it on this machine")
    return slurm.is_there() if on_slurm is None else on_slurm


def _import_launching():
    try:
        from qi_ext.sweeps import launching
    except ModuleNotFoundError as error:
        if error.name != "experiment_launcher":
            raise
        raise UserError("sweep: experiment-launcher is not installed; pip install experiment-launcher==3.3") from None
    return launching


def _is_running(sweep):
    """Return whether a process of this machine runs the sweep."""
    try:
        with locked(sweep.directory / SWEEP_FILE, ""):
            return False
    except UserError:
        return True


def _unfinished(sweep, running_here=False):
    """Return the trials that neither are done nor run nor wait. Raises UserError where that is not known of one."""
    found = statuses(sweep, running_here)
    for each in found:
        if each.state == "unknown":
            raise UserError(f"{each.trial.directory}: whether it runs is not known: {each.reason}")
    return [each.trial for each in found if each.state in ("failed", "not begun")]


def _wait(sweep):
    """Return the statuses once nothing runs or waits any more, or Slurm has not answered for UNANSWERED_SECONDS."""
    printed, answered = "", time.monotonic()
    while True:
        found = statuses(sweep)
        states = {each.state for each in found}
        if not states & {"running", "waiting", "unknown"}:
            return found
        if "unknown" not in states:
            answered = time.monotonic()
        elif time.monotonic() - answered > UNANSWERED_SECONDS:
            return found
        reasons = sorted({each.reason.partition(": ")[2] for each in found if each.state == "waiting"})
        text = count(found) + (f" ({'; '.join(reasons)})" if reasons else "")
        if text != printed:
            say(text)
            printed = text
        time.sleep(POLL_SECONDS)


def _submit(sweep, trials):
    try:
        _import_launching().submit(sweep, trials)
    except RuntimeError as error:
        raise UserError(
            f"{error}. What was submitted before goes on; mend the resources in {sweep.directory / SWEEP_FILE}, "
            f"then {command('sweep')} --retry {shell_word(sweep.directory)}"
        ) from None


def _print_states(sweep, found):
    """Print how many trials are in which state, and why those failed that did. Returns 0 where all are done, else 1."""
    for each in found:
        if each.state == "failed":
            say(f"failed: {each.trial.directory}: {each.reason}")
            for line in each.lines:
                say(f"    {line}")
    for reason in sorted({each.reason for each in found if each.state == "unknown"}):
        say(f"unknown: {reason}")
    say(count(found))
    failed = [each.trial for each in found if each.state == "failed"]
    if failed:
        local = slurm.is_there() and not any(script_file(sweep, trial).exists() for trial in failed)
        say(f"{command('sweep')} --retry {shell_word(sweep.directory)}{' --local' if local else ''} goes on with them")
    return 0 if all(each.state == "done" for each in found) else 1


def _print_plan(sweep, on_slurm):
    for trial in sweep.trials:
        say(f"{trial.directory}: {trial.config.run.n_steps:,} steps")
    resources, configs = sweep.resources, [trial.config for trial in sweep.trials]
    hours = sum(_core_seconds(config, resources.cores) for config in configs) / 3600.0
    how = "jobs of Slurm" if on_slurm else f"runs here, {resources.at_once} at a time"
    cores = f"{resources.cores} core{'s' if resources.cores > 1 else ''}"
    say(f"{len(configs)} {how}, each with {cores} and {resources.memory} MiB")
    say(
        f"{sum(config.run.n_steps for config in configs):,} steps: about {hours:,.2f} core-hours at {STEPS_PER_CORE_SECOND:,} "
        "steps/s a core, without warm starts and evaluations"
    )
    return 0


def _core_seconds(config, cores):
    """Upper bound of the core-seconds of training."""
    seconds = config.run.n_steps / STEPS_PER_CORE_SECOND
    return min(seconds, 60.0 * config.run.minutes * cores) if config.run.minutes else seconds
