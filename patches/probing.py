"""Run the probes of patches, each twice and in processes of their own: without any patch, and with its own only.

Each process is a fork of a server that has imported the slow modules that the libraries import, but none of the libraries.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from patches import registry
from patches.registry import set_applied, states

_TIMEOUT = 120.0  # seconds, of one probe


@dataclass(frozen=True)
class Probed:
    """Fault that a probe saw before and after its patch: "" for none, None where the probe failed, and error says why."""

    state: object
    before: str | None
    after: str | None
    error: str = ""

    @property
    def holds(self):
        """True where the fault was there before the patch, and gone after it."""
        return bool(self.before) and self.after == ""


def probe_all(*names, only=(), at_once=2):
    """Probe the patches of these libraries, of all where none is named, that fit the installed version; yields `Probed`.

    only: full names of the patches to probe, all where empty. at_once: probes that run at a time.
    """
    fitting = [state for state in states(*names) if state.state not in ("library not installed", "unknown version")]
    fitting = [state for state in fitting if not only or state.patch.full_name in only]
    known = registry.libraries()
    imports = {module for state in fitting for module in known[state.patch.library].imports}
    servers = queue.SimpleQueue()
    with contextlib.ExitStack() as ending:
        for _ in range(at_once):
            servers.put(ending.enter_context(_server(imports)))
        threads = ThreadPoolExecutor(at_once)
        ending.callback(threads.shutdown, cancel_futures=True)  # after Ctrl-C no probe begins
        running = [[threads.submit(_answer, servers, state.patch, patched) for patched in (False, True)] for state in fitting]
        for state, pair in zip(fitting, running, strict=True):
            (before, why_before), (after, why_after) = (future.result() for future in pair)
            yield Probed(state, before, after, why_before or why_after)


def _server(imports):
    """Start a server, the process that forks; it ends when its stdin is closed, as leaving its context does."""
    command = [sys.executable, "-m", "patches.probing", *sorted(imports)]
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "MUJOCO_GL": "disabled"}  # no probe draws
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def _answer(servers, patch, patched):
    """Have a free server run a probe; returns the fault it saw and the error of the probe, as `Probed` has them."""
    server = servers.get()
    try:
        print(json.dumps([patch.full_name, patched, _TIMEOUT]), file=server.stdin, flush=True)
        # The server has to start, and answers after twice the timeout at the latest.
        ready, _, _ = select.select([server.stdout], [], [], 3.0 * _TIMEOUT)
        line = server.stdout.readline() if ready else ""
        return json.loads(line) if line else (None, "the process that runs probes has ended, or does not answer")
    except BrokenPipeError:
        return None, "the process that runs probes has ended"
    finally:
        servers.put(server)


def _serve(*imports):
    """In a server: answer each line of stdin with one on stdout. Whatever else writes there, C code too, goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the process that asks reports Ctrl-C
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for module in imports:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(_forked(*json.loads(line))), file=answers, flush=True)


def _forked(full_name, patched, timeout):
    """In a server: run a probe in a fork. timeout: s. Returns as `_answer` does."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = fork.Process(target=_probe, args=(full_name, patched, output, sender))
        process.start()
        sender.close()
        try:
            if receiver.poll(timeout):
                answer = receiver.recv()
                process.join(timeout)
                return answer
            return None, f"no answer within {timeout:.0f} s"
        except EOFError:
            process.join()
            output.seek(0)
            written = output.read()[-2000:].strip()
            return None, f"{written}\nended with exit code {process.exitcode}, without an answer".lstrip()
        finally:
            process.kill()
            process.join()
            receiver.close()


def _probe(full_name, patched, output, sender):
    """In the fork: run a probe, and send the answer."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output.fileno(), stream.fileno())
    set_applied([full_name] if patched else [])
    patch = next(state.patch for state in states(full_name.split("/")[0]) if state.patch.full_name == full_name)
    try:
        seen = patch.probe()
        if not isinstance(seen, str):
            raise TypeError(f"a probe returns a text, not {seen!r}")
        sender.send((seen, ""))
    except Exception:
        sender.send((None, traceback.format_exc()[-2000:]))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
