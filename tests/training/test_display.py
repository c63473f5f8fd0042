from qi_ext.training.display import Display


def test_without_a_terminal_the_end_is_a_plain_line(capsys):
    with Display("training", 2000) as display:
        display.update(1000, "return 1.5")
        display.update(2000, "return 2.5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("training: 2,000/2,000 steps  return 2.5  0:00:00 left")


def test_advance_counts_one_by_one(capsys):
    with Display("evaluating", 2, "episodes") as display:
        display.advance()
        display.advance()
    assert "evaluating: 2/2 episodes" in capsys.readouterr().out


def test_a_long_line_is_not_folded(capsys):
    Display("", 1).say("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_what_looks_like_markup_is_said_as_it_is(capsys):
    Display("", 1).say("/runs/[bold]/[0]")
    assert capsys.readouterr().out == "/runs/[bold]/[0]\n"
