"""References to classes and functions of modules that are imported only when they are needed."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from qi_ext.utils.upstream import how_to_install


def load(reference: Any) -> Any:
    """Import and return the object that "module:name" names; return anything but text as it is.

    Raises ModuleNotFoundError, saying what to do where loco-mujoco, mushroom-rl or dm-control is missing.
    """
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        advice = how_to_install(error)
        if not advice:
            raise
        raise ModuleNotFoundError(advice, name=error.name) from None


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports a name of `modules`, {name: module in it}, when it is first used."""

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load(f"{package}.{modules[name]}:{name}")

    return get
