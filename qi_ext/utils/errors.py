"""Errors that end a program: mistakes of the user, faults of sampling, and a request to stop."""

import difflib
from collections.abc import Collection

__all__ = ["SamplingError", "Terminated", "UserError"]


class UserError(Exception):
    """Bad input. The message is one line that says what, where and what to do; launchers print it and exit with code 2."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of faults catches it."""


class SamplingError(RuntimeError):
    """Experience could not be gathered: an environment raised, or its worker kept dying. The message names the envs."""


def unknown_name(what: str, name: str, known: Collection[str]) -> str:
    """Return a message about a name that is none of `known`, with the nearest of them; what: such as "unknown keyword"."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"{what} {name!r}; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
