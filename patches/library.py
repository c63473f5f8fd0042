"""What a patch is, what it belongs to, and how it changes a library and leaves it again as it was."""

import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps

_MISSING = object()


@dataclass(frozen=True)
class Patch:
    """One fault of a library, and its remedy.

    name: unique within the library. target: what is changed, "module:object". versions: of the library, for which it is known
    to be right. sees: what is wrong, as a user sees it without the patch. remedy: what the patch does. upstream: the
    library's own issue, where there is one. changes_results: how training comes out otherwise, "" where it does not. default:
    whether `apply` does it unasked. install: called with `Edits`. probe: called in a process of its own, before and after;
    returns what it saw of the fault, "" where there is none; exceptions are for what it did not expect.
    """

    library: str
    name: str
    target: str
    versions: tuple
    sees: str
    remedy: str
    install: Callable
    probe: Callable
    upstream: str = ""
    changes_results: str = ""
    default: bool = True

    @property
    def full_name(self):
        return f"{self.library}/{self.name}"


@dataclass
class Library:
    """A library and its patches, in the order in which they are installed.

    name: as it is imported. distribution: as it is installed. versions: those that the patches were written against.
    found: returns the installed version, None where there is none. imports: what it imports that takes seconds, for `probing`;
    none of the libraries, which are imported after their patches are known.
    """

    name: str
    distribution: str
    versions: tuple
    found: Callable = None
    imports: tuple = ()
    patches: list = field(default_factory=list)

    def __post_init__(self):
        if self.found is None:
            self.found = self._found_by_metadata

    def patch(self, name, *, target, sees, remedy, probe, upstream="", changes_results="", default=True):
        """Decorates install(edits), the function that does it; see `Patch`."""

        def register(install):
            what = (target, self.versions, sees, remedy, install, probe, upstream, changes_results, default)
            self.patches.append(Patch(self.name, name, *what))
            return install

        return register

    def _found_by_metadata(self):
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


class Edits:
    """Changes to modules and classes, each remembered so that `undo` takes it back."""

    def __init__(self):
        self._undo = []

    def replace(self, owner, name, value):
        """Set an attribute of a class or module."""
        before = vars(owner).get(name, _MISSING)  # as it is stored, so that a staticmethod stays one
        setattr(owner, name, value)
        self._undo.append((owner, name, before))

    def wrap(self, owner, name, make):
        """Replace a function or a method, own or inherited, by make(what it was), which keeps its name and documentation.

        A staticmethod or classmethod stays one; make takes and returns the function in it, whose first argument may be cls.
        """
        stored = inspect.getattr_static(owner, name)
        kind = type(stored) if isinstance(stored, (staticmethod, classmethod)) else None
        original = stored.__func__ if kind else getattr(owner, name)
        value = wraps(original)(make(original))
        self.replace(owner, name, kind(value) if kind else value)

    def replace_everywhere(self, module, name, value):
        """Replace a function or class of a module, there and in every module that has imported it by name.

        value: made for this, and named by no other module, as undo puts the original wherever it then is.
        """
        original = getattr(module, name)
        _exchange(original, value)
        self._undo.append((None, original, value))

    def wrap_everywhere(self, module, name, make):
        """Replace a function in every module that has it by make(what it was), which keeps its name and documentation."""
        original = getattr(module, name)
        self.replace_everywhere(module, name, wraps(original)(make(original)))

    def undo(self):
        """Take back all changes, the last one first."""
        while self._undo:
            owner, name, before = self._undo.pop()
            if owner is None:
                _exchange(before, name)
            elif before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


def _exchange(old, new):
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is old and not name.startswith("__"):
                setattr(module, name, new)


class Seen:
    """A module as a library is to see it: with some of its attributes exchanged, and as it is for all others."""

    def __init__(self, module, **exchanged):
        self._module = module
        vars(self).update(exchanged)

    def __getattr__(self, name):
        return getattr(self._module, name)


def crash(function, *arguments, **keywords):
    """For probes: the exception that a call ends in, as text, "" where it ends well."""
    try:
        function(*arguments, **keywords)
    except Exception as error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # torch colours some of its messages
        return f"{type(error).__name__}: {' '.join(plain.split())}"[:200]
    return ""
