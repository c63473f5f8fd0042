"""Workers and main processes that die, in the middle of real batches: the numbers are the same, and nothing is left behind."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import psutil
import pytest

import qi_ext
from qi_ext.sampling import loky_backend
from qi_ext.sampling.controllers import PolicyController
from qi_ext.sampling.pool import Pool
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.utils.errors import SamplingError

ROOT = Path(qi_ext.__file__).parents[1]
DEADLINE = 60.0  # s
pytestmark = pytest.mark.usefixtures("deadline")
N_LANES, N_STEPS = 16, 200
SIZE = 150_000_000  # bytes, of a message that takes its time
WARNING = "a worker died (killed, or out of memory?); running again: "
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def name(index, lane):
    return f"task {index}"


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


def meet(folder):
    """The worker's process id, once two different workers have come here."""
    (Path(folder) / str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(folder)) == 2)
    return os.getpid()


def pids(pool, folder):
    """Of the two workers of a pool."""
    folder.mkdir(exist_ok=True)
    return sorted({pid for _, pid in pool.run(meet, [(folder,), (folder,)], name)})


def busy(pid):
    """CPU time, s."""
    return psutil.Process(pid).cpu_times().user


@contextlib.contextmanager
def killed(victims, when):
    """Within, the `victims` are killed as soon as `when()` is true."""

    def kill():
        wait_until(when)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill)
        yield
        killing.result()


@pytest.fixture(scope="module")
def expected(sampler, make_actor, seeds, bits):
    """Lanes and rollouts of one fragment in this process."""
    lanes, rollouts = sampler.fragment(sampler.lanes(seeds(N_LANES)), make_actor(), N_STEPS)
    return lanes, bits(rollouts)


@pytest.fixture(scope="module")
def two(short):
    """A sampler with two worker processes."""
    sampler = BatchedSampler(short, 4, "loky", 2)
    yield sampler
    sampler.close()


@pytest.fixture
def fragment(two, expected, make_actor, seeds, bits):
    """A function that gathers the fragment again, in two worker processes, which must be bit-identical to `expected`."""

    def gather(sampler=two):
        lanes, rollouts = sampler.fragment(sampler.lanes(seeds(N_LANES)), make_actor(), N_STEPS)
        assert lanes.equals(expected[0])
        assert bits(rollouts) == expected[1]

    return gather


@pytest.mark.parametrize(
    ("progress", "n_victims"), [(0.0, 1), (0.05, 1), (0.2, 1), (0.2, 2)], ids=["at once", "early", "in the middle", "both"]
)
def test_a_worker_killed_in_a_batch_changes_nothing(two, fragment, warnings, tmp_path, progress, n_victims):
    workers = pids(two.pool, tmp_path / "meeting")
    before = {pid: busy(pid) for pid in workers}
    with killed(workers[:n_victims], lambda: any(busy(pid) > before[pid] + progress for pid in workers)):
        fragment()
    (said,) = warnings()
    assert said.startswith(WARNING + "lanes ")
    assert "\n" not in said
    fragment()
    assert len(warnings()) == 1


def test_workers_killed_between_batches_change_nothing(two, fragment, tmp_path):
    workers = pids(two.pool, tmp_path / "meeting")
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(ended, workers)))
    fragment()


def big(number):
    return bytes(SIZE)


def take(number, data):
    return number, len(data)


@pytest.mark.parametrize("direction", ["to a worker", "from a worker"])
def test_workers_killed_in_the_middle_of_a_message_change_nothing(warnings, tmp_path, direction):
    pool = Pool("loky", 2)
    workers = pids(pool, tmp_path / "meeting")
    if direction == "to a worker":
        function, tasks, expected = take, [(i, bytes(SIZE)) for i in range(4)], [(i, SIZE) for i in range(4)]
        victims, reader = workers[:1], psutil.Process(workers[0])
    else:
        function, tasks, expected = big, [(i,) for i in range(4)], [bytes(SIZE)] * 4
        victims, reader = workers, psutil.Process()
    before = reader.io_counters().read_chars
    threads, files = psutil.Process().num_threads(), psutil.Process().num_fds()
    with killed(victims, lambda: reader.io_counters().read_chars > before + SIZE / 10):
        results = dict(pool.run(function, tasks, name))
    assert [results[i] for i in range(4)] == expected
    assert len(warnings()) == 1
    wait_until(lambda: psutil.Process().num_threads() <= threads)
    assert psutil.Process().num_fds() <= files
    pool.close()


def die(number, guilty):
    if number in guilty:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_tasks_that_keep_killing_their_workers_are_named_after_all_others_are_done(warnings):
    pool, results = Pool("loky", 2), []
    with pytest.raises(SamplingError) as caught:
        results.extend(pool.run(die, [(i, (2, 5)) for i in range(7)], name))
    assert str(caught.value) == "the worker that runs task 2, task 5 keeps dying: SIGKILL(-9)"
    assert len(warnings()) == 5  # thrice together, then each once alone before it is given up
    assert warnings()[-2:] == [WARNING + "task 2", WARNING + "task 5"]


def test_results_before_the_death_of_another_are_kept():
    pool, results = Pool("loky", 2), []
    with pytest.raises(SamplingError, match="task 6 keeps dying"):
        for index, result in pool.run(die, [(i, (6,)) for i in range(7)], name):
            results.append((index, result))
    assert sorted(results) == [(i, i) for i in range(6)]


