"""`--pool dask --scheduler slurm`: workers that are jobs of a real Slurm, one of which is cancelled."""

import contextlib
import os
import runpy
import socket
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

import cloudpickle
import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from qi_ext.sampling.pool import Pool
from qi_ext.utils.errors import SamplingError, UserError

pytest.importorskip("dask_jobqueue")
pytest.importorskip("cryptography")
pytestmark = pytest.mark.slurm
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
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


def here(*more):
    """The addresses at which this process and `more` listen, {(ip, port)}."""
    connections = [each for process in (psutil.Process(), *more) for each in process.net_connections()]
    return {tuple(each.laddr) for each in connections if each.status == psutil.CONN_LISTEN}


def in_a_worker():
    """The addresses at which it and its nanny listen."""
    return here(psutil.Process(os.getppid()))


def answer(ip, port):
    """What a plain request gets at an address, bytes."""
    host = "127.0.0.1" if ip in ("0.0.0.0", "::") else ip
    with socket.create_connection((host, port), 10.0) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(100)
    return b""


def test_its_cluster_talks_only_to_who_has_the_certificate_and_shows_nothing_to_the_network(on_slurm, tmp_path):
    before = here()
    pool = Pool("dask", n_workers="1", scheduler="slurm")
    try:
        ((_, of_workers),) = pool.run(in_a_worker, [()], lambda index, env: "task")
        open_to_others = {at for at in {*of_workers, *here()} if at[0] != "127.0.0.1"} - before
        assert len({port for _, port in open_to_others}) == 3  # of the scheduler, a worker and its nanny
        assert not [at for at in open_to_others if b"HTTP" in answer(*at)]
        address = pool._workers._cluster.scheduler_address
        with pytest.raises(UserError, match="needs the certificates"):
            Pool("dask", scheduler=address)
        (secrets,) = (tmp_path / "slurm_logs").glob(".qi_ext-*")
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
        assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {"cert": 0o600, "key": 0o600}
    finally:
        pool.close()
    assert not secrets.exists()


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
