"""What Slurm says of one's jobs."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from qi_ext.utils.errors import UserError

TIMEOUT = 60.0  # s, for Slurm to answer


@dataclass(frozen=True)
class Job:
    """A job that is not over. state: such as PENDING or RUNNING. reason: why it waits. script: its path."""

    number: str
    state: str
    reason: str
    script: str


def is_there():
    """Whether jobs can be submitted from here."""
    return shutil.which("sbatch") is not None


def own_jobs():
    """The user's jobs that are not over, a list of `Job`. Raises UserError where Slurm does not answer."""
    lines = ask("squeue", "--me", "--noheader", "--format=%A|%T|%r|%o").splitlines()
    # A line of fewer parts goes on with another job's command, which has line breaks.
    return [Job(*parts[:3], parts[3].strip()) for line in lines if len(parts := line.split("|", 3)) == 4]


def last_state(number):
    """How a job ended, such as TIMEOUT or NODE_FAIL, as far as Slurm still knows; "" otherwise."""
    asked = []
    if shutil.which("scontrol"):
        asked.append((("scontrol", "show", "job", "--oneliner", number), r"\bJobState=(\w+)"))
    if shutil.which("sacct"):
        asked.append((("sacct", "--noheader", "--allocations", "--format=State", "--jobs", number), r"(\w+)"))
    for words, pattern in asked:
        try:
            found = re.search(pattern, ask(*words))
        except UserError:  # it has forgotten the job, or keeps no accounts
            continue
        if found:
            return found[1]
    return ""


def printed(directory, number):
    """The end of what the job itself, or Slurm about it, wrote to standard error; directory: of Slurm's logs."""
    return last_lines(max(Path(directory).glob(f"{number}_*.err"), default=None))


def last_lines(path, count=3, since=None):
    """The last lines of a file that have something in them; since: not those before the last line that begins so."""
    if path is None or not Path(path).is_file():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - 20_000))
        lines = [line.rstrip() for line in file.read().decode(errors="replace").splitlines()]
    if since is not None:
        starts = [i for i, line in enumerate(lines) if line.startswith(since)]
        lines = lines[starts[-1] + 1 :] if starts else lines
    return [line for line in lines if line.strip()][-count:]


def ask(*words):
    """What a command of Slurm prints. Raises UserError where it fails."""
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{words[0]}: Slurm does not answer ({error}); try again") from None
    if answer.returncode:
        raise UserError(f"{words[0]}: {' '.join(answer.stderr.split()) or f'exit code {answer.returncode}'}; try again")
    return answer.stdout
