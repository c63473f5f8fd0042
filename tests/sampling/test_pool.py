"""The promises of `Pool` where nothing dies: its results, its errors, and what it leaves behind."""

import contextlib
import errno
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import joblib
import psutil
import pytest

import qi_ext
from qi_ext.sampling import pool as pools
from qi_ext.sampling.envs import EnvError
from qi_ext.sampling.joblib_dispatch import dispatch
from qi_ext.sampling.loky_backend import LokyWorkers
from qi_ext.sampling.pool import Pool, available_cpus
from qi_ext.utils.errors import LESS_MEMORY, SamplingError, UserError

ROOT = Path(qi_ext.__file__).parents[1]
pytestmark = pytest.mark.usefixtures("deadline")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def name(index, env):
    return f"task {index}" if env is None else f"task {index}, env {env}"


def double(number):
    return 2 * number


def first_only(number):
    """Comes back for 0 only."""
    while number:
        signal.pause()


def all_workers():
    """Worker processes of all pools of this process."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "LokyProcess" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


class Unpicklable(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


def fail(error, number):
    if number == 2:
        raise {"plain": ValueError, "unpicklable": Unpicklable}[error]("it went\nwrong")
    return number


def fail_in_env(number):
    raise EnvError("no floor", 5)


@pytest.fixture(scope="module")
def two():
    """A pool of two processes."""
    pool = Pool("loky", 2)
    yield pool
    pool.close()


@pytest.fixture(params=["serial", "loky"])
def pool(request, two):
    return two if request.param == "loky" else Pool("serial")


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("threads",), "--pool: unknown pool 'threads'; choose one of loky, serial, dask"),
        (("loky", 0), "--n_workers: must be auto or at least 1, not 0"),
        (("loky", "abc"), "--n_workers: must be auto or at least 1, not 'abc'"),
        (("serial", None), "--n_workers: must be auto or at least 1, not None"),
        (("loky", 2, "tcp://host:8786"), "--scheduler: the address"),
        (("dask",), "--scheduler: the address"),
    ],
)
def test_a_pool_that_cannot_be_had_is_the_users_mistake(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        Pool(*arguments)
    assert "\n" not in str(caught.value)


def run_python(*arguments):
    """What a fresh process prints; it must end without a word on stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_without_processes_tasks_run_in_this_one(monkeypatch):
    monkeypatch.setattr(pools, "PROCESSES", False)
    pool = Pool("loky", 2)
    assert pool.place == "this process"
    assert dict(pool.run(os.getpid, [()], str)) == {0: os.getpid()}


def test_without_dask_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # makes the import fail
    monkeypatch.delitem(sys.modules, "qi_ext.sampling.dask_backend", raising=False)
    with pytest.raises(UserError, match="^--pool dask: distributed is not installed; pip install distributed .* cryptography$"):
        Pool("dask", scheduler="tcp://127.0.0.1:1")


def test_available_cpus_are_those_of_the_affinity():
    command = (
        "import os; del os.environ['LOKY_MAX_CPU_COUNT']; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from qi_ext.sampling.pool import Pool, available_cpus\n"
        "print(available_cpus(), Pool('loky', 'auto').n_workers)"
    )
    assert run_python("-c", command) == "1 1\n"


@pytest.mark.parametrize(
    ("per_task", "on_node", "expected"),
    [(None, None, 8), ("3", "6", 3), (None, "6(x2)", 6), ("", "6", 6), ("many", None, 8), ("²", None, 8), ("0", None, 1)]
    + [("64", None, 8)],
)
def test_available_cpus_are_at_most_what_slurm_has_given(monkeypatch, per_task, on_node, expected):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    for variable, value in {"SLURM_CPUS_PER_TASK": per_task, "SLURM_CPUS_ON_NODE": on_node}.items():
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert available_cpus() == expected


# Results and errors


def test_each_result_comes_with_its_index_and_no_tasks_have_none(pool):
    assert dict(pool.run(double, [(i,) for i in range(20)], name)) == {i: 2 * i for i in range(20)}
    assert list(pool.run(double, [], name)) == []


def test_two_workers_work_at_the_same_time_and_in_any_thread(two, processes):
    workers = processes.pids(two)
    assert len(workers) == 2
    assert os.getpid() not in workers
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: dict(two.run(double, [(1,), (2,)], name))).result() == {0: 2, 1: 4}


@pytest.mark.parametrize(("kind", "summary"), [("plain", "ValueError: it went"), ("unpicklable", "Unpicklable: it went")])
def test_a_task_that_raises_is_named_with_its_traceback(pool, kind, summary):
    with pytest.raises(SamplingError) as caught:
        list(pool.run(fail, [(kind, i) for i in range(4)], name))
    first, _, *rest = str(caught.value).splitlines()
    assert first == f"task 2: {summary}"
    assert rest[:2] == ["in the worker:", "Traceback (most recent call last):"]
    assert any("in fail" in line for line in rest)
    assert rest[-2].endswith(summary)
    assert rest[-1] == "wrong"


def refuse_memory():
    raise MemoryError


def test_memory_that_a_task_is_refused_comes_with_what_needs_less(pool):
    with pytest.raises(SamplingError, match=f"^task 0: not enough memory: MemoryError; {LESS_MEMORY}$"):
        list(pool.run(refuse_memory, [()], name))


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EMFILE, "Too many open files$"), (errno.ENOSPC, "No space left on device; is /dev/shm full[?]$")],
)
def test_what_the_machine_refuses_to_workers_is_said(monkeypatch, number, said):
    def submit(*_):
        try:
            raise OSError(number, os.strerror(number))
        finally:
            raise UnboundLocalError("as in loky")

    monkeypatch.setattr(LokyWorkers, "submit", submit)
    with pytest.raises(SamplingError, match=said):
        list(Pool("loky", 2).run(double, [(1,)], name))


