import re
from types import SimpleNamespace

from qi_ext.utils.display import Display


def test_without_a_terminal_the_end_is_a_plain_line(capsys):
    with Display("training", 2000) as display:
        display.update(1000, "return 1.5")
        display.update(2000, "return 2.5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("training: 2,000/2,000 steps  return 2.5  0:00:00 left")


def test_advance_adds_one_or_as_many_as_are_given(capsys):
    with Display("evaluating", 5, "episodes") as display:
        display.advance()
        display.advance(3)
        assert capsys.readouterr().out == ""
        display.advance()
    assert "evaluating: 5/5 episodes" in capsys.readouterr().out


def test_setting_up_is_no_part_of_the_time_left(capsys, monkeypatch):
    times = iter([0.0, 60.0, 70.0])
    monkeypatch.setattr("qi_ext.utils.display.time", SimpleNamespace(monotonic=lambda: next(times)))
    with Display("drawing", 24) as display:
        display.update(4)
        display.update(14)
    assert capsys.readouterr().out.splitlines() == ["drawing: 4/24 steps", "drawing: 14/24 steps  0:00:10 left"]


def test_a_long_line_is_not_folded(capsys):
    Display("", 1).say("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_what_looks_like_markup_is_said_as_it_is(capsys):
    Display("", 1).say("/runs/[bold]/[0]")
    assert capsys.readouterr().out == "/runs/[bold]/[0]\n"


def test_a_narrow_terminal_shows_the_figures_and_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    text = "1780 steps/s  return 145.8  length 1000  D 1.00/0.99"
    with Display("training", 3_000_000) as display:
        display.update(1_000_000, text)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert re.search(rf"training +33% {re.escape(text)} \S+ left", shown)


def test_details_are_a_line_of_their_own(capsys):
    with Display("training", 2000) as display:
        display.update(2000, "return 2.5", "kl 0.01")
    assert capsys.readouterr().out.splitlines()[1] == "  kl 0.01"


def test_a_terminal_shows_the_details_under_the_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Display("training", 2000) as display:
        display.update(1000, "return 1.5", "kl 0.01")
    *_, before, last = (line for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines() if line)
    assert "return 1.5" in before
    assert last.strip() == "kl 0.01"
