"""Dask workers that are jobs of Slurm, by dask-jobqueue: started with the run, replaced when they are lost, ended with it."""

import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster

from qi_ext.sampling.dask_backend import DaskWorkers
from qi_ext.utils import slurm
from qi_ext.utils.errors import UserError

# Of a job, where Dask's configuration (jobqueue.slurm, or DASK_JOBQUEUE__SLURM__CORES and so on) says nothing.
CORES, LOGS = 1, "slurm_logs"
MEMORY = 2  # GiB a core
LOOK_EVERY = 5.0  # s
IN_VAIN = 3  # times that lost jobs are replaced while no worker is there: their fault may be ours

_log = logging.getLogger("qi_ext.sampling")


class SlurmWorkers(DaskWorkers):
    """Processes of one thread each, `cores` in a job. What a job may use is Dask's configuration's to say (its
    jobqueue.slurm: cores, memory, walltime, queue, account, ...)."""

    def __init__(self, n_workers, timeout, initializer, initargs):
        """n_workers: processes, of all jobs together. Raises UserError where Slurm does not take such jobs."""
        configured = dask.config.get("jobqueue.slurm")
        cores = configured["cores"] or CORES
        self._n_workers = n_workers
        self._next_look, self._in_vain = 0.0, 0
        self._cluster = SLURMCluster(
            cores=cores,
            processes=cores,
            memory=configured["memory"] or f"{MEMORY * cores}GiB",
            log_directory=configured["log-directory"] or os.path.abspath(LOGS),
            scheduler_options=configured["scheduler-options"] or {"dashboard_address": ":0"},
        )
        try:
            _require_accepted(self._cluster.job_script())
            self._cluster.scale(n_workers)
            super().__init__(self._cluster.scheduler_address, timeout, initializer, initargs)
        except BaseException:
            self._cluster.close()
            raise

    def replace_lost(self):
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY
        # Dask itself misses those that never came to connect, and those with several processes.
        submitted = self._submitted()
        waiting_or_running = _own_numbers()
        lost = [name for name, number in submitted.items() if number not in waiting_or_running]
        if not lost:
            return
        self._in_vain = 0 if self._client.nthreads() else self._in_vain + 1
        if self._in_vain <= IN_VAIN:
            _log.warning("lost: %d of the jobs of Slurm that run workers; submitting others", len(lost))
            self._cluster.loop.add_callback(lambda: [self._cluster.workers.pop(name, None) for name in lost])
            self._cluster.scale(self._n_workers)

    def may_get_workers(self):
        return bool(set(self._submitted().values()) & _own_numbers())

    def _submitted(self):
        """Our jobs that Slurm has taken, {name: number}; to be looked at before Slurm is asked, or one that it takes in between
        is thought lost."""
        return {name: job.job_id for name, job in list(self._cluster.workers.items()) if job.job_id}

    def close(self):
        super().close()
        self._cluster.close()


def _own_numbers():
    """Of the user's jobs that wait or run."""
    return {job.number for job in slurm.own_jobs()}


def _require_accepted(script):
    """Raise UserError, with what Slurm says, unless it would take a job like this."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "worker.sh")
        path.write_text(script)
        try:
            answer = subprocess.run(["sbatch", "--test-only", path], capture_output=True, text=True, timeout=slurm.TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(
                f"--scheduler slurm: sbatch cannot be asked ({error}); run where Slurm's jobs are submitted"
            ) from None
    if answer.returncode:
        said = " ".join(answer.stderr.split())
        raise UserError(f"--scheduler slurm: {said}; what a job asks for is in Dask's configuration, jobqueue.slurm")
