"""Files that are whole or not there: written beside their place, flushed, then renamed."""

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from qi_ext.utils.errors import UserError, is_users
from qi_ext.utils.limits import MOST_CHARACTERS

# What Linux allows, in bytes; of the length of a path, 255 are left for the files below it.
NAME_BYTES, PATH_BYTES = 255, MOST_CHARACTERS - 255


def require_name(path, option):
    """Raise UserError, naming `option`, for a path that nothing can have, or that leads through a link to nothing.

    A path must be UTF-8, because it is written into files that are.
    """
    path = Path(path)
    try:
        str(path).encode()
        length = len(os.fsencode(path))
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    except UnicodeEncodeError:
        raise UserError(f"{option}: {path} has characters that names of files cannot have here; choose another") from None
    if "\0" in str(path):
        raise UserError(f"{option}: {path} has a zero byte, which names of files cannot have; choose another")
    if longest > NAME_BYTES or length > PATH_BYTES:
        whole = f"is {length} bytes long, and may be {PATH_BYTES}"
        text = f"has a name of {longest} bytes, and may have {NAME_BYTES}" if longest > NAME_BYTES else whole
        raise UserError(f"{option}: {_shortened(path)} {text} (File name too long); choose a shorter one")
    for each in (path, *path.parents):
        if os.path.islink(each) and not os.path.exists(each):
            raise UserError(f"{option}: {each} is a link to {os.readlink(each)}, which is not there; choose another")


def require_writable(directory, option):
    """Raise UserError, naming `option`, unless files can be made in `directory`; leaves nothing there.

    Raises OSError where the machine is at fault, as by a full disk.
    """
    try:
        # Permission bits do not tell (root, read-only mounts), so a file is made; it is gone when closed.
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        text = f"{option}: {directory} cannot be written to ({error.strerror})"
        if is_users(error) or error.errno == errno.EROFS:
            raise UserError(f"{text}; choose another") from None
        raise OSError(text) from None


def require_output(path, option):
    """Raise UserError, naming `option`, unless a file can be written at `path`; leaves nothing there."""
    require_name(path, option)
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{option}: {path} is a directory; name a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{option}: {path} is not a regular file; name another")
    require_writable(path.parent, option)


@contextmanager
def locked(path, message):
    """Keep other processes from an existing file or directory for the block. Raises UserError(message) where one has it."""
    try:
        import fcntl  # here, because Windows has none, and files are read and written there
    except ImportError:
        raise UserError("training and sweeps need Linux or macOS; on Windows agents act and are evaluated") from None
    try:
        descriptor = os.open(path, os.O_RDWR)  # which NFS asks for
    except OSError:  # a directory, or somebody else's
        descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(message) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


@contextmanager
def write_atomically(path):
    """Open a binary file that appears at `path` when the block ends without an error, and not at all otherwise.

    Raises UserError where `path` cannot be written, OSError, naming it, where the machine is at fault, as by a full disk.
    """
    path = Path(path)
    try:
        # A name as long as can be leaves room for nothing else.
        name = os.fsdecode(os.fsencode(path.name)[: NAME_BYTES - 16])
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        # An OSError that names another file is not about this one.
        if isinstance(error, OSError) and error.filename in (None, temporary):
            raise _cannot_write(path, error) from None
        raise


def write_whole(path, content):
    """Write content, bytes or text, to `path`, whole or not at all; raises as `write_atomically` does."""
    with write_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _shortened(path):
    text = str(path)
    return text if len(text) <= 80 else f"{text[:40]}...{text[-20:]}"


def _cannot_write(path, error):
    text = f"cannot write {path}: {error.strerror or error}"
    return UserError(text) if is_users(error) else OSError(text)
