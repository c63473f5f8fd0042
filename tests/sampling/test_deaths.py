"""Every way for workers and main processes to die: the numbers are the same, and nothing is left behind."""

import contextlib
import os
import pickle
import re
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
from qi_ext.sampling.loky_backend import LokyWorkers, in_order
from qi_ext.sampling.pool import Pool
from qi_ext.utils.errors import LESS_MEMORY, SamplingError

ROOT = Path(qi_ext.__file__).parents[1]
pytestmark = [pytest.mark.extensive, pytest.mark.usefixtures("deadline")]
SIZE = 150_000_000  # bytes of a message that takes its time
WARNING = "a worker died (killed, or out of memory?); running again: "
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def name(index, env):
    return f"task {index}"


@pytest.fixture(scope="module")
def expected():
    """Filled by the first test that needs it: rollouts of this process, as bytes."""
    return []


@pytest.fixture
def gather_again(make_source, short, Learns, gather, bits, expected):
    """gather_again(source): rollouts of a source with 16 envs, from its beginning, bit-identical to those of this process."""
    agent = Learns(short.info)
    if not expected:
        expected.append(bits(gather(make_source(n_envs=16), agent, n_steps=3200)))
    beginning = make_source(n_envs=16).state()

    def again(source):
        source.load_state(beginning)
        assert bits(gather(source, agent, n_steps=3200)) == expected[0]

    return again


@pytest.fixture
def source(make_source):
    """16 envs, and two worker processes."""
    return make_source(n_envs=16, pool="loky", n_workers=2)


@contextlib.contextmanager
def killed(processes, victims, when):
    """Within, the victims are killed as soon as `when()` is true."""

    def kill():
        processes.wait_until(when)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill)
        yield
        killing.result()


# Workers


@pytest.mark.parametrize(("progress", "n_victims"), [(0.0, 1), (0.2, 2)], ids=["at once", "both, in the middle"])
def test_workers_killed_in_a_batch_change_nothing(source, gather_again, processes, warnings, progress, n_victims):
    workers = processes.pids(source._pool)
    before = {pid: processes.busy(pid) for pid in workers}
    with killed(processes, workers[:n_victims], lambda: any(processes.busy(pid) > before[pid] + progress for pid in workers)):
        gather_again(source)
    (said,) = warnings()
    assert said.startswith(WARNING + "env")


def test_workers_killed_between_batches_change_nothing(source, gather_again, processes):
    workers = processes.pids(source._pool)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    processes.wait_until(lambda: all(map(processes.ended, workers)))
    gather_again(source)


SITE = """
import os, sys, time
if any("popen_loky" in word for word in sys.orig_argv):
    {}
"""


@pytest.mark.parametrize(
    ("action", "said"),
    [("os._exit(3)", "keeps dying: EXIT(3)"), ("time.sleep(1e6)", "a worker process did not start within 2 s")],
)
def test_a_worker_that_does_not_start_is_an_error_and_no_wait(tmp_path, monkeypatch, warnings, action, said):
    (tmp_path / "sitecustomize.py").write_text(SITE.format(action))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(loky_backend, "START_LOOKS", 2)
    pool = Pool("loky", 2)
    with pytest.raises(SamplingError, match=re.escape(said)):
        dict(pool.run(take, [(i, b"") for i in range(3)], name))
    warnings()
    pool.close()


