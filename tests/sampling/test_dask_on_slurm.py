"""`--pool dask --scheduler slurm`: workers that are jobs of a real Slurm, one of which is cancelled."""

import os
import runpy
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from qi_ext.sampling.pool import Pool
from qi_ext.utils.errors import SamplingError, UserError

pytest.importorskip("dask_jobqueue")
pytestmark = pytest.mark.slurm
DEADLINE = 120.0  # s
TINY = (
    "--task simple --n_envs 8 --batch_size 512 --n_steps 6144 --evaluation_episodes 0 --checkpoint_every 0 "
    "--policy_hidden 32 32 --critic_hidden 32 --discriminator_hidden 32"
)


@pytest.fixture
def on_slurm(slurm, monkeypatch, request, tmp_path):
    """In an empty directory, with the cluster to be had."""
    for name, value in (slurm.environment | {"PYTHONPATH": str(request.config.rootpath)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield slurm
    slurm.ask("scancel", "--me", check=False)


def running_jobs(slurm):
    return slurm.ask("squeue", "--me", "--noheader", "--states=RUNNING", "--format=%A").split()


def test_a_run_whose_worker_is_cancelled_ends_with_the_same_weights(on_slurm, request, tmp_path):
    launcher = str(request.config.rootpath / "launchers" / "run_gail.py")
    options = "--results_dir dask --pool dask --scheduler slurm --n_workers 2"
    with subprocess.Popen(
        [sys.executable, launcher, *TINY.split(), *options.split()], stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + DEADLINE
        while not (len(running_jobs(on_slurm)) == 2 and list(tmp_path.glob("dask/0/checkpoints/*/checkpoint.safetensors"))):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        first = running_jobs(on_slurm)
        on_slurm.ask("scancel", first[0])
        printed, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, printed
    assert not on_slurm.ask("squeue", "--me", "--noheader", "--states=PENDING").strip()
    assert list(tmp_path.glob("slurm_logs/*.err"))

    runpy.run_path(launcher)["main"]([*TINY.split(), "--results_dir", "alone", "--pool", "serial"])
    expected, found = (load_file(tmp_path / name / "0" / "agent.safetensors") for name in ("alone", "dask"))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_job_that_is_lost_is_replaced(on_slurm):
    pool = Pool("dask", n_workers="1", scheduler="slurm")
    try:
        assert dict(pool.run(os.getpid, [()], lambda index, env: "task"))
        (first,) = running_jobs(on_slurm)
        on_slurm.ask("scancel", first)
        # It waits for the worker of a new job.
        assert dict(pool.run(os.getpid, [()], lambda index, env: "task"))
        assert first not in running_jobs(on_slurm)
    finally:
        pool.close()


def test_a_job_that_slurm_takes_while_it_is_asked_is_not_lost(monkeypatch):
    from qi_ext.sampling import slurm_backend

    workers = object.__new__(slurm_backend.SlurmWorkers)
    workers._next_look, workers._cluster = 0.0, SimpleNamespace(workers={})

    def asked():
        workers._cluster.workers["new"] = SimpleNamespace(job_id="7")
        return set()

    monkeypatch.setattr(slurm_backend, "_own_numbers", asked)
    workers.replace_lost()
    assert list(workers._cluster.workers) == ["new"]


def test_jobs_that_die_at_once_are_not_submitted_for_ever(on_slurm, monkeypatch):
    import dask

    from qi_ext.sampling import dask_backend, slurm_backend

    monkeypatch.setattr(slurm_backend, "LOOK_EVERY", 0.5)
    monkeypatch.setattr(dask_backend, "WITHOUT_WORKERS", 5.0)
    with dask.config.set({"jobqueue.slurm.python": "false"}):
        pool = Pool("dask", n_workers="1", scheduler="slurm")
        try:
            with pytest.raises(SamplingError, match="had no worker for"):
                dict(pool.run(os.getpid, [()], lambda index, env: "task"))
        finally:
            pool.close()


def test_what_slurm_does_not_take_is_told(on_slurm):
    import dask

    with (
        dask.config.set({"jobqueue.slurm.queue": "nowhere"}),
        pytest.raises(UserError, match="--scheduler slurm: .*invalid partition.*jobqueue.slurm") as caught,
    ):
        Pool("dask", n_workers="1", scheduler="slurm")
    assert "\n" not in str(caught.value)


def test_how_many_workers_is_to_be_said(on_slurm):
    with pytest.raises(UserError, match="--n_workers: say how many worker processes"):
        Pool("dask", scheduler="slurm")
