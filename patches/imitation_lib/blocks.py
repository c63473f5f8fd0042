"""Contexts in which something holds, such as that no Standardizer changes its statistics."""


class Block:
    """Context that can be nested; true while it is entered."""

    def __init__(self):
        self._depth = 0

    def __enter__(self):
        self._depth += 1

    def __exit__(self, *exception):
        self._depth -= 1

    def __bool__(self):
        return self._depth > 0


# While it is entered, no Standardizer changes its statistics, where the patch frozen-statistics is applied.
frozen = Block()
