"""A tiny experiment that is launched for real, with bash in place of Slurm, for probes and tests."""

import importlib
import os
import pickle
import sys
import tempfile
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from unittest import mock

import patches

_MODULE = "launched_by_trial"

_EXPERIMENT = """\
{header}
import os, pickle, sys, tempfile
sys.path.insert(0, {root!r})
{apply}
def experiment({parameters}):
    given = dict(locals())
    given |= given.pop("more", {{}})
    with os.fdopen(tempfile.mkstemp(dir={received!r})[0], "wb") as file:
        pickle.dump(given, file)
    {body}

if __name__ == "__main__":
    {reader}
"""

_READER = "from experiment_launcher import run_experiment; run_experiment(experiment)"

_SBATCH = """\
#!/usr/bin/env bash
{refuse}
[ -f "$1" ] && [ $# = 1 ] || exit 3
export SLURM_ARRAY_TASK_ID=0
bash "$1" >"{output}" 2>&1
echo $? >>"{codes}"
"""


@dataclass
class Outcome:
    """Result of a launch.

    received: arguments of each experiment that started, [{name: value}], sorted by seed and directory. exit_codes: those of the
    Slurm scripts. scripts: their texts. output: printed by the last one. error: raised by the launcher, or None.
    """

    received: list
    exit_codes: list
    scripts: list
    output: str
    error: Exception | None

    @property
    def seen(self):
        """Last error that was printed, for a probe to show."""
        errors = [line for line in self.output.splitlines() if "rror" in line]
        return errors[-1] if errors else f"exit codes {self.exit_codes}"


def launch(
    *experiments,
    parameters="",
    body="pass",
    header="",
    reader=_READER,
    local=False,
    sequential=False,
    folder="runs",
    apply_in_job=True,
    refuse=False,
    **options,
):
    """Launch these experiments, dictionaries as for `Launcher.add_experiment`, and return the `Outcome`.

    parameters: source text of the experiment's parameters, before seed and results_dir. body: its last statement. header: first
    line of its file. reader: statement that reads its command line. folder: for the results, in a temporary directory.
    apply_in_job: True where the experiment's file applies the patches of this process. refuse: True where sbatch is to fail.
    options: those of `Launcher`.
    """
    from experiment_launcher import Launcher

    with tempfile.TemporaryDirectory() as directory, _surroundings(Path(directory), refuse) as (home, received):
        more = parameters.partition("**more")
        parameters = f"{more[0]}seed: int = 0, results_dir: str = '.'" + (", **more" if more[1] else "")
        source = _EXPERIMENT.format(
            header=header,
            reader=reader,
            root=str(Path(patches.__file__).parent.parent),
            apply=f"import patches; patches.set_applied({patches.applied()!r})" if apply_in_job else "",
            parameters=parameters,
            received=str(received),
            body=body,
        )
        (home / f"{_MODULE}.py").write_text(source)
        importlib.invalidate_caches()
        base = home / folder
        defaults = {"n_seeds": 1, "use_timestamp": False, "base_dir": str(base)}
        launcher = Launcher("trial", _MODULE, **(defaults | options))
        for experiment in experiments or ({},):
            launcher.add_experiment(**experiment)
        error = None
        try:
            launcher.run(local=local, sequential=sequential)
        except Exception as raised:
            error = raised
        codes, output = home / "codes", home / "output"
        return Outcome(
            received=sorted(map(_unpickled, received.iterdir()), key=lambda given: (given["seed"], given["results_dir"])),
            exit_codes=[int(line) for line in codes.read_text().split()] if codes.exists() else [],
            scripts=[path.read_text() for path in sorted(base.rglob("slurm_*.sh"))],
            output=output.read_text() if output.exists() else "",
            error=error,
        )


def _unpickled(file):
    return pickle.loads(file.read_bytes())


@contextmanager
def _surroundings(directory, refuse):
    """Context with a directory for the experiment, and with our sbatch and python3 first on PATH."""
    home, received, programs = directory / "home", directory / "received", directory / "bin"
    for each in (home, received, programs):
        each.mkdir()
    scripts = {
        "sbatch": _SBATCH.format(
            refuse="echo refused >&2; exit 1" if refuse else "", output=home / "output", codes=home / "codes"
        ),
        "python3": f'#!/usr/bin/env bash\nBARE=1 exec {quote(sys.executable)} "$@"\n',
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = list(sys.path)
    sys.path.insert(0, str(home))
    _end_workers()
    try:
        with chdir(home), mock.patch.dict(os.environ, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}"):
            os.environ.pop("USER", None)  # or the library looks for a cluster's scratch directory
            yield home, received
    finally:
        sys.path[:] = path
        sys.modules.pop(_MODULE, None)
        _end_workers()


def _end_workers():
    """End joblib's workers, which it reuses, and which keep the path and directory of when they started."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown()
