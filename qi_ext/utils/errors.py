"""Errors that end a program: mistakes of the user, faults of sampling, and a request to stop."""

__all__ = ["SamplingError", "Terminated", "UserError"]


class UserError(Exception):
    """Bad input. The message is one line that says what, where and what to do; launchers print it and exit with code 2."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of faults catches it."""


class SamplingError(RuntimeError):
    """Experience could not be gathered: an environment raised, or its worker kept dying. The message names the envs."""
