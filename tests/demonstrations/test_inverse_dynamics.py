from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations.inverse_dynamics import with_inferred_actions
from qi_ext.robot import a1

ROWS = 40


@pytest.fixture(scope="session")
def walks(demonstrations):
    """The first 40 rows of a segment of each kind, walked in simulation."""
    keep = [demonstrations.kind.index(kind) for kind in ("nominal", "start", "push", "noise")]
    chosen = demonstrations.select(keep)
    rows = np.concatenate([np.arange(begin, begin + ROWS) for begin in chosen.bounds[:-1]])
    return replace(
        chosen,
        states=chosen.states[rows],
        bounds=np.arange(len(keep) + 1) * ROWS,
        actions=chosen.actions[rows],
        executed_actions=chosen.executed_actions[rows],
        external_force=chosen.external_force[rows],
    )


@pytest.fixture(scope="session")
def inferred(walks, shared_environment):
    return with_inferred_actions(walks, shared_environment.model)


def per_segment(array, rows):
    """(S rows, k) as (S, rows, k)."""
    return array.reshape(-1, rows, array.shape[1])


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def figures(demonstrations):
    """Error and change of the joint velocities, rad/s, and share of torques at the limit, as the last note tells them."""
    words = demonstrations.notes[-1].replace("%", "").split()
    return float(words[words.index("by") + 1]), float(words[words.index("of") + 1]), float(words[words.index("change;") + 1])


def test_what_was_executed_is_found_again_noise_and_pushes_included(walks, inferred):
    executed = per_segment(walks.executed_actions, ROWS)[:, :-1]
    error = per_segment(inferred.actions, ROWS - 1) - executed
    assert rms(executed) > 0.2
    # Of a segment's first actions nothing is known of the torques that only press the feet against each other.
    assert rms(error[:, 3:]) < 0.05
    assert np.median(np.abs(error)) < 0.01


def test_a_step_of_the_environment_with_them_leads_to_the_next_state(walks, inferred, environment):
    states = per_segment(walks.states, ROWS)
    actions = per_segment(inferred.actions, ROWS - 1)
    errors = []
    for segment in (0, 1, 3):  # the push is not in the states
        for row in range(5, ROWS - 1):
            environment.reset(obs=states[segment, row])
            reached = environment.step(actions[segment, row])[0]
            errors.append(reached[a1.VELOCITY] - states[segment, row + 1, a1.VELOCITY])
    assert rms(errors) < 0.05
    assert rms(np.diff(states[:, :, a1.LEG_VELOCITY], axis=1)) > 1.0


def test_the_note_says_how_good_they_are(walks, inferred):
    error, change, clipped = figures(inferred)
    velocities = per_segment(walks.states, ROWS)[:, :, a1.LEG_VELOCITY]
    assert change == pytest.approx(rms(np.diff(velocities, axis=1)), abs=1e-3)
    assert 0.001 < error < 0.05
    assert clipped == 0.0


def test_torques_that_would_be_too_large_are_clipped_and_counted(walks, shared_environment):
    states = walks.select([0]).states[:4].copy()
    states[2:, a1.LEG_VELOCITY] += 100.0  # in a step: far beyond 34 Nm
    jerked = replace(walks.select([0]), states=states, bounds=np.array([0, 4]))
    result = with_inferred_actions(jerked, shared_environment.model)
    assert np.abs(result.actions).max() == 1.0
    assert figures(result)[2] == pytest.approx(100.0 * np.mean(np.abs(result.actions) >= 1.0), abs=0.005)
    assert figures(result)[0] > 10.0


def test_motion_that_no_torque_explains_gives_finite_actions_within_the_limits(gliding, shared_environment):
    result = with_inferred_actions(gliding(rows=10), shared_environment.model)
    assert np.isfinite(result.actions).all()
    assert np.abs(result.actions).max() <= 1.0


def test_a_simulation_that_blows_up_gives_finite_actions_and_leaves_no_log(gliding, shared_environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mad = gliding((0.0,), rows=4)
    states = mad.states.copy()
    states[1:3, a1.VELOCITY] = 1e9
    result = with_inferred_actions(replace(mad, states=states), shared_environment.model)
    assert np.isfinite(result.actions).all()
    assert np.abs(result.actions).max() <= 1.0
    assert list(tmp_path.iterdir()) == []


def test_recorded_actions_are_not_looked_at_and_demonstrations_stay_as_they_are(walks, inferred, shared_environment):
    bare = replace(walks.select([0, 3]), actions=None, executed_actions=None, external_force=None)
    states = bare.states.copy()
    result = with_inferred_actions(bare, shared_environment.model)
    expected = per_segment(inferred.actions, ROWS - 1)[[0, 3]]
    np.testing.assert_array_equal(per_segment(result.actions, ROWS - 1), expected)
    np.testing.assert_array_equal(bare.states, states)
    assert bare.actions is None
    assert bare.notes == ()


def test_the_number_of_threads_changes_no_bit(walks, inferred, shared_environment):
    threaded = with_inferred_actions(walks, shared_environment.model, n_threads=3)
    np.testing.assert_array_equal(threaded.actions, inferred.actions)
    assert threaded.notes == inferred.notes


def test_the_last_state_of_a_segment_has_no_action_and_is_left_out(walks, inferred):
    np.testing.assert_array_equal(per_segment(inferred.states, ROWS - 1), per_segment(walks.states, ROWS)[:, :-1])
    np.testing.assert_array_equal(inferred.bounds, walks.bounds - np.arange(5))
    assert (inferred.commands, inferred.kind) == (walks.commands, walks.kind)
    assert inferred.executed_actions is None
    assert inferred.external_force is None


def test_progress_counts_states(walks, shared_environment):
    counts = []
    with_inferred_actions(walks.select([0, 1]), shared_environment.model, progress=counts.append)
    assert counts == [ROWS, ROWS]
