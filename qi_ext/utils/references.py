"""References to classes and functions of modules that are imported only when they are needed."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def load(reference: Any) -> Any:
    """Import and return the object that "module:name" names; return anything but text as it is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports a name of `modules`, {name: module in it}, when it is first used."""

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load(f"{package}.{modules[name]}:{name}")

    return get
