"""Runs the probes of patches, each in a process of its own, without the patch and with nothing but it."""

import json
import os
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from patches.registry import set_applied, states

_TIMEOUT = 120.0  # seconds, of one probe


@dataclass(frozen=True)
class Probed:
    """What a probe saw of a fault, before and after its patch: "" for nothing, None where it could not look (see error)."""

    state: object
    before: str | None
    after: str | None
    error: str = ""

    @property
    def holds(self):
        """Whether the fault was there before, and gone after."""
        return bool(self.before) and self.after == ""


def probe_all(*names, only=(), at_once=2):
    """Probe the patches of these libraries (of all, where none is named) that fit what is installed; yields `Probed`, in order.

    only: full names of the patches to probe, all where empty. at_once: processes at a time.
    """
    fitting = [state for state in states(*names) if state.state not in ("library not installed", "unknown version")]
    fitting = [state for state in fitting if not only or state.patch.full_name in only]
    threads = ThreadPoolExecutor(at_once)
    try:
        running = [[threads.submit(_in_process, state.patch, patched) for patched in (False, True)] for state in fitting]
        for state, pair in zip(fitting, running, strict=True):
            (before, why_before), (after, why_after) = (future.result() for future in pair)
            yield Probed(state, before, after, why_before or why_after)
    finally:
        threads.shutdown(cancel_futures=True)  # Ctrl-C ends what runs, and nothing more is to begin


def _in_process(patch, patched):
    """What the probe saw, and why it could not look."""
    command = [sys.executable, "-m", "patches.probing", patch.full_name, str(int(patched))]
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_TIMEOUT:.0f} s"
    if done.returncode or not done.stdout:
        return None, f"{done.stderr[-2000:].strip()}\nended with exit code {done.returncode}, without an answer".lstrip()
    answer = json.loads(done.stdout)
    return answer["seen"], answer["error"]


def _main(full_name, patched):
    """In the process: print what the probe saw, and nothing else; all other output goes to stderr, that of C code too."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    set_applied([full_name] if int(patched) else [])
    patch = next(state.patch for state in states(full_name.split("/")[0]) if state.patch.full_name == full_name)
    try:
        seen = patch.probe()
        if not isinstance(seen, str):
            raise TypeError(f"a probe returns a text, not {seen!r}")
        answer = {"seen": seen, "error": ""}
    except Exception:
        answer = {"seen": None, "error": traceback.format_exc()[-2000:]}
    json.dump(answer, answers)
    answers.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
