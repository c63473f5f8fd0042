"""Streams that go away, and what they cannot show."""

import io
import os
import sys

import pytest

from qi_ext.utils.display import say
from qi_ext.utils.output import LastingStream, lasting_output, printable


def pipe_without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def terminal_that_is_gone():
    terminal, its_end = os.openpty()
    os.close(terminal)
    return open(its_end, "w")


def closed_file():
    with open(os.devnull, "w") as file:
        return file


def full_disk():
    return open("/dev/full", "w")


LOST = pytest.mark.parametrize(
    "make",
    [pipe_without_reader, terminal_that_is_gone, closed_file, full_disk, lambda: None],
    ids=["pipe", "terminal", "closed file", "full disk", "closed descriptor"],
)


@LOST
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what a lost stream still holds in the end
def test_what_is_written_to_a_stream_that_is_lost_is_dropped(make, monkeypatch):
    monkeypatch.setattr(sys, "stdout", make())
    with lasting_output():
        for _ in range(2):
            print("one")
            say("two")
            sys.stdout.flush()
        assert not sys.stdout.isatty()


def test_what_a_latin_1_terminal_cannot_show_is_escaped(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", LastingStream(io.TextIOWrapper(shown, encoding="latin-1")))
    say("\u65e5 \udcff \xfc")
    assert shown.getvalue() == b"\\u65e5 \\udcff \xfc\n"


def test_control_characters_are_escaped():
    assert printable("a\nb\x1b[31m\u2028\u202e \xfc") == "a\\nb\\x1b[31m\\u2028\\u202e \xfc"
