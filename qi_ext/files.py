"""Files that are whole or not there: written beside their place, flushed, then renamed."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from qi_ext.errors import UserError


@contextmanager
def write_atomically(path):
    """A binary file to write; it appears at `path` when the block ends well, and leaves nothing otherwise.

    Raises UserError where `path` cannot be written.
    """
    path = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
