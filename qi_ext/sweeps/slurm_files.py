"""Paths of the files of a sweep's Slurm jobs: scripts, what they print, and which job began which trial."""

import hashlib


def slurm_directories(directory):
    """Directories of the scripts, and of what the jobs print. directory: of the sweep."""
    return directory / "slurm_files", directory / "slurm_logs"


def label(sweep, trial):
    """Name of a trial that stays, whatever is added to the sweep's file or taken out of it."""
    return hashlib.sha256(str(trial.directory.relative_to(sweep.directory)).encode()).hexdigest()[:12]


def script_file(sweep, trial):
    """Path of the script of a trial's job."""
    return slurm_directories(sweep.directory)[0] / f"slurm_{sweep.directory.name}_{label(sweep, trial)}.sh"


def job_file(sweep, trial):
    """Path of the file to which the job of a trial writes, when it starts, its number and how often it was started anew."""
    return script_file(sweep, trial).with_suffix(".job")
