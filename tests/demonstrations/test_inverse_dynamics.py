from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations.inverse_dynamics import with_inferred_actions
from qi_ext.robot import a1

ROWS = 40


@pytest.fixture(scope="module")
def recorded(simple):
    """The first 40 rows of an embedded segment of each kind, recorded in simulation."""
    embedded = simple.demonstrations
    chosen = embedded.select([embedded.kind.index(kind) for kind in ("nominal", "start", "push", "noise")])
    rows = np.concatenate([np.arange(begin, begin + ROWS) for begin in chosen.bounds[:-1]])
    arrays = {name: getattr(chosen, name)[rows] for name in ("states", "actions", "executed_actions", "external_force")}
    return replace(chosen, bounds=np.arange(5) * ROWS, **arrays)


@pytest.fixture(scope="module")
def inferred(recorded, simple):
    return with_inferred_actions(recorded, simple.model)


def by_segment(array, rows):
    """(S rows, k) as (S, rows, k)."""
    return array.reshape(-1, rows, array.shape[1])


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def noted_figures(demonstrations):
    """Error and change of the joint velocities, rad/s, and percentage of torques at the limit, from the last note."""
    words = demonstrations.notes[-1].replace("%", "").split()
    return float(words[words.index("by") + 1]), float(words[words.index("of") + 1]), float(words[words.index("change;") + 1])


def test_executed_actions_are_found_again_with_noise_and_pushes(recorded, inferred):
    executed = by_segment(recorded.executed_actions, ROWS)[:, :-1]
    error = by_segment(inferred.actions, ROWS - 1) - executed
    assert rms(executed) > 0.2
    # Torques that only press the feet against each other are unknown in a segment's first steps.
    assert rms(error[:, 3:]) < 0.06
    assert np.median(np.abs(error)) < 0.01


def test_a_step_of_the_environment_with_them_leads_to_the_next_state(recorded, inferred, simple):
    states, actions = by_segment(recorded.states, ROWS), by_segment(inferred.actions, ROWS - 1)
    errors = []
    for segment in (0, 1, 3):  # the push is not in the states
        for row in range(5, ROWS - 1):
            simple.reset(obs=states[segment, row])
            reached = simple.step(actions[segment, row])[0]
            errors.append(reached[a1.VELOCITY] - states[segment, row + 1, a1.VELOCITY])
    assert rms(errors) < 0.05
    assert rms(np.diff(states[:, :, a1.LEG_VELOCITY], axis=1)) > 1.0


def test_the_note_says_how_good_they_are(recorded, inferred):
    error, change, clipped = noted_figures(inferred)
    velocities = by_segment(recorded.states, ROWS)[:, :, a1.LEG_VELOCITY]
    assert change == pytest.approx(rms(np.diff(velocities, axis=1)), abs=1e-3)
    assert 0.001 < error < 0.05
    assert clipped == 0.0


def test_torques_that_would_be_too_large_are_clipped_and_counted(recorded, simple):
    states = recorded.select([0]).states[:4].copy()
    states[2:, a1.LEG_VELOCITY] += 100.0  # in a step: far beyond 34 Nm
    result = with_inferred_actions(replace(recorded.select([0]), states=states, bounds=np.array([0, 4])), simple.model)
    assert np.abs(result.actions).max() == 1.0
    error, _, clipped = noted_figures(result)
    assert clipped == pytest.approx(100.0 * np.mean(np.abs(result.actions) >= 1.0), abs=0.005)
    assert error > 10.0


def test_a_simulation_that_blows_up_gives_finite_actions_and_leaves_no_log(gliding, simple, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demonstrations = gliding((0.0,), rows=4)
    demonstrations.states[1:3, a1.VELOCITY] = 1e9
    result = with_inferred_actions(demonstrations, simple.model)
    assert np.isfinite(result.actions).all()
    assert np.abs(result.actions).max() <= 1.0
    assert list(tmp_path.iterdir()) == []


def test_neither_recorded_actions_nor_other_segments_nor_threads_change_a_bit(recorded, inferred, simple):
    bare = replace(recorded.select([0, 3]), actions=None, executed_actions=None, external_force=None)
    counts = []
    result = with_inferred_actions(bare, simple.model, n_threads=3, progress=counts.append)
    np.testing.assert_array_equal(by_segment(result.actions, ROWS - 1), by_segment(inferred.actions, ROWS - 1)[[0, 3]])
    assert counts == [ROWS, ROWS]
    assert bare.actions is None
    assert bare.notes == ()


def test_the_last_state_of_a_segment_has_no_action_and_is_left_out(recorded, inferred):
    np.testing.assert_array_equal(by_segment(inferred.states, ROWS - 1), by_segment(recorded.states, ROWS)[:, :-1])
    np.testing.assert_array_equal(inferred.bounds, recorded.bounds - np.arange(5))
    assert (inferred.commands, inferred.kind) == (recorded.commands, recorded.kind)
    assert inferred.executed_actions is None
    assert inferred.external_force is None
