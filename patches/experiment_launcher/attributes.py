"""Attributes of one object that are others for a while."""

from contextlib import contextmanager


@contextmanager
def attributes(instance, **exchanged):
    """Within it, these attributes of this one object are others."""
    before = {name: vars(instance)[name] for name in exchanged if name in vars(instance)}
    vars(instance).update(exchanged)
    try:
        yield
    finally:
        for name in exchanged:
            del vars(instance)[name]
        vars(instance).update(before)
