"""What `Pool` promises where nothing dies: its results, its errors, and what it leaves and does not leave behind."""

import contextlib
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import psutil
import pytest

import qi_ext
from qi_ext.sampling.envs import LaneError
from qi_ext.sampling.joblib_dispatch import dispatch
from qi_ext.sampling.loky_backend import LokyWorkers
from qi_ext.sampling.pool import Pool, available_cpus
from qi_ext.utils.errors import SamplingError, UserError

ROOT = Path(qi_ext.__file__).parents[1]
DEADLINE = 60.0  # s
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def name(index, lane):
    return f"task {index}" if lane is None else f"task {index}, lane {lane}"


def double(number):
    return 2 * number


def meet(folder, number):
    """The worker's process id, once `number` different workers have come here."""
    (Path(folder) / str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(folder)) == number)
    return os.getpid()


def pids(pool, folder):
    """Of the two workers of a pool."""
    folder.mkdir(exist_ok=True)
    return {pid for _, pid in pool.run(meet, [(folder, 2), (folder, 2)], name)}


def first_only(number):
    """Comes back for 0; for all others when nobody waits any more."""
    wait_until(lambda: number == 0)


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_workers():
    """Of all pools of this process."""
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


def fail_in_lane(number):
    raise LaneError("no floor", 5)


@pytest.fixture(scope="module")
def two():
    """A pool of two processes."""
    pool = Pool("loky", 2)
    yield pool
    pool.close()


@pytest.fixture(params=["serial", "loky"])
def pool(request, two):
    return two if request.param == "loky" else Pool("serial")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("threads",), "--pool: unknown pool 'threads'; choose one of loky, serial, dask"),
        (("loky", 0), "--n_workers: must be auto or at least 1, not 0"),
        (("loky", "-3"), "--n_workers: must be auto or at least 1, not '-3'"),
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


def test_without_dask_it_says_how_to_install_it():
    command = (
        "import sys; sys.modules['distributed'] = None\n"
        "from qi_ext.utils.errors import UserError\n"
        "from qi_ext.sampling.pool import Pool\n"
        "try: Pool('dask', scheduler='tcp://127.0.0.1:1')\n"
        "except UserError as error: print(error)"
    )
    assert run_python("-c", command) == "--pool dask: distributed is not installed; pip install distributed dask-jobqueue\n"


def run_python(*arguments, **variables):
    """What a fresh process prints, from which it must come back without a word of complaint."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_available_cpus_are_those_of_the_affinity():
    command = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from qi_ext.sampling.pool import Pool, available_cpus\n"
        "print(available_cpus(), Pool('loky', 'auto').n_workers)"
    )
    assert run_python("-c", command) == "1 1\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 8),
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "6"}, 3),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_ON_NODE": "6(x2)"}, 6),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_PER_TASK": "many"}, 8),
        ({"SLURM_CPUS_PER_TASK": "²"}, 8),
        ({"SLURM_CPUS_PER_TASK": "0"}, 1),
        ({"SLURM_CPUS_PER_TASK": "64"}, 8),
    ],
)
def test_available_cpus_are_at_most_what_slurm_has_given(monkeypatch, variables, expected):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert available_cpus() == expected


def test_each_result_comes_with_its_index(pool):
    assert dict(pool.run(double, [(i,) for i in range(20)], name)) == {i: 2 * i for i in range(20)}


def test_no_tasks_have_no_results(pool):
    assert list(pool.run(double, [], name)) == []


def test_two_workers_work_at_the_same_time(two, tmp_path):
    assert os.getpid() not in pids(two, tmp_path / "meeting")
    assert len(os.listdir(tmp_path / "meeting")) == 2


def test_a_task_that_raises_is_named_with_its_traceback(pool):
    tasks = [("plain", i) for i in range(4)]
    with pytest.raises(SamplingError) as caught:
        list(pool.run(fail, tasks, name))
    first, _, *rest = str(caught.value).splitlines()
    assert first == "task 2: ValueError: it went"
    assert rest[:2] == ["in the worker:", "Traceback (most recent call last):"]
    assert any("in fail" in line for line in rest)
    assert rest[-2:] == ["ValueError: it went", "wrong"]


def test_an_exception_that_cannot_be_pickled_is_told_all_the_same(pool):
    with pytest.raises(SamplingError, match="^task 2: Unpicklable: it went\n") as caught:
        list(pool.run(fail, [("unpicklable", i) for i in range(4)], name))
    assert "in fail" in str(caught.value)


def test_a_lane_that_raises_is_named(pool):
    with pytest.raises(SamplingError, match="^task 0, lane 5: LaneError: no floor\n"):
        list(pool.run(fail_in_lane, [(0,)], name))


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_many_tasks_in_waiting_do_not_hinder_the_error_of_one(two):
    with pytest.raises(SamplingError, match="^task 2: ValueError"):
        list(two.run(fail, [("plain", i) for i in range(200)], name))
    assert dict(two.run(double, [(1,)], name)) == {0: 2}


def test_a_result_that_cannot_be_pickled_is_an_error(two):
    with pytest.raises(SamplingError, match="^task 0: TypeError: cannot pickle"):
        list(two.run(threading.Lock, [()], name))


def test_a_run_that_is_closed_early_ends_its_workers_without_a_word(tmp_path, recwarn):
    gc.collect()  # what earlier tests have left may say something as it goes
    recwarn.clear()
    pool = Pool("loky", 2)
    workers = pids(pool, tmp_path / "meeting")
    results = pool.run(first_only, [(i,) for i in range(50)], name)
    assert next(results) == (0, None)
    results.close()
    wait_until(lambda: all(map(ended, workers)))
    assert dict(pool.run(double, [(1,)], name)) == {0: 2}
    pool.close()
    assert not [str(warning.message) for warning in recwarn.list]


def test_a_closed_pool_has_no_workers_and_starts_anew(tmp_path):
    pool = Pool("loky", 2)
    before = pids(pool, tmp_path / "before")
    pool.close()
    assert all(map(ended, before))
    assert not pids(pool, tmp_path / "after") & before
    pool.close()


def test_a_pool_that_is_forgotten_has_no_workers(tmp_path):
    pool = Pool("loky", 2)
    workers = pids(pool, tmp_path / "meeting")
    del pool
    gc.collect()
    wait_until(lambda: all(map(ended, workers)))


def test_pools_leave_each_other_and_other_users_of_joblib_alone(two, tmp_path):
    before = pids(two, tmp_path / "before")
    other = Pool("loky", 2)
    pids(other, tmp_path / "other")
    joblib.Parallel(2)(joblib.delayed(double)(i) for i in range(4))
    assert pids(two, tmp_path / "after") == before
    other.close()


def test_a_pool_works_in_any_thread(two):
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: dict(two.run(double, [(1,), (2,)], name))).result() == {0: 2, 1: 4}


def test_a_run_leaves_signals_as_they_were(two):
    def handling():
        numbers = (signal.SIGINT, signal.SIGTERM)
        return [signal.getsignal(number) for number in numbers], signal.pthread_sigmask(signal.SIG_BLOCK, ())

    before = handling()
    list(two.run(double, [(1,)], name))
    assert handling() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_tasks_are_sent_and_then_ends_the_workers(number):
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
    wait_until(lambda: not all_workers() - others)


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


def test_runs_leave_nothing_open_and_no_files(two):
    def left():
        shared = [entry for entry in os.listdir("/dev/shm") if f"-{os.getpid()}-" in entry or f"_{os.getpid()}_" in entry]
        return psutil.Process().num_fds(), len(shared)

    tasks = [(i,) for i in range(8)]
    list(two.run(double, tasks, name))
    gc.collect()
    before = left()
    for _ in range(50):
        list(two.run(double, tasks, name))
    gc.collect()
    assert left() <= before
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "qi_ext-watch"])


ABOUT_A_WORKER = """
import os, pickle, resource, sys
import psutil
import threadpoolctl
from qi_ext.sampling import physics as worker
from qi_ext.sampling.pool import Pool

