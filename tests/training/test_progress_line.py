from qi_ext.training.progress_line import ProgressLine


def figures(**known):
    return {"episodes": 0, "return_mean": None, "length_mean": None, "steps_per_second": 2000.4, "speed_along": 0.456} | known


def test_the_last_return_that_there_was_is_shown():
    shown = ProgressLine()
    assert shown.lines(figures())[0] == "2000 steps/s  no episode ended  0.46 m/s"
    expected = "2000 steps/s  return 880.1  length 1000  0.46 m/s"
    assert shown.lines(figures(episodes=16, return_mean=880.12, length_mean=999.9))[0] == expected
    assert shown.lines(figures())[0] == expected


def test_a_figure_that_there_is_none_of_is_a_dash():
    assert " kl 0.0100 step - " in ProgressLine().lines(figures(kl=0.01, line_search_step=None))[1]
