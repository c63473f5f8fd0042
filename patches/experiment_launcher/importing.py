"""Patch of importing the library where Python has no `distutils`."""

import importlib
import subprocess
import sys
from contextlib import contextmanager
from types import ModuleType

import patches
from patches.experiment_launcher import LIBRARY

_EXPORTED = {
    "launcher": ("Launcher", "run_experiment"),
    "decorators": ("single_experiment", "single_experiment_yaml", "single_experiment_flat"),
    "utils": ("is_local",),
}
_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")

_WITHOUT_DISTUTILS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "distutils":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import patches
patches.set_applied(sys.argv[1:])
from experiment_launcher import Launcher, run_experiment, single_experiment
"""


def _strtobool(text):
    """Return 1 or 0, as `distutils.util.strtobool` does; raises ValueError for any other text."""
    if text.lower() in _TRUE:
        return 1
    if text.lower() in _FALSE:
        return 0
    raise ValueError(f"{text!r} is not a truth value; there are {', '.join(_TRUE + _FALSE)}")


@contextmanager
def _distutils_supplied():
    util = ModuleType("distutils.util")
    util.strtobool = _strtobool
    package = ModuleType("distutils")
    package.util = util
    supplied = {"distutils": package, "distutils.util": util}
    before = {name: sys.modules.get(name) for name in supplied}
    sys.modules.update(supplied)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _probe():
    command = [sys.executable, "-c", _WITHOUT_DISTUTILS, *patches.applied()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@LIBRARY.patch(
    "distutils",
    target="experiment_launcher:Launcher",
    sees="Python 3.12 or later without setuptools: ImportError: cannot import name 'Launcher' from 'experiment_launcher'",
    remedy="the one function it wants of distutils is there while it is imported; other import errors are shown as they are",
    probe=_probe,
)
def _distutils(edits):
    package = importlib.import_module("experiment_launcher")
    try:
        importlib.import_module("experiment_launcher.launcher")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "distutils":
            raise
        with _distutils_supplied():
            importlib.import_module("experiment_launcher.launcher")
    for module, names in _EXPORTED.items():
        for name in names:
            # The package has none of its names where one of its imports has failed.
            if not hasattr(package, name):
                edits.replace(package, name, getattr(importlib.import_module(f"experiment_launcher.{module}"), name))