def about(*task):
    lanes, rollouts = worker.fragment(*task)
    threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return sorted(sys.modules), threads, psutil.Process().memory_info().rss / 2**20

if __name__ == "__main__":
    specification, task = pickle.load(open(sys.argv[1], "rb"))
    pool = Pool("loky", 2, initializer=worker.install, initargs=("key", specification))
    print(__import__("json").dumps([result for _, result in pool.run(about, [("key", *task)] * 4, str)]))
"""


def test_a_worker_is_small_and_draws_nothing(tmp_path, sampler, make_actor, seeds):
    from qi_ext.sampling.controllers import PolicyController

    script, data = tmp_path / "script.py", tmp_path / "data"
    script.write_text(ABOUT_A_WORKER)
    data.write_bytes(pickle.dumps((sampler.specification, (sampler.lanes(seeds(4)), 4, PolicyController(make_actor()), 10))))
    for modules, threads, megabytes in json.loads(run_python(script, data)):
        for heavy in ("torch", "loco_mujoco", "mushroom_rl", "scipy", "glfw", "OpenGL", "mujoco.viewer", "cv2", "joblib._dask"):
            assert heavy not in modules
        assert "mujoco" in modules
        assert threads and set(threads) == {1}
        assert megabytes < 200


def test_rollouts_are_the_same_in_any_pool(short, sampler, make_actor, seeds, bits):
    from qi_ext.sampling.pool_source import BatchedSampler

    expected_lanes, expected = sampler.fragment(sampler.lanes(seeds(10)), make_actor(), 20)
    for n_workers in (1, 2, 3):
        other = BatchedSampler(short, 4, "loky", n_workers)
        lanes, rollouts = other.fragment(other.lanes(seeds(10)), make_actor(), 20)
        assert lanes.equals(expected_lanes)
        assert bits(rollouts) == bits(expected)
        other.close()


def test_a_policy_that_fails_in_one_lane_is_named_with_its_seed(short, sampler, make_actor, seeds):
    from qi_ext.sampling.pool_source import BatchedSampler

    lanes, _ = sampler.fragment(sampler.lanes(seeds(8)), make_actor(), 3)
    lanes.running[:] = True
    lanes.state[6] = np.nan
    other = BatchedSampler(short, 4, "loky", 2)
    with pytest.raises(SamplingError, match=r"^lane 6 \(seed 60\): LaneError: the policy's action is not finite"):
        other.fragment(lanes, make_actor(), 3, lambda lane: f"lane {lane} (seed {lane * 10})")
    other.close()
