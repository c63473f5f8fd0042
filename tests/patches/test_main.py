"""`python -m patches`, and the probing behind it on libraries of the tests' own, which the probes' processes know too."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import patches
from patches import __main__ as main_module
from patches import probing, registry
from patches.probing import probe_all

ROOT = Path(patches.__file__).parents[1]

TINY = """
import atexit, os, sys, time

import tiny_library
from patches.library import Library

LIBRARY = Library("tiny", "tiny", versions=("1.5",), found=lambda: "1.5")
UNKNOWN = Library("unknown", "unknown", versions=("1.5", "1.6"), found=lambda: "2.0")
ABSENT = Library("absent", "absent", versions=("1.5",), found=lambda: None)
KNOWN = {library.name: library for library in (LIBRARY, UNKNOWN, ABSENT)}


def register(library, name, probe, value=2, **keywords):
    def install(edits):
        if value is None:
            raise OSError("no room to install")
        edits.replace(tiny_library, "two", value)

    library.patch(name, target="tiny_library:two", sees="", remedy="", probe=probe, **keywords)(install)


def two():
    return "" if tiny_library.two == 2 else f"[two] is {tiny_library.two} :bug:"


def noisy():
    print('{"seen": "", "error": ""}')
    os.write(1, b"noise of C code\\n")
    os.system("echo noise of a child")
    print("noise of an exit", file=sys.stderr)
    atexit.register(lambda: print("late noise"))
    return two()


def raising():
    raise KeyError(tiny_library.two)


def hanging():
    if tiny_library.two == 2:
        time.sleep(60)
    return two()


def ending():
    os.write(2, b"last words")
    os._exit(0)


register(LIBRARY, "good", two, changes_results="in [brackets]")
register(LIBRARY, "noisy", noisy, default=False)
register(LIBRARY, "blind", lambda: "")
register(LIBRARY, "weak", two, value=1)
register(LIBRARY, "raising", raising)
register(LIBRARY, "hanging", hanging)
register(LIBRARY, "ending", ending)
register(LIBRARY, "textless", lambda: None)
register(LIBRARY, "uninstallable", two, value=None)
register(UNKNOWN, "newer", two)
register(ABSENT, "missing", two)
"""

KNOWN_TO_ALL = """
import patches.registry
import tiny_patches

if "-m" in __import__("sys").orig_argv:
    patches.registry.libraries = lambda: tiny_patches.KNOWN
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The tiny libraries are the only ones, here and in the probes' processes."""
    (tmp_path / "tiny_library.py").write_text("two = 3\n")
    (tmp_path / "tiny_patches.py").write_text(TINY)
    (tmp_path / "sitecustomize.py").write_text(KNOWN_TO_ALL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import tiny_patches

    monkeypatch.setattr(registry, "libraries", lambda: tiny_patches.KNOWN)
    yield tiny_patches.KNOWN
    for name in ("tiny_patches", "tiny_library"):
        del sys.modules[name]


@pytest.fixture
def only(tiny):
    """only(*names): just these patches of the tiny libraries are known here; the probes' processes know all."""

    def choose(*names):
        for library in tiny.values():
            library.patches[:] = [patch for patch in library.patches if patch.name in names]

    return choose


@pytest.mark.extensive
def test_probes_are_run_in_order_where_they_fit_and_say_what_they_saw(tiny, monkeypatch):
    monkeypatch.setattr(probing, "_TIMEOUT", 3.0)
    probed = {result.state.patch.full_name: result for result in probe_all()}
    assert list(probed) == [patch.full_name for patch in tiny["tiny"].patches]
    fault = "[two] is 3 :bug:"
    expected = {
        "good": (fault, "", ""),
        "noisy": (fault, "", ""),
        "blind": ("", "", ""),
        "weak": (fault, "[two] is 1 :bug:", ""),
        "raising": (None, None, "KeyError: 3"),
        "hanging": (fault, None, "no answer within 3 s"),
        "ending": (None, None, "last words\nended with exit code 0, without an answer"),
        "textless": (None, None, "a probe returns a text, not None"),
        "uninstallable": (fault, None, "OSError: no room to install"),
    }
    for name, (before, after, error) in expected.items():
        result = probed[f"tiny/{name}"]
        assert (result.before, result.after) == (before, after), name
        assert error in result.error and bool(error) == bool(result.error), name
        assert result.holds == (name in ("good", "noisy")), name


@pytest.mark.extensive
def test_no_probe_begins_after_the_caller_has_left(tiny, monkeypatch):
    begun = []

    def probe(servers, patch, patched):
        begun.append(patch.name)
        if len(begun) == 3:
            threading.Event().wait(0.3)  # s, in which the caller leaves
        return "", ""

    monkeypatch.setattr(probing, "_answer", probe)
    results = probe_all("tiny", at_once=1)
    next(results)
    results.close()
    assert begun in (["good", "good"], ["good", "good", "noisy"])


def _cells(text):
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row[1:-1]] for row in rows]


def test_the_listing_names_library_version_patch_and_state(tiny, only, capsys):
    only("good", "noisy", "newer", "missing")
    assert main_module.main([]) == 0
    assert _cells(capsys.readouterr().out) == [
        ["tiny", "1.5", "good", "off", "yes"],
        ["tiny", "1.5", "noisy", "off unless asked", "no"],
        ["unknown", "2.0 (not 1.5 or 1.6)", "newer", "unknown version", "no"],
        ["absent", "not installed", "missing", "library not installed", "no"],
    ]
    patches.apply("tiny")
    try:
        assert main_module.main(["tiny"]) == 0
    finally:
        patches.revert()
    assert [row[2:4] for row in _cells(capsys.readouterr().out)] == [["good", "applied"], ["noisy", "off unless asked"]]


@pytest.mark.extensive
def test_probing_ends_with_0_where_every_patch_holds_and_with_1_where_one_does_not(tiny, only, capsys):
    only("good", "blind", "raising", "weak", "missing")
    assert main_module.main(["--probe"]) == 1
    out = capsys.readouterr().out
    assert _cells(out)[5:] == [
        ["tiny", "good", "fails", "passes", "[two] is 3 :bug:"],
        ["tiny", "blind", "passes", "passes", ""],
        ["tiny", "weak", "fails", "fails", "[two] is 3 :bug:"],
        ["tiny", "raising", "error", "error", ""],
    ]
    assert "tiny/blind: before: no fault; after: no fault" in out
    assert "tiny/weak: before: [two] is 3 :bug:; after: [two] is 1 :bug:" in out
    assert "KeyError: 3" in out
    assert "tiny/good:" not in out
    only("good", "missing")
    assert main_module.main(["--probe"]) == 0
    only("missing")
    assert main_module.main(["--probe"]) == 0
    assert "none of these can be probed here" in capsys.readouterr().out


def _command(*arguments):
    command = [sys.executable, "-m", "patches", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_lists_every_patch_there_is():
    done = _command()
    assert (done.returncode, done.stderr) == (0, "")
    listed = [(row[0], row[2]) for row in _cells(done.stdout) if row[0]]
    known = [(patch.library, patch.name) for library in patches.libraries().values() for patch in library.patches]
    assert listed == known
    assert len(set(known)) == len(known)


def test_an_unknown_library_ends_with_exit_code_2_and_one_line():
    done = _command("mushroom-lr", "--probe")
    assert (done.returncode, done.stdout) == (2, "")
    known = "mushroom_rl, imitation_lib, loco_mujoco, experiment_launcher"
    assert done.stderr == f"patches: unknown library 'mushroom-lr'; name any of {known}, one by one\n"
