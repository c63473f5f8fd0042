"""`Patch`, one fault of a library and its remedy; `Library`; and `Edits`, changes that can be taken back."""

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

    name: unique within the library. target: the object that is changed, "module:object". versions: versions of the library
    that it is known to be right for. sees: the fault, as a user sees it without the patch. remedy: what the patch does.
    install: called with `Edits`, makes the changes. probe: called in a process of its own, without and with the patch; returns
    the fault that it saw, "" for none, and raises only where something else is wrong. upstream: address of the library's own
    issue. changes_results: how training results change, "" where they do not. default: True where `apply` applies it unasked.
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
    def full_name(self) -> str:
        return f"{self.library}/{self.name}"


@dataclass
class Library:
    """A library and its patches, in the order in which they are installed.

    name: as it is imported. distribution: as it is installed. versions: versions that the patches were written for.
    found: returns the installed version, None where there is none. imports: names of modules that it imports and that take
    seconds, which `probing` imports beforehand; none of the patched libraries, which a probe imports after patching.
    """

    name: str
    distribution: str
    versions: tuple
    found: Callable = None
    imports: tuple = ()
    patches: list = field(default_factory=list)

    def __post_init__(self):
        self.found = self.found or self._found_by_metadata

    def patch(self, name, **fields):
        """Decorate `install` of a new patch. fields: those of `Patch` but library, versions and install."""

        def register(install):
            self.patches.append(Patch(self.name, name, versions=self.versions, install=install, **fields))
            return install

        return register

    def _found_by_metadata(self):
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


class Edits:
    """Changes to modules and classes, which `undo` takes back."""

    def __init__(self):
        self._undo = []

    def replace(self, owner, name, value):
        """Set an attribute of a class or module."""
        before = vars(owner).get(name, _MISSING)  # as it is stored, so that a staticmethod stays one
        setattr(owner, name, value)
        self._undo.append((owner, name, before))

    def wrap(self, owner, name):
        """Decorate function(original, *arguments), which replaces a function of a module or a method, own or inherited.

        It gets the original's name and documentation. A staticmethod or classmethod stays one: original is then the function in
        it, which takes cls in a classmethod.
        """

        def decorate(function):
            stored = inspect.getattr_static(owner, name)
            kind = type(stored) if isinstance(stored, (staticmethod, classmethod)) else None
            value = _around(stored.__func__ if kind else getattr(owner, name), function)
            self.replace(owner, name, kind(value) if kind else value)
            return function

        return decorate

    def replace_everywhere(self, module, name, value):
        """Replace a function or class of a module, there and in every module that has imported it by name.

        value: a new object, which no module has yet: undo puts the original wherever it finds it.
        """
        original = getattr(module, name)
        _exchange(original, value)
        self._undo.append((None, original, value))

    def wrap_everywhere(self, module, name):
        """Decorate as `wrap` does, for a function of a module and wherever it was imported by name."""

        def decorate(function):
            self.replace_everywhere(module, name, _around(getattr(module, name), function))
            return function

        return decorate

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


def _around(original, function):
    @wraps(original)
    def wrapper(*arguments, **keywords):
        return function(original, *arguments, **keywords)

    return wrapper


def _exchange(old, new):
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is old and not name.startswith("__"):
                setattr(module, name, new)


class Seen:
    """Stand-in for a module in the namespace of a library: some attributes exchanged, all others the module's."""

    def __init__(self, module, **exchanged):
        self._module = module
        vars(self).update(exchanged)

    def __getattr__(self, name):
        return getattr(self._module, name)


def crash(function, *arguments, **keywords):
    """Call a function; return the exception that it raises as one line of at most 200 characters, "" for none."""
    try:
        function(*arguments, **keywords)
    except Exception as error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # torch colours some of its messages
        return f"{type(error).__name__}: {' '.join(plain.split())}"[:200]
    return ""
