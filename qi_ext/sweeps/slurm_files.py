"""Where the jobs of a sweep have their files: scripts, what Slurm prints, and which job began which trial."""

import hashlib


def slurm_directories(directory):
    """Of a sweep: those of the scripts, and of what Slurm's jobs print."""
    return directory / "slurm_files", directory / "slurm_logs"


def label(sweep, trial):
    """What tells a trial from the others, whatever is added to the sweep's file or taken out of it."""
    return hashlib.sha256(str(trial.directory.relative_to(sweep.directory)).encode()).hexdigest()[:12]


def script_file(sweep, trial):
    """The script of a trial's job."""
    return slurm_directories(sweep.directory)[0] / f"slurm_{sweep.directory.name}_{label(sweep, trial)}.sh"


def job_file(sweep, trial):
    """Where the job of a trial says, when it starts, its number and how often Slurm has started it anew."""
    return script_file(sweep, trial).with_suffix(".job")
