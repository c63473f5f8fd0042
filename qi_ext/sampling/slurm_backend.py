"""Dask workers in jobs of Slurm, by dask-jobqueue: started with the run, replaced when they are lost, ended with it.

Whoever can talk to the scheduler can run code as the user, so only those can who have the run's own certificate: it is made for
the run, and reaches the jobs in files that the user alone can read.
"""

import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path

import cryptography  # noqa: F401  (makes the certificate; distributed would not say its name where it is missing)
import dask
from dask_jobqueue import SLURMCluster
from distributed.security import Security

from qi_ext.sampling.dask_backend import DaskWorkers
from qi_ext.utils import slurm
from qi_ext.utils.errors import UserError

# Defaults for a job, where Dask's configuration (jobqueue.slurm, or DASK_JOBQUEUE__SLURM__CORES and so on) sets nothing.
CORES, LOGS = 1, "slurm_logs"
MEMORY = 2  # GiB a core
# Where there is no dashboard, distributed still serves the state of scheduler and workers by HTTP.
HTTP = "127.0.0.1:0"
LOOK_EVERY = 5.0  # s, between looks at the jobs
IN_VAIN = 3  # times that lost jobs are replaced while there is no worker; their failure may be our fault

_log = logging.getLogger("qi_ext.sampling")


class SlurmWorkers(DaskWorkers):
    """Processes of one thread each, `cores` in a job.

    Dask's configuration, jobqueue.slurm, says what a job may use: cores, memory, walltime, queue, account and more.
    """

    def __init__(self, n_workers, timeout, initializer, initargs):
        """n_workers: processes in all jobs together. Raises UserError where Slurm does not accept such jobs."""
        configured = dask.config.get("jobqueue.slurm")
        cores = configured["cores"] or CORES
        logs = Path(configured["log-directory"] or os.path.abspath(LOGS))
        logs.mkdir(parents=True, exist_ok=True)
        shared = os.path.expanduser(os.path.expandvars(configured["shared-temp-directory"] or logs))
        self._secrets = tempfile.TemporaryDirectory(prefix=".qi_ext-", dir=os.path.abspath(shared))  # the user's own: mode 700
        self._n_workers = n_workers
        self._next_look, self._in_vain = 0.0, 0
        self._cluster = SLURMCluster(
            cores=cores,
            processes=cores,
            memory=configured["memory"] or f"{MEMORY * cores}GiB",
            log_directory=str(logs),
            security=_with_certificate(self._secrets.name),
            scheduler_options={"dashboard": False, "dashboard_address": HTTP} | configured["scheduler-options"],
            worker_extra_args=["--no-dashboard", "--dashboard-address", HTTP, *configured["worker-extra-args"]],
        )
        try:
            _require_accepted(self._cluster.job_script())
            self._cluster.scale(n_workers)
            super().__init__(self._cluster.scheduler_address, timeout, initializer, initargs, self._cluster.security)
        except BaseException:
            self._end_cluster()
            raise

    def replace_lost(self):
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY
        # Dask itself does not replace jobs that never connected, nor jobs with several processes.
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
        """Return our jobs that Slurm has accepted, {name: number}.

        Call it before Slurm is asked for its jobs: one that it accepts in between would be taken for lost.
        """
        return {name: job.job_id for name, job in list(self._cluster.workers.items()) if job.job_id}

    def close(self):
        super().close()
        self._end_cluster()

    def _end_cluster(self):
        self._cluster.close()
        self._secrets.cleanup()


def _with_certificate(folder):
    """Return a `Security` with a new certificate, which scheduler, workers and client share, in files of `folder`."""
    made = Security.temporary()
    files = {"cert": made.tls_ca_file, "key": made.tls_client_key}
    for name, content in files.items():
        path = Path(folder, name)
        path.touch(mode=0o600)
        path.write_text(content)
        files[name] = str(path)
    roles = {f"tls_{role}_{name}": path for role in ("scheduler", "worker", "client") for name, path in files.items()}
    return Security(require_encryption=True, tls_ca_file=files["cert"], **roles)


def _own_numbers():
    """Numbers of the user's jobs that wait or run."""
    return {job.number for job in slurm.own_jobs()}


def _require_accepted(script):
    """Raise UserError, with Slurm's own message, unless it would accept a job like this."""
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
