"""`Pool("dask")` on real schedulers and workers, each a process of its own, over loopback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import psutil
import pytest

import qi_ext
from qi_ext.sampling import pool as pools
from qi_ext.sampling.pool import Pool
from qi_ext.utils.errors import SamplingError, UserError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from distributed.security import Security  # noqa: E402

from qi_ext.sampling import dask_backend  # noqa: E402 (needs distributed)

ROOT = Path(qi_ext.__file__).parents[1]
pytestmark = [pytest.mark.extensive, pytest.mark.usefixtures("deadline")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def name(index, env):
    return f"task {index}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """certificates(name): Dask's configuration for a certificate of that name, in files."""
    pytest.importorskip("cryptography")

    def make(name):
        folder, security = tmp_path_factory.mktemp(name), Security.temporary()
        for file, content in (("ca.pem", security.tls_ca_file), ("key.pem", security.tls_client_key)):
            (folder / file).write_text(content)
        files = {"cert": f"{folder}/ca.pem", "key": f"{folder}/key.pem"}
        roles = {
            f"distributed.comm.tls.{role}.{key}": files[key] for role in ("client", "worker", "scheduler") for key in files
        }
        return roles | {"distributed.comm.tls.ca-file": files["cert"]}

    return make


@pytest.fixture(scope="module")
def cluster(certificates):
    """The address of a scheduler with two workers of one thread each, that gives a task up at its second death; with TLS."""
    settings = certificates("cluster") | {"distributed.scheduler.allowed-failures": 1}
    variables = {f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value) for name, value in settings.items()}
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, protocol="tls://", security=Security(), dashboard_address="127.0.0.1:0"
        ) as cluster,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield cluster.scheduler_address


@pytest.fixture
def source(make_source, cluster):
    return make_source(n_envs=16, pool="dask", scheduler=cluster)


@pytest.fixture
def gather_again(make_source, short, Learns, gather, bits):
    """gather_again(source): rollouts of a source with 16 envs, from its beginning, bit-identical to those of this process."""
    agent, here = Learns(short.info), make_source(n_envs=16)
    beginning, expected = here.state(), bits(gather(here, agent, n_steps=960))

    def again(source):
        source.load_state(beginning)
        assert bits(gather(source, agent, n_steps=960)) == expected

    return again


def test_a_worker_killed_in_a_batch_changes_nothing(source, gather_again, processes):
    gather_again(source)
    pid = processes.pids(source._pool)[0]
    process = psutil.Process(pid)
    before = process.cpu_times().user

    def kill():
        processes.wait_until(lambda: process.cpu_times().user > before + 0.05)
        process.kill()

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill)
        gather_again(source)
        killing.result()
    assert pid not in processes.pids(source._pool)  # its successor is initialized, too
    gather_again(source)


def test_a_worker_of_many_threads_computes_the_same(make_source, gather_again):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=3, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        source = make_source(n_envs=16, pool="dask", scheduler=cluster.scheduler_address)
        gather_again(source)
        source.close()


def test_two_pools_share_a_cluster(make_source, cluster, source, gather_again):
    other = make_source(n_envs=16, pool="dask", scheduler=cluster)
    gather_again(other)
    gather_again(source)
    other.close()
    gather_again(source)


def test_a_scheduler_with_tls_is_not_warned_of(cluster, warnings):
    Pool("dask", scheduler=cluster).close()
    assert warnings() == []


def test_a_certificate_of_another_cluster_is_the_users_mistake(cluster, certificates):
    with (
        dask.config.set(certificates("other")),
        pytest.raises(UserError, match=f"^--scheduler: no TLS with {cluster} [(].*tls"),
    ):
        Pool("dask", scheduler=cluster)


@pytest.mark.parametrize("file, reason", [(None, "ca-file, .* are not set"), ("/no/such.pem", "FileNotFoundError: .*")])
def test_tls_without_certificates_says_what_to_set(cluster, file, reason):
    missing = {"distributed.comm.tls.ca-file": file}
    with dask.config.set(missing), pytest.raises(UserError, match=f"needs the certificates .* distributed.comm.tls: {reason}$"):
        Pool("dask", scheduler=cluster)


def test_a_plain_scheduler_is_refused_where_dasks_configuration_requires_encryption():
    with (
        dask.config.set({"distributed.comm.require-encryption": True}),
        pytest.raises(UserError, match="^--scheduler: .*require-encryption, forbids tcp://127.0.0.1:1; use tls://$"),
    ):
        Pool("dask", scheduler="tcp://127.0.0.1:1")


def wait_until(condition):
    while not condition():
        time.sleep(0.002)


def plugins(dask_worker):
    return [key for key in dask_worker.plugins if key.startswith("qi_ext")]


def begin(folder):
    """Says so, and comes back when there is a file `over`."""
    (folder / "begun").touch()
    wait_until((folder / "over").exists)


