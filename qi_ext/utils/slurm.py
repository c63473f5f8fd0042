"""Questions to Slurm about one's own jobs."""

import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import open_regular

TIMEOUT = 60.0  # s, for Slurm to answer


@dataclass(frozen=True)
class Job:
    """A job that is not over.

    state: such as PENDING or RUNNING. reason: why it waits. script: path of the script that was submitted.
    """

    number: str
    state: str
    reason: str
    script: str


def is_there():
    """Return whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def own_jobs():
    """Return the user's jobs that are not over, a list of `Job`. Raises UserError where Slurm does not answer."""
    lines = ask("squeue", "--me", "--noheader", "--format=%A|%T|%r|%o").splitlines()
    # A line of fewer parts goes on with another job's command, which has line breaks.
    return [Job(*parts[:3], parts[3].strip()) for line in lines if len(parts := line.split("|", 3)) == 4]


def last_state(number):
    """Return how a job ended, such as TIMEOUT or NODE_FAIL; "" where Slurm does not know it any more."""
    questions = (
        (("scontrol", "show", "job", "--oneliner", number), r"\bJobState=(\w+)"),
        (("sacct", "--noheader", "--allocations", "--format=State", "--jobs", number), r"(\w+)"),
    )
    for words, pattern in questions:
        with suppress(UserError):  # it is not installed, has forgotten the job, or keeps no accounts
            if found := re.search(pattern, ask(*words)):
                return found[1]
    return ""


def printed(directory, number):
    """Return the last lines that a job wrote to standard error, or Slurm about it. directory: of the logs."""
    return last_lines(max(Path(directory).glob(f"{number}_*.err"), default=None))


def last_lines(path, count=3, since=None):
    """Return the last `count` lines of a file that are not blank; [] where there is no file.

    since: only lines after the last one that begins with this text.
    """
    if path is None:
        return []
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, 2) - 20_000))
            lines = [line.rstrip() for line in file.read(20_000).decode(errors="replace").splitlines()]
    except (UserError, OSError):
        return []
    if since is not None:
        starts = [i for i, line in enumerate(lines) if line.startswith(since)]
        lines = lines[starts[-1] + 1 :] if starts else lines
    return [line for line in lines if line.strip()][-count:]


def ask(*words):
    """Return what a command of Slurm prints. Raises UserError where it fails."""
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{words[0]}: Slurm does not answer ({error}); try again") from None
    if answer.returncode:
        raise UserError(f"{words[0]}: {' '.join(answer.stderr.split()) or f'exit code {answer.returncode}'}; try again")
    return answer.stdout
