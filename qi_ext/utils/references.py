"""References to classes and functions of modules that are imported only when they are needed."""

import importlib


def load(reference):
    """What "module:name" names; anything but text is what it refers to itself."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
