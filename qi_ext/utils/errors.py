"""What ends a program before its time: the user's mistakes, and a request to stop."""


class UserError(Exception):
    """Bad input. The message is one line that says what, where and what to do; launchers print it and exit with code 2."""


class Terminated(BaseException):
    """SIGTERM arrived; not an Exception, so that nothing takes it for a fault on its way up."""


class SamplingError(RuntimeError):
    """Experience could not be gathered: an environment raised, or its worker kept dying. The message names the lanes."""
