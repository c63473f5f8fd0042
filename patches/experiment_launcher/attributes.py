"""Attributes of one object, exchanged for a while."""

from contextlib import contextmanager


@contextmanager
def attributes(instance, **exchanged):
    """Context in which these attributes of this one object have other values."""
    before = {name: vars(instance)[name] for name in exchanged if name in vars(instance)}
    vars(instance).update(exchanged)
    try:
        yield
    finally:
        for name in exchanged:
            del vars(instance)[name]
        vars(instance).update(before)
