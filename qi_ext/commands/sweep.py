"""Train many agents: each combination of settings in a small file, with several seeds, here or on a Slurm cluster.

    qi-ext sweep launchers/sweeps/hard.yaml
    qi-ext sweep --status runs/sweeps/hard
    qi-ext sweep --retry runs/sweeps/hard
    qi-ext sweep --best runs/sweeps/hard

Without --local or --slurm it is Slurm where there is sbatch. Each trial is a run of qi-ext train in a directory of its own, and
goes on where it was when it is stopped, preempted or at its time limit. Exit code 0: all trials are done (of --slurm without
--wait: all are submitted); 1: some are not.
"""

from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.programs import program


def main(arguments=None):
    """Parse, and do it. Returns the exit code; raises UserError for the user's mistakes."""
    parser = Parser(program("sweep"), __doc__)
    parser.add_argument("sweep", type=str, nargs="?", default="", help="what to run", metavar="SWEEP.yaml")
    for name, text in (
        ("status", "show each trial of the sweep in this directory"),
        ("retry", "run those that neither are done nor run nor wait"),
        ("best", "rank its configurations, write its report.html, copy the best agent (of each task) to best.safetensors"),
    ):
        parser.add_argument(f"--{name}", type=str, default="", help=text, metavar="DIR")
    parser.add_argument("--local", action="store_true", help="run on this machine, as many at a time as have cores")
    parser.add_argument("--slurm", action="store_true", help="submit a job a trial")
    parser.add_argument("--wait", action="store_true", help="with Slurm, wait until nothing runs or waits any more")
    parser.add_argument("--dry_run", action="store_true", help="show what would run, and how long it may take")
    text = "where the sweep goes, and its trials [runs/sweeps/SWEEP]"
    parser.add_argument("--results_dir", type=str, default="", help=text, metavar="DIR")
    options = parser.parse_args(arguments)
    given = [name for name in ("sweep", "status", "retry", "best") if getattr(options, name)]
    if len(given) != 1:
        raise UserError("give one of SWEEP.yaml, --status DIR, --retry DIR and --best DIR")
    (command,) = given
    if options.local and options.slurm:
        raise UserError("--local, --slurm: leave one out")
    if options.results_dir and not options.sweep:
        raise UserError(f"--results_dir: the sweep is in {getattr(options, command)}; leave it out")
    for name in ("local", "slurm", "wait", "dry_run"):
        if getattr(options, name) and command in ("status", "best"):
            raise UserError(f"--{name}: is not for --{command}, which runs no trial; leave it out")

    from qi_ext.sweeps import commands  # after what can be refused at once, because scipy takes half a second

    how = {"on_slurm": options.slurm or (False if options.local else None), "wait": options.wait, "dry_run": options.dry_run}
    if options.sweep:
        return commands.begin(options.sweep, options.results_dir, **how)
    if options.retry:
        return commands.retry(options.retry, **how)
    return commands.show(options.status) if options.status else commands.best(options.best)
