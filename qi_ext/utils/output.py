"""Standard output and standard error that may go away: what is then written to them is dropped, and nothing else changes."""

import os
import sys
import unicodedata
from contextlib import contextmanager


class LastingStream:
    """A text stream to another one, until that is lost (closed, its reader or terminal gone, its disk full).

    Characters that the other stream's encoding lacks are written as escapes.
    """

    def __init__(self, stream):
        """stream: None, as Python has it for a descriptor that was closed at the start, is one that is lost."""
        self._stream = _null() if stream is None else stream

    def write(self, text):
        encoding = getattr(self._stream, "encoding", None)
        if encoding:
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        self._attempt("write", text)
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        self._attempt("flush")

    def isatty(self):
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def _attempt(self, method, *arguments):
        try:
            getattr(self._stream, method)(*arguments)
        except BlockingIOError:
            pass  # a reader that is slow, and has not gone
        except (OSError, ValueError):  # ValueError: a closed file
            lost, self._stream = self._stream, _null()
            for number, standard in ((1, sys.__stdout__), (2, sys.__stderr__)):
                if lost is standard:
                    # What it still holds would fail again when Python ends, and make the exit code 120.
                    os.dup2(self._stream.fileno(), number)


@contextmanager
def lasting_output():
    """Let standard output and standard error go away in the block, whatever the reason."""
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = lasting = tuple(map(as_lasting, before))
    try:
        yield
    finally:
        for stream in lasting:
            stream.flush()
        sys.stdout, sys.stderr = before


def as_lasting(stream):
    """Return `stream` as a `LastingStream`."""
    return stream if isinstance(stream, LastingStream) else LastingStream(stream)


def printable(text):
    """Return text with escapes in place of control characters, line breaks among them, so that it is one line."""
    return "".join(map(_escaped, text))


def _escaped(character):
    control = unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if control else character


def _null():
    return open(os.devnull, "w")  # noqa: SIM115 (it stays open)


def _fill_descriptors():
    """Open the null device as each standard descriptor that is closed, or the next file would get what is written there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
