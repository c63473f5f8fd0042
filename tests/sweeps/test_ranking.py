"""Configurations are ranked by the mean over their seeds."""

from pathlib import Path

import pytest

from qi_ext.errors import UserError
from qi_ext.sweeps.description import Trial
from qi_ext.sweeps.ranking import interval, marginals, rank
from qi_ext.sweeps.status import Status


def status(varied, seed, mean=None):
    """Of a trial that is done with a return of `mean`, or has failed."""
    trial = Trial(0, {}, varied, seed, Path("x"))
    if mean is None:
        return Status(trial, "failed")
    return Status(trial, "done", result={"evaluation": {"deterministic": {"return_mean": mean}}})


def found(**returns):
    """Of {configuration: returns by seed}."""
    return [status({"gamma": name}, seed, mean) for name, means in returns.items() for seed, mean in enumerate(means)]


def test_the_highest_mean_is_first_not_the_luckiest_seed():
    ranked = rank(found(lucky=[950.0, 300.0, 400.0], steady=[800.0, 790.0, 810.0]))
    assert [each.name for each in ranked] == ["gamma steady", "gamma lucky"]
    assert ranked[0].mean == pytest.approx(800.0)
    assert ranked[0].best_seed == 2


def test_what_lacks_seeds_comes_after_what_has_all():
    ranked = rank(found(some=[990.0, None, None], none=[None] * 3, all=[500.0] * 3))
    assert [each.name for each in ranked] == ["gamma all", "gamma some", "gamma none"]
    assert [each.is_complete for each in ranked] == [True, False, False]


def test_the_interval_is_students():
    """For three values: mean -+ 4.302653 s / sqrt(3), the 97.5 % point of Student's t with two degrees of freedom."""
    low, high = interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2.0 - 4.302653 / 3**0.5, 2.0 + 4.302653 / 3**0.5), abs=1e-5)
    assert interval([5.0]) is None


def test_nothing_evaluated_is_told():
    with pytest.raises(UserError, match="no trial is done and evaluated"):
        rank(found(a=[None]))


def test_marginals_are_over_all_other_settings():
    values = [({"gamma": g, "max_kl": k}, 100.0 * g + k) for g in (1, 2) for k in (3, 4)]
    by_name = marginals([status(varied, 0, mean) for varied, mean in values])
    assert by_name == {
        "gamma": {"1": [103.0, 104.0], "2": [203.0, 204.0]},
        "max_kl": {"3": [103.0, 203.0], "4": [104.0, 204.0]},
    }


def test_marginals_leave_out_what_does_not_vary():
    assert marginals([status({"gamma": 1}, 0, 1.0), status({"gamma": 1}, 1, 2.0)]) == {}
