"""Warnings from constructed figures."""

import pytest

from qi_ext.training.health import ADVICE, IN_A_ROW, Health

HEALTHY = {
    "length_mean": 50.0,
    "speed_along": 0.3,
    "std": 0.6,
    "line_search_step": 1.0,
    "discriminator_entropy": 0.5,
}
# What goes wrong: (figures of it, what is said).
BAD = {
    "saturated": ({"discriminator_entropy": 0.01}, "certain of everything"),
    "stands": ({"length_mean": 1000.0, "speed_along": 0.01}, "hardly moves (0.01 m/s"),
    "stands, and no episode ended": ({"length_mean": None, "speed_along": -0.1}, "hardly moves (-0.10 m/s"),
    "collapsed": ({"length_mean": 20.0}, "much shorter than they were (20 steps, at best 400)"),
    "rigid": ({"std": 0.01}, "stopped exploring (standard deviation 0.010"),
    "line search": ({"line_search_step": 0.0}, "line search"),
}


@pytest.fixture
def health():
    return Health(speed=0.5, min_std=0.01)


def said(health, figures, updates):
    """What is said in so many updates of the same figures, in order; None where nothing is."""
    return [(health.look(HEALTHY | figures) or [None])[0] for _ in range(updates)]


def test_a_healthy_run_hears_nothing(health):
    for length in range(20, 1001, 20):
        assert health.look(HEALTHY | {"length_mean": float(length)}) == []


def test_every_warning_has_its_example():
    assert {name.split(",")[0] for name in BAD} == ADVICE.keys()


@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_is_said_once_it_has_lasted(health, name):
    figures, text = BAD[name]
    if name == "collapsed":
        said(health, {"length_mean": 400.0}, 20)
    heard = said(health, figures, 50)
    assert heard[: IN_A_ROW - 1] == [None] * (IN_A_ROW - 1)
    assert text in heard[IN_A_ROW - 1]
    assert "\n" not in heard[IN_A_ROW - 1]
    assert heard[IN_A_ROW:] == [None] * (50 - IN_A_ROW)


@pytest.mark.parametrize("name", BAD)
def test_what_comes_back_after_it_was_well_is_said_again(health, name):
    figures, _ = BAD[name]
    well = {"length_mean": 400.0}
    for _ in range(3):
        assert not any(said(health, well, 20))
        assert sum(text is not None for text in said(health, figures, 20)) == 1


@pytest.mark.parametrize("name", BAD)
def test_what_comes_and_goes_is_not_said_again_each_time(health, name):
    figures, _ = BAD[name]
    said(health, {"length_mean": 400.0}, 20)
    said(health, figures, IN_A_ROW)
    for _ in range(20):
        assert not any(said(health, {"length_mean": 400.0}, 1) + said(health, figures, 1))


def test_single_bad_updates_mean_little(health):
    for _ in range(20):
        assert not any(said(health, {"line_search_step": 0.0}, 1) + said(health, {}, 1))


def test_several_things_may_go_wrong_at_once(health):
    figures = HEALTHY | BAD["saturated"][0] | BAD["rigid"][0] | BAD["stands"][0]
    for _ in range(IN_A_ROW - 1):
        assert health.look(figures) == []
    assert len(health.look(figures)) == 3


def test_falling_at_once_is_no_collapse_where_nothing_better_was(health):
    assert not any(said(health, {"length_mean": 80.0}, 20) + said(health, {"length_mean": 5.0}, 20))


def test_a_robot_that_falls_slowly_does_not_stand(health):
    assert not any(said(health, {"length_mean": 100.0, "speed_along": 0.0}, 20))


def test_an_agent_without_a_discriminator_is_looked_at_as_well(health):
    figures = {name: value for name, value in HEALTHY.items() if name != "discriminator_entropy"}
    assert health.look(figures) == []
