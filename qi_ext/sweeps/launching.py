"""The launching of trials by experiment-launcher: on Slurm a job each, on this machine some at a time."""

import io
import os
from contextlib import contextmanager, redirect_stdout
from shlex import quote

import joblib
from experiment_launcher import Launcher

import patches
from qi_ext.sweeps import trial_process as experiment
from qi_ext.sweeps.slurm_files import job_file, label, script_file, slurm_directories
from qi_ext.training.run_directory import TRIAL_RECORD
from qi_ext.utils.display import say
from qi_ext.utils.programs import environment

GRACE = 120  # s before the time limit at which a run is told to save, or a quarter of the limit where that is less

_SETTINGS = """\
# Preempted, or at its time limit, it goes on in the next job.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{grace}
"""

_START = """
export PYTHONPATH={path}
echo "$SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}}" > {job}
requeue=
experiments=()
trap 'kill -TERM "${{experiments[@]}}"' TERM
trap 'requeue=1; kill -TERM "${{experiments[@]}}"' USR1
"""

# 143 is of a run that was told to stop, and has come further than it was when the job began.
_END = """
if [ "$requeue" ] && [ "$exit_code" = 143 ]; then
  echo "The time limit is near: the run is saved, and goes on when Slurm starts this job again"
  scontrol requeue "$SLURM_JOB_ID" || exit
fi
"""


class SweepLauncher(Launcher):
    """experiment-launcher's own launcher, for trials that are listed one by one and jobs that go on after their time limit.

    It is to run while the patches of experiment-launcher hold.
    """

    def __init__(self, sweep, trials, n_parallel=1):
        """trials: those of the sweep that are to run. n_parallel: number of them at a time, on this machine."""
        resources = sweep.resources
        gpu = resources.gpu if not resources.gpu or resources.gpu.startswith("gpu:") else f"gpu:{resources.gpu}"
        super().__init__(
            exp_name=sweep.directory.name,
            exp_file=experiment.__name__,
            n_seeds=1,
            n_cores=resources.cores,
            memory_per_core=-(-resources.memory // resources.cores),
            days=resources.time // 86400,
            hours=resources.time // 3600 % 24,
            minutes=resources.time // 60 % 60,
            seconds=resources.time % 60,
            project_name=resources.account or None,
            base_dir=str(sweep.directory.parent),
            n_exps_in_parallel=n_parallel,
            gres=gpu or None,
            partition=resources.partition or None,
            use_timestamp=False,
            check_results_directories=False,
        )
        self._sweep, self._trials = sweep, trials
        # The library would prefer a scratch directory that it knows of on one cluster.
        self._experiment_dir_slurm = self._experiment_dir_local = str(sweep.directory)
        self._experiment_dir_slurm_files, self._experiment_dir_slurm_logs = map(str, slurm_directories(sweep.directory))

    def _generate_exp_params(self, default_params_dict):
        for trial in self._trials:
            yield default_params_dict | trial.settings | {"results_dir": str(trial.results_dir), "seed": trial.seed}

    def _run_slurm(self, test):
        for trial in self._trials:
            self._trial, self._start_seed, self._experiment_list = trial, trial.seed, [trial.settings]
            super()._run_slurm(test)

    def _generate_results_dir(self, results_dir, exp, n=6):
        return str(self._trial.results_dir)

    def save_slurm(self, command_line_args_list=None, idx=None):
        _forget(self._sweep, self._trial)
        return super().save_slurm(command_line_args_list, label(self._sweep, self._trial))

    def generate_slurm(self, command_line_args_list=None):
        with redirect_stdout(io.StringIO()):  # the library prints what GPU is asked for
            script = super().generate_slurm(command_line_args_list)
        grace = min(GRACE, self._sweep.resources.time // 4)
        script = _inserted(script, "\n# Mandatory parameters\n", "\n" + _SETTINGS.format(grace=grace))
        job, path = job_file(self._sweep, self._trial), environment().get("PYTHONPATH", "")
        start = _START.format(job=quote(str(job)), path=quote(path))
        script = _inserted(script, "\n# Program specific arguments\n", start)
        return _inserted(script, "\nexit $exit_code\n", _END)


def submit(sweep, trials):
    """Submit trials to Slurm, one job each. Raises RuntimeError at the first that sbatch refuses."""
    with _patched():
        SweepLauncher(sweep, trials).run(local=False)


def run_here(sweep, trials):
    """Run trials on this machine, as many at a time as fit. Returns the number of the signal that stopped them, or None."""
    launcher = SweepLauncher(sweep, trials, sweep.resources.at_once)
    for trial in trials:
        _forget(sweep, trial)
    # Each trial is a process of its own; the threads only wait for them.
    threads, stopped_together = joblib.parallel_config("threading"), experiment.stopped_together()
    with _patched(), _cores(sweep.resources.cores), threads, stopped_together as signals:
        try:
            launcher.run(local=True)
        except RuntimeError as error:  # after all others have run, the trials that could not begin
            say(str(error))
    return signals[0] if signals else None


def _forget(sweep, trial):
    """Remove what an earlier attempt has left, above all that it was given to Slurm."""
    for path in (script_file(sweep, trial), job_file(sweep, trial), trial.directory / TRIAL_RECORD):
        path.unlink(missing_ok=True)


@contextmanager
def _patched():
    """Apply the patches of experiment-launcher, and take them back at the end."""
    before = patches.applied()
    patches.apply("experiment_launcher")
    try:
        yield
    finally:
        patches.set_applied(before)


@contextmanager
def _cores(count):
    """Let what is started meanwhile see `count` processors (joblib's `cpu_count`)."""
    name = "LOKY_MAX_CPU_COUNT"
    before = os.environ.get(name)
    os.environ[name] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _inserted(script, place, text):
    """Return the script with `text` before `place`. Raises RuntimeError where the library's scripts have no such place."""
    if place not in script:
        raise RuntimeError(f"experiment-launcher's script has no {place.strip()!r}")
    return script.replace(place, text + place, 1)
