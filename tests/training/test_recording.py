"""What a run asks of a recording, beside what loading it does."""

from dataclasses import replace

import pytest

from qi_ext.training.config import make_config
from qi_ext.training.recording import examined
from qi_ext.utils.errors import UserError


@pytest.mark.parametrize(
    ("learned_from", "settings"),
    [
        (True, {"warm_start": 1}),
        (True, {"discriminator_input": "action"}),
        (False, {"warm_start": 0}),
        (False, {"warm_start": 1, "warm_start_actions": "inferred"}),
    ],
    ids=str,
)
def test_recorded_actions_must_explain_the_motion_where_they_are_learned_from(simple, walking, learned_from, settings):
    right = walking((0.0,) * 2, rows=60)
    reversed_sign = replace(right, actions=-right.actions)
    config = make_config(demonstrations="mine.npz", **settings)
    assert examined(config, right, simple.model)
    if learned_from:
        with pytest.raises(UserError, match="^demonstrations: mine.npz: .*are they of the opposite sign"):
            examined(config, reversed_sign, simple.model)
    else:
        assert examined(config, reversed_sign, simple.model)