def test_a_closed_pool_is_forgotten_by_the_cluster(cluster, source, tmp_path):
    with distributed.Client(cluster, set_as_default=False) as client:  # by the configuration's certificates
        before = client.run(plugins)
        assert all(len(found) == 1 for found in before.values())
        pool = Pool("dask", scheduler=cluster, initializer=os.getpid)
        assert all(len(found) == 2 for found in client.run(plugins).values())
        results = pool.run(first_only, [(i, tmp_path / "over") for i in range(20)], name)
        assert next(results) == (0, None)
        pool.close()
        assert client.run(plugins) == before
        (tmp_path / "over").touch()  # what runs already, Dask lets run
        wait_until(lambda: not any(client.processing().values()))


def first_only(number, over):
    """Comes back for 0; for all others when there is a file `over`."""
    wait_until(lambda: number == 0 or over.exists())


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_task_that_keeps_killing_its_workers_is_named_after_all_others_are_done(source, gather_again, warnings):
    results = []
    with pytest.raises(SamplingError) as caught:
        for result in source._pool.run(die, [(i,) for i in range(6)], name):
            results.append(result)
    assert str(caught.value) == "the worker that runs task 3 keeps dying: 2 Dask workers died while they ran it"
    assert sorted(results) == [(i, i) for i in (0, 1, 2, 4, 5)]
    assert warnings()
    gather_again(source)


@pytest.mark.parametrize(
    "address",
    ["nonsense", "tcp://host", "tls://host", "tcp://host:99999", "http://host:8787", "tcp://:8786"],
)
def test_a_malformed_address_is_the_users_mistake(address):
    with pytest.raises(UserError) as caught:
        Pool("dask", scheduler=address)
    assert str(caught.value) == f"--scheduler: must be tls://HOST:PORT or tcp://HOST:PORT, not {address!r}"


def test_workers_that_cannot_be_initialized_are_the_users_mistake(cluster):
    message = "^--scheduler: the workers of .* cannot be prepared [(]FileNotFoundError.*qi_ext.*$"
    with pytest.raises(UserError, match=message):
        Pool("dask", scheduler=cluster, initializer=os.listdir, initargs=("/no/such/folder",))


@pytest.mark.parametrize("listening", [False, True], ids=["nothing", "something else"])
def test_an_address_where_no_scheduler_answers_is_the_users_mistake(monkeypatch, listening):
    monkeypatch.setattr(pools, "SCHEDULER_TIMEOUT", 1.0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            UserError, match=f"^--scheduler: no Dask scheduler answers at {address} [(].*Error[)]; .* tls://.*$"
        ):
            Pool("dask", scheduler=address)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler without workers: its process and its address."""
    file = tmp_path / "scheduler.json"
    process = start(
        "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
    )
    try:
        wait_until(lambda: file.is_file() and file.read_text().endswith("}"))
        yield process, json.loads(file.read_text())["address"]
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def worker(address):
    process = start("distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def remember():
    import builtins

    builtins.prepared = True


def prepared():
    import builtins

    return builtins.prepared


def test_a_cluster_without_workers_is_an_error_until_one_joins(scheduler, warnings, monkeypatch):
    monkeypatch.setattr(dask_backend, "WITHOUT_WORKERS", 0.5)
    monkeypatch.setattr(dask_backend, "LOOK_EVERY", 0.1)
    _, address = scheduler
    pool = Pool("dask", scheduler=address, initializer=remember)
    with pytest.raises(SamplingError, match=f"^task 0, task 1: ConnectionError: the Dask scheduler at {address} had no worker"):
        list(pool.run(prepared, [(), ()], name))
    open_to_all, *others = warnings()
    assert open_to_all.startswith(f"{address} is not encrypted") and "tls://" in open_to_all and "\n" not in open_to_all
    assert others == [f"the Dask scheduler at {address} has no worker; waiting for one"]
    monkeypatch.setattr(dask_backend, "WITHOUT_WORKERS", 60.0)
    results = pool.run(prepared, [(), ()], name)
    with worker(address):
        assert dict(results) == {0: True, 1: True}
        pool.close()


def test_a_scheduler_that_dies_is_an_error(scheduler, monkeypatch, tmp_path):
    monkeypatch.setattr(pools, "SCHEDULER_TIMEOUT", 2.0)
    process, address = scheduler
    with worker(address):
        pool = Pool("dask", scheduler=address)

        def kill():
            wait_until(lambda: (tmp_path / "begun").exists())
            process.kill()

        with ThreadPoolExecutor(1) as thread:
            killing = thread.submit(kill)
            lost = f"^task 0, task 1: ConnectionError: the Dask scheduler at {address} is lost"
            with pytest.raises(SamplingError, match=lost):
                list(pool.run(begin, [(tmp_path,)] * 2, name))
            killing.result()
        with pytest.raises(SamplingError, match="^task 0: "):
            list(pool.run(begin, [(tmp_path,)], name))
        pool.close()


CALM = """
import sys
from qi_ext.sampling.pool import Pool

def double(number):
    return 2 * number

if __name__ == "__main__":
    pool = Pool("dask", scheduler=sys.argv[1])
    print(sorted(pool.run(double, [(i,) for i in range(4)], str)))
    if sys.argv[2] == "closed":
        pool.close()
"""


@pytest.mark.parametrize("end", ["closed", "forgotten"])
def test_a_normal_end_is_quiet(cluster, tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(CALM)
    done = subprocess.run(
        [sys.executable, script, cluster, end],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(0, 0), (1, 2), (2, 4), (3, 6)]\n", "")
