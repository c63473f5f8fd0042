"""A context in which no Standardizer changes its statistics."""

import contextlib


class _Frozen:
    """Whether statistics stand still just now."""

    depth = 0


@contextlib.contextmanager
def frozen():
    """While it lasts, no Standardizer changes its statistics; needs the patch frozen-statistics."""
    _Frozen.depth += 1
    try:
        yield
    finally:
        _Frozen.depth -= 1


def standing_still():
    """Whether such a context is open."""
    return _Frozen.depth > 0
