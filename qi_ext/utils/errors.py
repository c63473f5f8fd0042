"""Errors that end a program: mistakes of the user, faults of sampling, a request to stop; and what is the machine's fault."""

import errno
import re
import signal

from qi_ext.utils.output import printable

__all__ = ["SamplingError", "Terminated", "UserError"]

LESS_MEMORY = "a smaller --batch_size, --n_envs or --n_workers needs less"
LONGEST = 1000  # characters of a message, as names in files, and of files, can be of any length

# What a user can mend by naming another file; all else, such as a full disk, is the machine's.
_USERS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EBUSY),
)
# Of memory, or a thread, that is refused, by torch, MuJoCo, numpy, C++ and Python.
_MEMORY = re.compile("out of memory|allocate memory|bad_alloc|start new thread|not enough memory|map segment", re.IGNORECASE)


class UserError(Exception):
    """Bad input. The message is one line that says what, where and what to do; launchers print it and exit with code 2."""

    def __init__(self, message: str) -> None:
        """message: control characters in it, as names of files may have, are escaped; the middle of a long one is left out."""
        text = printable(str(message))
        super().__init__(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}")


class Terminated(BaseException):
    """The signal `number`, SIGTERM or SIGHUP, arrived. Not an Exception, so that no handler of faults catches it."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number


class SamplingError(RuntimeError):
    """Experience could not be gathered: an environment raised, or its worker kept dying. The message names the envs."""


def is_users(error: OSError) -> bool:
    """Return whether the user can mend the cause of an error by naming another file."""
    return error.errno in _USERS


def fault_of_the_machine(error: BaseException) -> str:
    """Say in one line what the machine did not do; "" where an error is none of its faults.

    Faults of the machine are what the system refuses (OSError) and memory, for which each library has an error of its own.
    """
    if isinstance(error, OSError):
        return printable(str(error).strip())
    text = printable((str(error).strip().splitlines() or [type(error).__name__])[0])
    if not isinstance(error, MemoryError) and not _MEMORY.search(text):
        return ""
    hint = "try --device cpu" if "CUDA" in text else LESS_MEMORY
    return f"not enough memory: {text}; {hint}"