def test_a_full_temporary_folder_is_named(monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match=f"cannot write {tempfile.gettempdir()}: No space left on device; TMPDIR"):
        Pool("loky", 2)


def test_an_env_that_raises_is_named(pool):
    with pytest.raises(SamplingError, match="^task 0, env 5: EnvError: no floor\n"):
        list(pool.run(fail_in_env, [(0,)], name))


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_many_tasks_in_waiting_do_not_hinder_the_error_of_one(two):
    with pytest.raises(SamplingError, match="^task 2: ValueError"):
        list(two.run(fail, [("plain", i) for i in range(200)], name))
    assert dict(two.run(double, [(1,)], name)) == {0: 2}


def test_a_result_that_cannot_be_pickled_is_an_error(two):
    with pytest.raises(SamplingError, match="^task 0: TypeError: cannot pickle"):
        list(two.run(threading.Lock, [()], name))


# What is left behind


def test_a_run_that_is_closed_early_ends_its_workers_without_a_word(processes, recwarn):
    gc.collect()  # what earlier tests have left may say something as it goes
    recwarn.clear()
    pool = Pool("loky", 2)
    workers = processes.pids(pool)
    results = pool.run(first_only, [(i,) for i in range(50)], name)
    assert next(results) == (0, None)
    results.close()
    processes.wait_until(lambda: all(map(processes.ended, workers)))
    assert dict(pool.run(double, [(1,)], name)) == {0: 2}
    pool.close()
    assert not [str(warning.message) for warning in recwarn.list]


def test_a_closed_or_forgotten_pool_has_no_workers_and_a_closed_one_starts_anew(processes):
    pool = Pool("loky", 2)
    before = processes.pids(pool)
    pool.close()
    assert all(map(processes.ended, before))
    after = processes.pids(pool)
    assert not set(after) & set(before)
    del pool
    gc.collect()
    processes.wait_until(lambda: all(map(processes.ended, after)))


def test_pools_leave_each_other_and_other_users_of_joblib_alone(two, processes):
    before = processes.pids(two)
    other = Pool("loky", 2)
    assert not set(processes.pids(other)) & set(before)
    joblib.Parallel(2)(joblib.delayed(double)(i) for i in range(4))
    assert processes.pids(two) == before
    other.close()


def test_runs_leave_signals_files_and_threads_as_they_were(two, processes):
    def left():
        shared = [entry for entry in os.listdir("/dev/shm") if f"-{os.getpid()}-" in entry or f"_{os.getpid()}_" in entry]
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return [psutil.Process().num_fds(), len(shared)], [handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ())]

    tasks = [(i,) for i in range(8)]
    list(two.run(double, tasks, name))
    gc.collect()
    counts, handling = left()
    for _ in range(20):
        list(two.run(double, tasks, name))
    gc.collect()
    after, handling_after = left()
    assert after[0] <= counts[0]
    assert after[1] <= counts[1]
    assert handling_after == handling
    processes.wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "qi_ext-watch"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_tasks_are_sent_and_then_ends_the_workers(number, processes):
    class Arrived(BaseException):
        pass

    def arrive(number, frame):
        raise Arrived

    def calls():
        yield joblib.delayed(double)(0)
        os.kill(os.getpid(), number)
        yield joblib.delayed(double)(1)
        sent.append(all_workers())

    before, sent, workers = signal.signal(number, arrive), [], LokyWorkers(2, None, ())
    others = all_workers()
    try:
        with pytest.raises(Arrived):
            list(dispatch(workers, calls()))
    finally:
        signal.signal(number, before)
    assert len(sent[0] - others) == 2
    processes.wait_until(lambda: not all_workers() - others)


def test_in_a_daemonic_process_tasks_run_in_that_process():
    command = (
        "import multiprocessing, os\n"
        "from qi_ext.sampling.pool import Pool\n"
        "def main():\n"
        "    print({pid for _, pid in Pool('loky', 2).run(os.getpid, [(), ()], str)} == {os.getpid()})\n"
        "process = multiprocessing.get_context('fork').Process(target=main, daemon=True)\n"
        "process.start(); process.join()"
    )
    assert run_python("-c", command) == "True\n"


# Workers

ABOUT_A_WORKER = """
import json, pickle, sys
import psutil
import threadpoolctl
from qi_ext.sampling import physics
from qi_ext.sampling.pool import Pool

def about(*task):
    physics.step_fragment(*task)
    threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return sorted(sys.modules), threads, psutil.Process().memory_info().rss / 2**20

if __name__ == "__main__":
    spec, task = pickle.load(open(sys.argv[1], "rb"))
    pool = Pool("loky", 2, initializer=physics.install, initargs=("key", spec))
    print(json.dumps([result for _, result in pool.run(about, [("key", *task)] * 2, str)]))
"""


def test_a_worker_is_small_has_one_blas_thread_and_imports_neither_learning_nor_drawing(tmp_path, simulator, controller):
    script, data = tmp_path / "script.py", tmp_path / "data"
    script.write_text(ABOUT_A_WORKER)
    data.write_bytes(pickle.dumps((simulator.spec, (simulator.envs(4), 4, controller, 10))))
    heavy = {
        "torch",
        "loco_mujoco",
        "mushroom_rl",
        "gymnasium",
        "scipy",
        "glfw",
        "OpenGL",
        "mujoco.viewer",
        "cv2",
        "joblib._dask",
    }
    for modules, threads, megabytes in json.loads(run_python(script, data)):
        assert "mujoco" in modules
        assert heavy & set(modules) == set()
        assert threads
        assert set(threads) == {1}
        assert megabytes < 200
