"""Patches that report failures: of experiments in a Slurm script or a local run, and of sbatch."""

import traceback
from copy import deepcopy

from patches.experiment_launcher import LIBRARY
from patches.experiment_launcher.trial import launch
from patches.library import Seen

_FAIL = "raise RuntimeError('as asked')"

_WAIT = """
# The library's own wait, below, forgets their exit codes.
exit_code=0
for i in "${!experiments[@]}"; do
  running=1
  while [ "$running" ]; do
    # A trap in the script ends `wait` early: wait again.
    kill -0 "${experiments[$i]}" 2>/dev/null || running=
    wait "${experiments[$i]}"
    ended_with=$?
    [ $ended_with -gt 128 ] || running=
  done
  [ $ended_with = 0 ] || {
    exit_code=$ended_with
    echo "Experiment $((i + 1)) of ${#experiments[@]} ended with exit code $exit_code" >&2
  }
done
"""


def _probe_exit_code():
    outcome = launch(body=_FAIL)
    if len(outcome.received) != 1 or len(outcome.exit_codes) != 1:
        raise RuntimeError(f"the experiment did not run: {outcome}")
    return "" if outcome.exit_codes != [0] else f"exit code 0 after: {outcome.output.strip().splitlines()[-3]}"


@LIBRARY.patch(
    "exit-code",
    target="experiment_launcher.launcher:Launcher.generate_slurm",
    sees="Slurm calls a job COMPLETED, exit code 0:0, although its experiments crashed",
    remedy="the script ends with the exit code of its last failed experiment, and says which failed",
    probe=_probe_exit_code,
)
def _exit_code(edits):
    from experiment_launcher import Launcher

    @edits.wrap(Launcher, "generate_slurm")
    def with_exit_code(generate_slurm, self, command_line_args_list=None):
        script = generate_slurm(self, command_line_args_list)
        commands, wait, rest = script.rpartition("\nwait")
        for line in dict.fromkeys(command_line_args_list or ()):
            started = f"\t\t{line}  &\n"
            commands = commands.replace(started, f"{started}experiments+=($!)\n")
        return f"{commands}{_WAIT}{wait}{rest}exit $exit_code\n"


def _probe_sbatch():
    outcome = launch(refuse=True)
    if outcome.received:
        raise RuntimeError(f"sbatch did not fail: {outcome}")
    return "" if outcome.error else "sbatch failed, run() did not"


@LIBRARY.patch(
    "sbatch-errors",
    target="experiment_launcher.launcher:Launcher._run_slurm",
    sees="run(local=False) ends as if all were well where sbatch refuses a script or is missing",
    remedy="the first script that is not submitted ends the run with a RuntimeError that names it",
    probe=_probe_sbatch,
)
def _sbatch_errors(edits):
    import experiment_launcher.launcher as launcher

    def system(command, inner=launcher.os.system):
        status = inner(command)
        if status:
            code = launcher.os.waitstatus_to_exitcode(status)
            why = "there is no sbatch on PATH; run(local=True) needs none" if code == 127 else "its message is above"
            raise RuntimeError(f"{command}: not submitted, nor what follows it: exit code {code}, {why}")
        return status

    edits.replace(launcher, "os", Seen(launcher.os, system=system))


def _probe_local():
    outcome = launch({"name__": "a"}, {"name__": "b"}, parameters="name: str = '',", body=_FAIL, local=True)
    if len(outcome.received) != 2:
        raise RuntimeError(f"the experiments did not run: {outcome}")
    return "" if outcome.error else "both experiments failed, run() did not"


@LIBRARY.patch(
    "local-failures",
    target="experiment_launcher.launcher:Launcher._run_local, _run_sequential",
    sees="run(local=True) ends as if all were well where experiments crashed",
    remedy="it raises a RuntimeError that names them, after all others ran",
    probe=_probe_local,
)
def _local_failures(edits):
    from experiment_launcher import Launcher

    @edits.wrap(Launcher, "_run_local")
    def _run_local(original, self, test):
        return original(self, test) if test else _run(self, self._n_exps_in_parallel)

    @edits.wrap(Launcher, "_run_sequential")
    def _run_sequential(original, self, test):
        return original(self, test) if test else _run(self, 1)


def _run(self, n_jobs):
    """Run all experiments of a `Launcher`, n_jobs at a time; raises RuntimeError that names those that failed."""
    from experiment_launcher import launcher
    from joblib import Parallel, delayed

    launcher.os.makedirs(self._experiment_dir_local, exist_ok=True)
    experiment = launcher.import_module(self._experiment_py_file).experiment
    defaults = launcher.get_experiment_default_params(experiment)
    runs = [deepcopy(given) for given in self._generate_exp_params(defaults)]
    ends = Parallel(n_jobs=n_jobs)(delayed(_attempt)(experiment, given) for given in runs)
    failed = [f"{given}: {end}" for given, end in zip(runs, ends, strict=True) if end]
    if failed:
        self._experiment_list = []
        raise RuntimeError("\n  ".join([f"{len(failed)} of {len(runs)} experiments failed:", *failed]))


def _attempt(experiment, given):
    """Run an experiment; return its exception in one line, "" for none."""
    try:
        experiment(**given)
    except Exception as error:
        print(f"This experiment failed: {given}", flush=True)
        traceback.print_exc()
        return traceback.format_exception_only(error)[-1].strip()
    return ""