def test_a_process_that_draws_and_does_not_start_is_an_error_and_no_wait(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(SITE.format("time.sleep(1e6)"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(loky_backend, "START_LOOKS", 2)
    painters = LokyWorkers(2, None, ())
    with pytest.raises(LokyWorkers.death):
        list(in_order(painters, [os.getpid] * 3, ahead=2))
    assert painters.fault == "a worker process did not start within 2 s"


def big(number):
    return bytes(SIZE)


def take(number, data):
    return number, len(data)


@pytest.mark.parametrize("direction", ["to a worker", "from a worker"])
def test_workers_killed_in_the_middle_of_a_message_change_nothing(processes, warnings, direction):
    pool = Pool("loky", 2)
    workers = processes.pids(pool)
    if direction == "to a worker":
        function, tasks, expected = take, [(i, bytes(SIZE)) for i in range(4)], [(i, SIZE) for i in range(4)]
        victims, reader = workers[:1], psutil.Process(workers[0])
    else:
        function, tasks, expected = big, [(i,) for i in range(4)], [bytes(SIZE)] * 4
        victims, reader = workers, psutil.Process()
    before = reader.io_counters().read_chars
    threads, files = psutil.Process().num_threads(), psutil.Process().num_fds()
    with killed(processes, victims, lambda: reader.io_counters().read_chars > before + SIZE / 10):
        results = dict(pool.run(function, tasks, name))
    assert [results[i] for i in range(4)] == expected
    assert len(warnings()) == 1
    processes.wait_until(lambda: psutil.Process().num_threads() <= threads)
    assert psutil.Process().num_fds() <= files
    pool.close()


def die(number, guilty):
    if number in guilty:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_tasks_that_keep_killing_their_workers_are_named_after_all_others_are_done(warnings):
    pool, results = Pool("loky", 2), []
    with pytest.raises(SamplingError) as caught:
        for result in pool.run(die, [(i, (2, 5)) for i in range(7)], name):
            results.append(result)
    assert sorted(results) == [(i, i) for i in (0, 1, 3, 4, 6)]
    hint = f"; where memory ran out, {LESS_MEMORY}"
    assert str(caught.value) == "the worker that runs task 2, task 5 keeps dying: SIGKILL(-9)" + hint
    assert len(warnings()) == 5  # three deaths together, then each task dies alone once before it is given up
    assert warnings()[-2:] == [WARNING + "task 2", WARNING + "task 5"]


def test_a_worker_that_cannot_be_prepared_says_why_at_once(warnings):
    pool = Pool("loky", 2, initializer=os.listdir, initargs=("/no/such/folder",))
    reason = "a worker could not be prepared: FileNotFoundError: .* '/no/such/folder'"
    with pytest.raises(SamplingError, match=f"^task 0, task 1: RuntimeError: {reason}$"):
        list(pool.run(die, [(0, ()), (1, ())], name))
    assert warnings() == []


class Meeting:
    """Is unpickled once two workers are at it."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return meet, (self.folder,)


def meet(folder):
    (folder / str(os.getpid())).touch()
    while len(os.listdir(folder)) < 2:
        time.sleep(0.002)


def test_a_worker_that_still_reads_its_initializer_does_not_hold_up_the_start_of_the_next(tmp_path):
    pool = Pool("loky", 2, initializer=take, initargs=(Meeting(tmp_path), bytes(10_000_000)))
    assert dict(pool.run(die, [(0, ()), (1, ())], name)) == {0: 0, 1: 1}
    pool.close()


def test_workers_that_have_ended_by_themselves_change_nothing(source, gather_again, processes, warnings, monkeypatch):
    monkeypatch.setattr(loky_backend, "IDLE_TIMEOUT", 0.5)
    workers = processes.pids(source._pool)
    processes.wait_until(lambda: all(map(processes.ended, workers)))
    gather_again(source)
    assert warnings() == []


def grow(folder):
    """Make loky take two workers for ones that leak memory."""
    from joblib.externals.loky import process_executor

    process_executor._MEMORY_LEAK_CHECK_DELAY, process_executor._MAX_MEMORY_LEAK_SIZE = 0.0, 10_000_000
    process_executor.kept = bytearray(50_000_000)
    meet(folder)


def test_workers_that_are_replaced_for_their_size_change_nothing(source, gather_again, processes, warnings, tmp_path):
    workers = processes.pids(source._pool)
    (tmp_path / "growing").mkdir()
    list(source._pool.run(grow, [(tmp_path / "growing",)] * 2, name))
    processes.wait_until(lambda: all(map(processes.ended, workers)))
    gather_again(source)
    assert warnings() == []


# Main processes

SCRIPT = """
import pickle, signal, sys
from qi_ext.sampling import physics
from qi_ext.sampling.pool import Pool

class Terminated(BaseException):
    pass

def terminate(number, frame):
    raise Terminated

def main():
    spec, tasks = pickle.load(open(sys.argv[1], "rb"))
    signal.signal(signal.SIGTERM, terminate)
    pool = Pool("loky", 2, initializer=physics.install, initargs=("key", spec))
    print("start", flush=True)
    for n_steps in (10, 100_000):
        results = list(pool.run(physics.step_fragment, [("key", *task, n_steps) for task in tasks], str))
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


@pytest.fixture
def script(tmp_path, simulator, controller, processes):
    """script(moment): SCRIPT as a process group of its own, at that moment, and its workers and all its descendants."""
    envs = simulator.envs(8)
    tasks = [(envs[first : first + 4], 4, controller) for first in (0, 4)]
    (tmp_path / "data").write_bytes(pickle.dumps((simulator.spec, tasks)))
    (tmp_path / "script.py").write_text(SCRIPT)

    @contextlib.contextmanager
    def run(moment):
        process = subprocess.Popen(
            [sys.executable, tmp_path / "script.py", tmp_path / "data", moment],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout.readline() == "start\n"
        descendants = set()

        def workers():
            descendants.update(psutil.Process(process.pid).children(recursive=True))
            return [each for each in descendants if "LokyProcess" in " ".join(command_line(each))]

        processes.wait_until(lambda: len(workers()) == 2)
        if moment == "starting":
            processes.wait_until(lambda: all(processes.busy(worker.pid) > 0.1 for worker in workers()))
        else:
            assert process.stdout.readline() == "batch\n"
        if moment == "working":
            wait_until_busy(processes, workers())
        try:
            yield process, workers(), descendants
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


def wait_until_busy(processes, workers):
    before = {worker.pid: processes.busy(worker.pid) for worker in workers}
    processes.wait_until(lambda: all(processes.busy(pid) > before[pid] + 0.1 for pid in before))


def assert_nothing_is_left(processes, process, descendants):
    processes.wait_until(lambda: all(processes.ended(each.pid) for each in descendants))
    marks = (f"-{process.pid}-", f"_{process.pid}_")
    processes.wait_until(lambda: not [entry for entry in os.listdir("/dev/shm") for mark in marks if mark in entry])


@pytest.mark.parametrize(
    ("moment", "send", "number", "code"),
    [(moment, os.killpg, signal.SIGINT, 130) for moment in ("starting", "working", "between")]
    + [("between", os.kill, signal.SIGINT, 130), ("working", os.killpg, signal.SIGTERM, 143)],
    ids=["Ctrl-C, starting", "Ctrl-C, working", "Ctrl-C, between", "SIGINT, between", "SIGTERM to all, working"],
)
def test_a_signal_stops_everything_without_a_word(script, processes, moment, send, number, code):
    with script(moment) as (process, _, descendants):
        send(process.pid, number)
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (code, "")
        assert_nothing_is_left(processes, process, descendants)


@pytest.mark.parametrize(("moment", "number"), [("starting", signal.SIGINT), ("working", signal.SIGTERM)])
def test_workers_leave_signals_to_the_main_process(script, processes, moment, number):
    with script(moment) as (process, workers, _):
        for worker in workers:
            worker.send_signal(number)
        if moment == "starting":
            assert process.stdout.readline() == "batch\n"
        wait_until_busy(processes, workers)
        process.send_signal(number)
        assert process.communicate(timeout=60)[1] == ""


@pytest.mark.parametrize("moment", ["starting", "working", "between"])
def test_workers_end_when_the_main_process_is_killed(script, processes, moment):
    with script(moment) as (process, _, descendants):
        process.kill()
        assert_nothing_is_left(processes, process, descendants)
