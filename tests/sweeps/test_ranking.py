"""Configurations are ranked by the mean over their seeds."""

from pathlib import Path

import pytest

from qi_ext.sweeps.description import Trial
from qi_ext.sweeps.ranking import by_task, interval, marginals, rank
from qi_ext.sweeps.status import Status
from qi_ext.utils.errors import UserError


def status(varied, seed, mean=None):
    """`Status` of a trial that is done with a return of `mean`, or has failed."""
    trial = Trial(0, {}, varied, seed, Path("x"))
    if mean is None:
        return Status(trial, "failed")
    return Status(trial, "done", result={"evaluation": {"deterministic": {"return_mean": mean}}})


def found(**returns):
    """List of `Status` of {configuration: returns by seed}."""
    return [status({"gamma": name}, seed, mean) for name, means in returns.items() for seed, mean in enumerate(means)]


def test_the_highest_mean_is_first_not_the_luckiest_seed():
    ranked = rank(found(lucky=[950.0, 300.0, 400.0], steady=[800.0, 790.0, 810.0]))
    assert [each.name for each in ranked] == ["gamma steady", "gamma lucky"]
    assert ranked[0].mean == pytest.approx(800.0)
    assert ranked[0].best_seed == 2


def test_configurations_that_lack_seeds_come_after_those_that_have_all():
    ranked = rank(found(one=[990.0, None, None], none=[None] * 3, two=[None, 800.0, 700.0], all=[500.0] * 3))
    assert [each.name for each in ranked] == ["gamma all", "gamma two", "gamma one", "gamma none"]
    assert [each.is_complete for each in ranked] == [True, False, False, False]


def test_the_interval_is_students():
    """For three values: mean -+ 4.302653 s / sqrt(3), the 97.5 % point of Student's t with two degrees of freedom."""
    low, high = interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2.0 - 4.302653 / 3**0.5, 2.0 + 4.302653 / 3**0.5), abs=1e-5)
    assert interval([5.0]) is None
    assert interval([5.0, 5.0]) == (5.0, 5.0)


def test_tasks_are_not_ranked_beside_each_other():
    of_simple, of_hard, failed = (
        status({"task": task}, 0, mean) for task, mean in (("simple", 9.0), ("hard", 8.0), ("hard", None))
    )
    assert by_task([of_simple, of_hard, failed]) == {"simple": [of_simple], "hard": [of_hard, failed]}
    assert by_task([of_simple, failed]) == {"simple": [of_simple]}
    with pytest.raises(UserError, match="no trial is done and evaluated"):
        by_task([failed])


def test_marginals_are_over_all_other_settings():
    values = [({"gamma": gamma, "max_kl": kl}, 1000 * gamma + 100 * kl) for gamma in (0.8, 0.9) for kl in (0.01, 0.02)]
    by_name = marginals([status(varied, 0, mean) for varied, mean in values])
    assert by_name == {
        "gamma": {"0.8": [801.0, 802.0], "0.9": [901.0, 902.0]},
        "max_kl": {"0.01": [801.0, 901.0], "0.02": [802.0, 902.0]},
    }


def test_there_are_none_where_a_value_goes_with_some_values_of_the_others_only():
    """The effect of a setting cannot be told from that of the others."""
    assert marginals([status({}, 0, 1.0), status({"gamma": 0.9}, 0, 2.0), status({"max_kl": 0.01}, 0, 3.0)]) == {}
    # Of a single setting it can: a trial that does not set it has the default.
    assert marginals([status({}, 0, 1.0), status({"gamma": 0.9}, 0, 2.0)]) == {"gamma": {"0.97": [1.0], "0.9": [2.0]}}
    assert marginals([status({"gamma": 0.9}, 0, 1.0), status({"gamma": 0.9}, 1, 2.0)]) == {}, "it does not vary"
    # GAIL has no code.
    assert marginals([status({"algorithm": "gail"}, 0, 1.0), status({"algorithm": "vail", "code_size": 16}, 0, 2.0)]) == {}
