"""Disks that are full or read-only: one clear line, and a run that goes on once there is space."""

import resource
import runpy
import subprocess
from pathlib import Path

import pytest

from qi_ext.utils.command_line import run_command

# A thread of TensorBoard's that could not write must not say so in its own words.
pytestmark = [pytest.mark.extensive, pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")]
LAUNCHER = Path(__file__).parents[2] / "launchers" / "run_gail.py"


@pytest.fixture
def disk(tmp_path):
    """disk(options): a file system in memory mounted with them, or mounted anew; its path."""
    path = tmp_path / "disk"

    def mount(options):
        remount = "remount," if path.is_mount() else ""
        path.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", remount + options, "tmpfs", path], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return path

    yield mount
    if path.is_mount():
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def launch(tiny, capsys):
    """launch(**settings): the exit code of the launcher, and its standard error, to which all threads write."""
    main = runpy.run_path(str(LAUNCHER))["main"]

    def of(**settings):
        arguments = []
        for name, value in settings.items():
            arguments += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            run_command("run_gail.py", lambda: main(arguments))
        return caught.value.code or 0, capsys.readouterr().err

    return of


@pytest.mark.parametrize(
    ("size", "checkpoint_every"),
    [("8k", 0.0), ("40k", 0.0), ("100k", 1000.0), ("200k", 0.0)],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_space(
    tiny, run, rows, saved, tmp_path, disk, launch, size, checkpoint_every
):
    settings = tiny(results_dir=str(disk(f"size={size}")), checkpoint_every=checkpoint_every, n_steps=3840)
    code, err = launch(**settings)
    (line,) = err.splitlines()
    assert code == 1
    assert line.startswith("run_gail.py: ")
    assert "No space left on device" in line
    assert str(tmp_path / "disk") in line
    disk("size=8m")
    done = max(int(row["step"]) for row in rows(tmp_path / "disk" / "0")) if checkpoint_every else 320
    assert launch(**settings | {"n_steps": done + 64}, resume="auto") == (0, "")
    alone = run(settings | {"n_steps": done + 64, "results_dir": str(tmp_path / "alone")})
    assert saved(tmp_path / "disk" / "0") == saved(alone.directory.path)
    assert rows(tmp_path / "disk" / "0") == rows(alone.directory.path)


def test_a_file_that_may_not_grow_is_a_fault_of_the_machine(tiny, launch, after_update, saved, run, tmp_path):
    """As of a quota that is found in the middle of the run."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limits = [(4096, before[1])]  # once
    after_update(64, lambda: limits and resource.setrlimit(resource.RLIMIT_FSIZE, limits.pop()))
    try:
        code, err = launch(**tiny())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = err.splitlines()
    assert code == 1
    assert line.startswith("run_gail.py: cannot write ")
    assert line.endswith("File too large")
    assert launch(**tiny(), resume="auto") == (0, "")
    assert saved(tmp_path / "runs" / "0") == saved(run(tiny(results_dir=str(tmp_path / "alone"))).directory.path)


def test_a_read_only_disk_is_refused_at_once_and_by_name(tiny, run, disk, launch):
    path = disk("size=8m")
    first = run(tiny(results_dir=str(path)))
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    disk("ro")
    given = ({**tiny(results_dir=str(path), seed=1)}, {"resume": str(first.directory.path), "n_steps": 192})
    for settings, option in zip(given, ("--results_dir", "--resume"), strict=True):
        code, err = launch(**settings)
        (line,) = err.splitlines()
        assert code == 2
        assert line.startswith(f"run_gail.py: {option}: {path}")
        assert "cannot be written to (Read-only file system)" in line
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before
    disk("rw")
    assert launch(**given[1]) == (0, "")
