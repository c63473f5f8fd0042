"""The patches that there are, and those that are applied in this process."""

import difflib
import importlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from patches.library import Edits, Library, Patch

__all__ = ["State", "applied", "apply", "libraries", "revert", "set_applied"]

MODULES = ("mushroom_rl", "imitation_lib", "loco_mujoco", "experiment_launcher")  # in the order of installation

_installed: dict[str, Edits] = {}  # by full name, in the order of installation


@dataclass(frozen=True)
class State:
    """A patch in this process. state: applied, off, off unless asked, library not installed, or unknown version."""

    patch: Patch
    version: str | None
    state: str

    def __repr__(self) -> str:
        return f"{self.patch.full_name}: {self.state}"


def libraries() -> dict[str, Library]:
    """All `Library` objects, {name: Library}. Imports none of the libraries."""
    return {name: importlib.import_module(f"patches.{name}").LIBRARY for name in MODULES}


def states(*names: str) -> list[State]:
    """The `State` of every patch of these libraries, of all where none is named."""
    result = []
    for library in _chosen(names):
        version = library.found()
        for patch in library.patches:
            if patch.full_name in _installed:
                state = "applied"
            elif version is None:
                state = "library not installed"
            elif version not in patch.versions:
                state = "unknown version"
            else:
                state = "off" if patch.default else "off unless asked"
            result.append(State(patch, version, state))
    return result


def apply(*names: str, only: str | Iterable[str] | None = None, exclude: str | Iterable[str] = ()) -> list[State]:
    """Apply the patches of these libraries, of all that are installed where none is named; returns the `State` of each.

    only: names of patches ("cg-aliasing" or "mushroom_rl/cg-aliasing") to apply in place of all that are on by default; patches
    that are off by default are applied only by name. exclude: names of patches to leave out. Patches that are applied already
    stay applied; applying one again does nothing. A library of another version than the patches are for is left alone, with a
    warning. Raises ValueError for unknown names.
    """
    found = states(*names)
    wanted, unwanted = (_named(found, given) for given in (only or (), exclude))
    chosen = [state for state in found if (state.patch.default if only is None else state.patch.full_name in wanted)]
    chosen = [state for state in chosen if state.patch.full_name not in unwanted]
    unknown = {state.patch.library: state.version for state in chosen if state.state == "unknown version"}
    for library, version in unknown.items():
        expected = " or ".join(libraries()[library].versions)
        warnings.warn(f"patches: {library} {version} is left alone; its patches are for {expected}", stacklevel=2)
    asked = {library.name for library in _chosen(names) if names} | {name.split("/")[0] for name in wanted}
    missing = {state.patch.library for state in found if state.version is None and state.patch.library in asked}
    for library in sorted(missing):
        warnings.warn(f"patches: {library} is not installed", stacklevel=2)
    fit = {state.patch.full_name for state in chosen if state.state in ("off", "off unless asked")}
    set_applied(fit | set(_installed))
    return states(*names)


def revert(*names: str) -> None:
    """Take back the patches of these libraries, of all where none is named; the libraries are then as they were."""
    gone = {library.name for library in _chosen(names)}
    set_applied({name for name in _installed if name.split("/")[0] not in gone})


def applied() -> tuple[str, ...]:
    """Full names of the patches that are applied, sorted; `set_applied` applies the same in another process."""
    return tuple(sorted(_installed))


def set_applied(full_names: Iterable[str]) -> None:
    """Apply exactly these patches, in the registry's order, and take back all others.

    Raises ValueError for unknown names, and the error of a patch that cannot be installed; then nothing has changed.
    """
    full_names = set(full_names)
    if full_names == set(_installed):
        return
    known = {patch.full_name: patch for library in libraries().values() for patch in library.patches}
    if not full_names <= known.keys():
        raise ValueError(f"patches: unknown patch {min(full_names - known.keys())}; python -m patches lists them")
    before = list(_installed)
    try:
        _install([patch for name, patch in known.items() if name in full_names])
    except BaseException:
        _install([known[name] for name in before])
        raise


def _install(wanted: list[Patch]) -> None:
    """Install exactly these patches in this order. Those installed already stay as far as the order is the same."""
    names = [patch.full_name for patch in wanted]
    while list(_installed) != names[: len(_installed)]:
        _installed.popitem()[1].undo()
    for patch in wanted[len(_installed) :]:
        edits = Edits()
        try:
            patch.install(edits)
        except BaseException:
            edits.undo()
            raise
        _installed[patch.full_name] = edits


def _chosen(names: tuple[str, ...]) -> list[Library]:
    known = libraries()
    for name in names:
        if not isinstance(name, str) or name.replace("-", "_") not in known:
            raise ValueError(f"patches: unknown library {name!r}; name any of {', '.join(known)}, one by one")
    chosen = [name.replace("-", "_") for name in names]
    return [library for name, library in known.items() if not chosen or name in chosen]


def _named(found: list[State], given: str | Iterable[str]) -> set[str]:
    """Full names of the patches whose names are given, in full or in short."""
    if isinstance(given, str):
        given = [given]
    result = set()
    for name in given:
        matching = {state.patch.full_name for state in found if name in (state.patch.name, state.patch.full_name)}
        if not matching:
            alike = difflib.get_close_matches(name, [part for s in found for part in (s.patch.name, s.patch.full_name)])
            hint = f"did you mean {', '.join(alike)}? " if alike else ""
            raise ValueError(f"patches: unknown patch {name!r}; {hint}python -m patches lists them")
        result |= matching
    return result
