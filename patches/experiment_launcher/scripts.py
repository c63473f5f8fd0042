"""Patches of Slurm scripts: arguments and paths are quoted, and the launcher's Python runs the experiment."""

import sys
from shlex import quote

from patches.experiment_launcher import LIBRARY
from patches.experiment_launcher.arguments import Quoted, written_by
from patches.experiment_launcher.attributes import attributes
from patches.experiment_launcher.trial import launch
from patches.library import Seen


def _probe_interpreter():
    outcome = launch(body="print('BARE' in os.environ)")
    if len(outcome.received) != 1:
        raise RuntimeError(f"the experiment did not run: {outcome}")
    return "the first python3 on PATH ran the experiment" if "True" in outcome.output else ""


@LIBRARY.patch(
    "interpreter",
    target="experiment_launcher.launcher:Launcher.generate_slurm",
    sees="jobs run the first python3 on PATH, and miss what the virtual environment of the launcher has",
    remedy="they run the launcher's own Python; conda_env still chooses another",
    probe=_probe_interpreter,
)
def _interpreter(edits):
    from experiment_launcher import Launcher

    @edits.wrap(Launcher, "generate_slurm")
    def with_own_python(generate_slurm, self, command_line_args_list=None):
        script = generate_slurm(self, command_line_args_list)
        if self._conda_env or not sys.executable:
            return script
        command = f"\npython3  {self._exp_file_path} "
        return script.replace(command, command.replace("python3 ", quote(sys.executable), 1))


def _probe_quoting():
    sent = "A B; echo 'C' $HOME"
    outcome = launch({"env__": sent}, parameters="env: str = '',")
    if not outcome.received:
        return outcome.seen
    if outcome.received[0]["env"] != sent:
        return f"{sent} arrived as {outcome.received[0]['env']!r}"
    return "" if launch(folder="my runs").exit_codes == [0] else "sbatch refused the script"


@LIBRARY.patch(
    "quoting",
    target="experiment_launcher.launcher:Launcher.generate_slurm, _run_slurm",
    sees="env='A B;touch x' runs touch under Slurm; spaces cut arguments and directories in pieces",
    remedy="arguments and paths reach the experiment and sbatch as given: no $HOME, ~ or * is expanded",
    probe=_probe_quoting,
)
def _quoting(edits):
    import experiment_launcher.launcher as launcher
    from experiment_launcher import Launcher

    def quoted(value):
        if isinstance(value, list):
            return [quoted(each) for each in value]
        return value if isinstance(value, Quoted) else quote(str(value))

    def write_quoted(function, write, experiment):
        return write({quoted(name): quoted(value) for name, value in experiment.items()})

    written_by(edits, write_quoted)

    @edits.wrap(Launcher, "_run_slurm")
    def run_with_quoted_results_dir(run_slurm, self, test):
        generate = self._generate_results_dir
        with attributes(self, _generate_results_dir=lambda *given: quote(generate(*given))):
            return run_slurm(self, test)

    @edits.wrap(Launcher, "generate_slurm")
    def generate_quoted(generate_slurm, self, command_line_args_list=None):
        # sbatch reads quotes as a shell does, and replaces %X in the names of its logs.
        logs = quote(self._experiment_dir_slurm_logs.replace("%", "%%"))
        name = quote(self._experiment_name)
        with attributes(self, _experiment_dir_slurm_logs=logs, _experiment_name=name):
            return generate_slurm(self, command_line_args_list)

    def system(command, inner=launcher.os.system):
        return inner(f"sbatch {quote(command.removeprefix('sbatch '))}")

    file_path = Launcher._exp_file_path.fget
    edits.replace(Launcher, "_exp_file_path", property(lambda self: quote(file_path(self))))
    edits.replace(launcher, "os", Seen(launcher.os, system=system))
