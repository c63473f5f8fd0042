"""A tiny experiment launched for real, with bash in the place of Slurm: for probes and tests."""

import importlib
import os
import pickle
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

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
    """What came of a launch.

    received: the arguments of each experiment that started, [{name: value}], by seed and directory. exit_codes: of the Slurm
    scripts. scripts: their texts. output: what the last one printed. error: that the launcher raised, or None.
    """

    received: list
    exit_codes: list
    scripts: list
    output: str
    error: Exception | None

    @property
    def seen(self):
        """The last error printed, for a probe to show."""
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

    parameters: of the experiment in source text, before seed and results_dir. body: its last statement. header: first line of
    its file. reader: the statement that reads its command line. folder: below a temporary directory, for the results.
    apply_in_job: whether the file of the experiment has the same patches applied as this process. refuse: whether sbatch
    fails. options: of `Launcher`.
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
    """A directory with a space in its name for the experiment, and one with sbatch and python3 as the first on PATH."""
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
    environment, path, here = dict(os.environ), list(sys.path), os.getcwd()
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    os.environ.pop("USER", None)  # or the library looks for a cluster's scratch directory
    sys.path.insert(0, str(home))
    os.chdir(home)
    _end_workers()
    try:
        yield home, received
    finally:
        os.chdir(here)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        sys.modules.pop(_MODULE, None)
        _end_workers()


def _end_workers():
    """Of joblib, which keeps them for whoever comes next: they know no path and no directory but those of their time."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown()
