"""The command line and the probing behind it, on libraries of the tests' own, which the probes' processes know too."""

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
import os
import sys
import time

import tiny_library
from patches.library import Library

LIBRARY = Library("tiny", "tiny", versions=("1.5",), found=lambda: "1.5")
UNKNOWN = Library("unknown", "unknown", versions=("1.5", "1.6"), found=lambda: "2.0")
ABSENT = Library("absent", "absent", versions=("1.5",), found=lambda: None)


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
    import atexit
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
    known = (tiny_patches.LIBRARY, tiny_patches.UNKNOWN, tiny_patches.ABSENT)
    patches.registry.libraries = lambda: {library.name: library for library in known}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that makes the tiny library and its patches known to each Python that has it on its path."""
    path = tmp_path_factory.mktemp("tiny")
    (path / "tiny_library.py").write_text("two = 3\n")
    (path / "tiny_patches.py").write_text(TINY)
    (path / "sitecustomize.py").write_text(KNOWN_TO_ALL)
    return path


@pytest.fixture
def tiny(folder, monkeypatch):
    """The tiny libraries are the only ones, here and in the probes' processes."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    import tiny_patches

    known = {library.name: library for library in (tiny_patches.LIBRARY, tiny_patches.UNKNOWN, tiny_patches.ABSENT)}
    monkeypatch.setattr(registry, "libraries", lambda: known)
    yield known
    for name in ("tiny_patches", "tiny_library"):
        del sys.modules[name]


@pytest.fixture
def only(tiny):
    """only(*names): just these patches of the tiny library are known here; the probes' processes know all."""

    def choose(*names):
        for library in tiny.values():
            library.patches[:] = [patch for patch in library.patches if patch.name in names]

    return choose


def _probed(name):
    (result,) = probe_all("tiny", only=[f"tiny/{name}"])
    return result


def test_a_fault_is_seen_before_its_patch_and_not_after(tiny):
    probed = _probed("good")
    assert (probed.before, probed.after, probed.error) == ("[two] is 3 :bug:", "", "")
    assert probed.holds


def test_what_a_probe_prints_is_not_its_answer(tiny):
    probed = _probed("noisy")
    assert (probed.before, probed.after, probed.error) == ("[two] is 3 :bug:", "", "")


@pytest.mark.parametrize(("name", "before", "after"), [("blind", "", ""), ("weak", "[two] is 3 :bug:", "[two] is 1 :bug:")])
def test_a_probe_that_sees_no_fault_or_still_sees_it_does_not_hold(tiny, name, before, after):
    probed = _probed(name)
    assert (probed.before, probed.after, probed.error) == (before, after, "")
    assert not probed.holds


@pytest.mark.parametrize(
    ("name", "before", "error"),
    [
        ("raising", None, "KeyError: 3"),
        ("ending", None, "last words\nended with exit code 0, without an answer"),
        ("textless", None, "a probe returns a text, not None"),
        ("uninstallable", "[two] is 3 :bug:", "OSError: no room to install"),
    ],
)
def test_a_probe_that_cannot_look_says_why(tiny, name, before, error):
    probed = _probed(name)
    assert (probed.before, probed.after) == (before, None)
    assert error in probed.error
    assert not probed.holds


def test_a_probe_that_hangs_is_given_up(tiny, monkeypatch):
    monkeypatch.setattr(probing, "_TIMEOUT", 3.0)
    probed = _probed("hanging")
    assert (probed.before, probed.after, probed.error) == ("[two] is 3 :bug:", None, "no answer within 3 s")


def test_only_what_fits_is_probed_in_order(tiny, only):
    only("good", "weak", "newer", "missing")
    assert [probed.state.patch.full_name for probed in probe_all()] == ["tiny/good", "tiny/weak"]


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


def test_the_listing_of_one_library_tells_what_is_applied(tiny, only, capsys):
    only("good", "newer")
    patches.apply("tiny")
    try:
        assert main_module.main(["tiny"]) == 0
    finally:
        patches.revert()
    assert [row[1:4] for row in _cells(capsys.readouterr().out)] == [["1.5", "good", "applied"]]


def test_probing_ends_with_0_where_every_patch_holds(tiny, only, capsys):
    only("good", "missing")
    assert main_module.main(["--probe"]) == 0
    out = capsys.readouterr().out
    assert _cells(out)[2:] == [["tiny", "good", "fails", "passes", "[two] is 3 :bug:"]]


def test_probing_ends_with_1_where_one_does_not_hold_and_says_which(tiny, only, capsys):
    only("good", "blind", "raising", "weak")
    assert main_module.main(["--probe"]) == 1
    out = capsys.readouterr().out
    assert [row[:4] for row in _cells(out)[4:]] == [
        ["tiny", "good", "fails", "passes"],
        ["tiny", "blind", "passes", "passes"],
        ["tiny", "weak", "fails", "fails"],
        ["tiny", "raising", "error", "error"],
    ]
    assert "tiny/blind: before: no fault; after: no fault" in out
    assert "tiny/weak: before: [two] is 3 :bug:; after: [two] is 1 :bug:" in out
    assert "KeyError: 3" in out
    assert "tiny/good:" not in out


def _command(*arguments):
    command = [sys.executable, "-m", "patches", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_where_nothing_can_be_probed_it_says_so(tiny, only, capsys):
    only("newer", "missing")
    assert main_module.main(["--probe"]) == 0
    assert "none of these can be probed here" in capsys.readouterr().out


def test_an_unknown_library_ends_with_2_and_one_line():
    done = _command("mushroom-lr", "--probe")
    assert (done.returncode, done.stdout) == (2, "")
    known = "mushroom_rl, imitation_lib, loco_mujoco, experiment_launcher"
    expected = f"patches: unknown library 'mushroom-lr'; name any of {known}, one by one\n"
    assert done.stderr == expected


def test_the_command_lists_every_patch_there_is():
    done = _command()
    assert (done.returncode, done.stderr) == (0, "")
    listed = [(row[0], row[2]) for row in _cells(done.stdout) if row[0]]
    assert listed == [(patch.library, patch.name) for library in patches.libraries().values() for patch in library.patches]
