"""Patches of experiment-launcher 3.3."""

from importlib import import_module

from patches.library import Library

LIBRARY = Library("experiment_launcher", "experiment-launcher", versions=("3.3",), imports=("torch", "wandb"))

# In the order of installation: the import has to succeed first, and what a patch adds to a command line is quoted after it.
for _module in ("importing", "repository", "failures", "reading", "arguments", "scripts"):
    import_module(f"{__name__}.{_module}")
