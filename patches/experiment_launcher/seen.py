"""What the library sees in the place of something of others, which stays as it is for all others."""

from contextlib import contextmanager


class Seen:
    """A module as the library is to see it: with some of its attributes exchanged."""

    def __init__(self, module, **exchanged):
        self._module = module
        vars(self).update(exchanged)

    def __getattr__(self, name):
        return getattr(self._module, name)


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