def test_a_worker_that_cannot_be_prepared_says_why_at_once(warnings):
    pool = Pool("loky", 2, initializer=os.listdir, initargs=("/no/such/folder",))
    reason = "a worker could not be prepared: FileNotFoundError: .* '/no/such/folder'"
    with pytest.raises(SamplingError, match=f"^task 0, task 1: RuntimeError: {reason}$"):
        list(pool.run(die, [(0, ()), (1, ())], name))
    assert warnings() == []


def test_workers_that_have_ended_by_themselves_change_nothing(short, fragment, warnings, tmp_path, monkeypatch):
    monkeypatch.setattr(loky_backend, "IDLE_TIMEOUT", 0.5)
    sampler = BatchedSampler(short, 4, "loky", 2)
    workers = pids(sampler.pool, tmp_path / "before")
    wait_until(lambda: all(map(ended, workers)))
    fragment(sampler)
    assert warnings() == []
    sampler.close()


def grow(folder):
    """Make loky take this worker for one that leaks memory."""
    from joblib.externals.loky import process_executor

    process_executor._MEMORY_LEAK_CHECK_DELAY, process_executor._MAX_MEMORY_LEAK_SIZE = 0.0, 10_000_000
    process_executor.kept = bytearray(50_000_000)
    return meet(folder)


def test_workers_that_are_replaced_for_their_size_change_nothing(two, fragment, warnings, tmp_path):
    workers = pids(two.pool, tmp_path / "before")
    (tmp_path / "growing").mkdir()
    list(two.pool.run(grow, [(tmp_path / "growing",)] * 2, name))
    wait_until(lambda: all(map(ended, workers)))
    fragment()
    assert warnings() == []


SCRIPT = """
import pickle, signal, sys
from qi_ext.sampling import physics as worker
from qi_ext.sampling.pool import Pool

class Terminated(BaseException):
    pass

def terminate(number, frame):
    raise Terminated

def main():
    specification, tasks = pickle.load(open(sys.argv[1], "rb"))
    signal.signal(signal.SIGTERM, terminate)
    pool = Pool("loky", 2, initializer=worker.install, initargs=("key", specification))
    print("start", flush=True)
    for n_steps in (10, 100_000):
        results = list(pool.run(worker.fragment, [("key", *task, n_steps) for task in tasks], str))
        print("batch", flush=True)
        if sys.argv[2] == "between":
            input()

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Terminated:
        sys.exit(143)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory, sampler, make_actor, seeds):
    """script(moment): SCRIPT as a process group of its own, at that moment, and the processes that it has started."""
    folder, processes = tmp_path_factory.mktemp("script"), []
    lanes = sampler.lanes(seeds(8))
    tasks = [(lanes[block : block + 4], 4, PolicyController(make_actor())) for block in (0, 4)]
    (folder / "data").write_bytes(pickle.dumps((sampler.specification, tasks)))
    (folder / "script.py").write_text(SCRIPT)

    @contextlib.contextmanager
    def run(moment):
        process = subprocess.Popen(
            [sys.executable, folder / "script.py", folder / "data", moment],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        assert process.stdout.readline() == "start\n"
        descendants = set()

        def workers():
            descendants.update(psutil.Process(process.pid).children(recursive=True))
            return [each for each in descendants if "LokyProcess" in " ".join(command_line(each))]

        wait_until(lambda: len(workers()) == 2)
        if moment == "starting":
            wait_until(lambda: all(busy(worker.pid) > 0.1 for worker in workers()))
        else:
            assert process.stdout.readline() == "batch\n"
        if moment == "working":
            before = {worker.pid: busy(worker.pid) for worker in workers()}
            wait_until(lambda: all(busy(pid) > before[pid] + 0.1 for pid in before))
        try:
            yield process, descendants
        finally:
            for each in [process, *descendants]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
            process.communicate()

    return run


def command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def nothing_is_left(process, descendants):
    wait_until(lambda: all(ended(each.pid) for each in descendants))
    marks = (f"-{process.pid}-", f"_{process.pid}_")
    wait_until(lambda: not [entry for entry in os.listdir("/dev/shm") for mark in marks if mark in entry])


@pytest.mark.parametrize("moment", ["starting", "working", "between"])
@pytest.mark.parametrize(
    ("send", "number", "code"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGINT, 130), (os.killpg, signal.SIGTERM, 143)],
    ids=["Ctrl-C", "SIGINT", "SIGTERM to all"],
)
def test_a_signal_stops_everything_without_a_word(script, moment, send, number, code):
    with script(moment) as (process, descendants):
        send(process.pid, number)
        _, error = process.communicate(timeout=DEADLINE)
        assert (process.returncode, error) == (code, "")
        nothing_is_left(process, descendants)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting", "working"])
def test_workers_leave_signals_to_the_main_process(script, moment, number):
    with script(moment) as (process, descendants):
        workers = [each for each in descendants if "LokyProcess" in " ".join(command_line(each))]
        assert len(workers) == 2
        for worker in workers:
            worker.send_signal(number)
        if moment == "starting":
            assert process.stdout.readline() == "batch\n"
        before = {worker.pid: busy(worker.pid) for worker in workers}
        wait_until(lambda: all(busy(pid) > before[pid] + 0.1 for pid in before))
        process.send_signal(number)
        assert process.communicate(timeout=DEADLINE)[1] == ""


@pytest.mark.parametrize("moment", ["starting", "working", "between"])
def test_workers_end_when_the_main_process_is_killed(script, moment):
    with script(moment) as (process, descendants):
        process.kill()
        nothing_is_left(process, descendants)
