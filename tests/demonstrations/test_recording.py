from collections import Counter

import numpy as np
import pytest

from qi_ext.demonstrations import formats, recording
from qi_ext.demonstrations.checks import check
from qi_ext.robot import a1
from qi_ext.robot.commands import Command

# States are rounded for storage to less than this.
STORAGE = 1e-5
KINDS = {"nominal", "start", "push", "noise"}
SEGMENTS = len(recording.PATTERN)


@pytest.fixture
def hurried(monkeypatch):
    """Recordings that settle for 0.1 s only."""
    monkeypatch.setattr(recording, "SETTLING_SECONDS", 0.1)


def segment_of(demonstrations, kind, direction_deg):
    """Index of the first segment of a kind and direction."""
    return next(
        i
        for i, command in enumerate(demonstrations.commands)
        if command.direction_deg == direction_deg and demonstrations.kind[i] == kind
    )


def recorded_anew(environment, index):
    """Segment `index` of the environment's set, with the generators of `record` at seed 0."""
    demonstrations = environment.demonstrations
    command = demonstrations.commands[index]
    of_direction = index - demonstrations.commands.index(command)
    rows = int(np.diff(demonstrations.bounds)[index])
    sequence = np.random.SeedSequence([0, round(command.direction_deg * 1000), of_direction])
    for generator in map(np.random.default_rng, sequence.spawn(recording.ATTEMPTS)):
        segment = recording.record_segment(environment, command, demonstrations.kind[index], rows, generator)
        if segment is not None:
            return segment
    raise AssertionError("the expert fell in every attempt")


@pytest.mark.parametrize(("kind", "direction_deg"), [("nominal", 0.0), ("start", 90.0), ("push", 135.0), ("noise", 270.0)])
def test_replayed_segment_meets_its_recorded_states(hard, kind, direction_deg):
    demonstrations = hard.demonstrations
    index = segment_of(demonstrations, kind, direction_deg)
    replayed = recording.replay(hard, demonstrations, index)
    np.testing.assert_allclose(replayed, demonstrations.states[demonstrations.segment(index)], rtol=0.0, atol=STORAGE)


@pytest.mark.parametrize(("kind", "direction_deg"), [("nominal", 45.0), ("push", 180.0)])
def test_segment_recorded_anew_meets_the_embedded_one(hard, kind, direction_deg):
    demonstrations = hard.demonstrations
    index = segment_of(demonstrations, kind, direction_deg)
    rows, anew = demonstrations.segment(index), recorded_anew(hard, index)
    np.testing.assert_allclose(anew["states"], demonstrations.states[rows], rtol=0.0, atol=STORAGE)
    np.testing.assert_allclose(anew["actions"], demonstrations.actions[rows], rtol=0.0, atol=STORAGE)
    np.testing.assert_allclose(anew["external_force"], demonstrations.external_force[rows], rtol=0.0, atol=STORAGE)


def test_seed_0_starts_the_embedded_segments(simple, hurried):
    # Segments that start at random do not settle, so a hurried recording begins them as the embedded one does.
    demonstrations, _ = recording.record(simple, seconds=0.1 * SEGMENTS, seed=0)
    index = segment_of(demonstrations, "start", 0.0)
    rows, embedded = demonstrations.segment(index), simple.demonstrations.segment(index)
    expected = simple.demonstrations.states[embedded][: rows.stop - rows.start]
    np.testing.assert_allclose(demonstrations.states[rows], expected, rtol=0.0, atol=STORAGE)


def test_plan_makes_most_segments_nominal_and_none_of_the_kinds_missing():
    kinds, _ = recording.segment_plan(40.0)
    assert set(kinds) == KINDS
    assert Counter(kinds)["nominal"] > len(kinds) / 2


@pytest.mark.parametrize("seconds", [1.0, 20.0, 40.0, 300.0])
def test_plan_is_as_long_as_asked_for(seconds):
    kinds, rows = recording.segment_plan(seconds)
    assert len(kinds) * rows * a1.CONTROL_DT == pytest.approx(seconds, abs=len(kinds) * a1.CONTROL_DT / 2 + 1e-9)


def test_recording_is_fit_to_be_learned_from(simple, hurried):
    demonstrations, falls = recording.record(simple, seconds=0.2 * SEGMENTS, seed=1)
    check(demonstrations)
    assert np.diff(demonstrations.bounds).tolist() == [20] * SEGMENTS
    assert demonstrations.synthetic
    assert falls == {0.0: 0}


def test_recording_replays_from_its_start_states(simple, hurried):
    demonstrations, _ = recording.record(simple, seconds=0.2 * SEGMENTS, seed=1)
    for index in range(demonstrations.n_segments):
        replayed = recording.replay(simple, demonstrations, index)
        np.testing.assert_allclose(replayed, demonstrations.states[demonstrations.segment(index)], rtol=0.0, atol=STORAGE)


def test_recording_depends_on_its_seed_only(simple, hurried):
    one, _ = recording.record(simple, seconds=0.1 * SEGMENTS, seed=1)
    simple.seed(99)
    again, _ = recording.record(simple, seconds=0.1 * SEGMENTS, seed=1)
    other, _ = recording.record(simple, seconds=0.1 * SEGMENTS, seed=2)
    assert one.content_hash() == again.content_hash() != other.content_hash()


def test_written_recording_is_read_as_it_was_recorded(simple, hurried, tmp_path):
    demonstrations, _ = recording.record(simple, seconds=0.1 * SEGMENTS, seed=1)
    formats.write(tmp_path / "trot.npz", demonstrations)
    read = formats.read(tmp_path / "trot.npz")
    for name in ("states", "actions", "executed_actions", "external_force", "initial_state", "bounds"):
        # Goal features are written anew from the command, in float64.
        np.testing.assert_allclose(getattr(read, name), getattr(demonstrations, name), rtol=0.0, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(read.executed_actions, demonstrations.executed_actions)


def test_recording_tells_of_each_segment_done(simple, hurried):
    told = []
    recording.record(simple, seconds=0.1 * SEGMENTS, seed=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, SEGMENTS) for done in range(1, SEGMENTS + 1)]


def test_segment_that_ends_in_a_fall_is_not_kept(simple, hurried, monkeypatch):
    monkeypatch.setattr(recording, "MAX_PUSH", 5000.0)
    generator = np.random.default_rng(0)
    assert recording.record_segment(simple, Command(0.0), "push", 100, generator) is None


def test_recording_gives_up_where_the_expert_always_falls(simple, hurried, monkeypatch):
    monkeypatch.setattr(recording, "MAX_PUSH", 5000.0)
    monkeypatch.setattr(recording, "ATTEMPTS", 2)
    with pytest.raises(RuntimeError, match="fell 2 times in push segments at 0 degrees"):
        recording.record(simple, seconds=1.0 * SEGMENTS, seed=0)


def test_push_lasts_for_one_step_of_the_environment(simple):
    observation = simple.reset(command=0.0)
    quiet, _ = recording.step_with_force(simple, np.zeros(a1.N_ACTIONS), np.zeros(3))
    simple.reset(obs=observation)
    pushed, _ = recording.step_with_force(simple, np.zeros(a1.N_ACTIONS), np.array([0.0, 60.0, 0.0]))
    assert pushed[a1.TRUNK_VY] > quiet[a1.TRUNK_VY] + 0.01
    assert not simple.data.xfrc_applied.any()


def test_summary_describes_the_nominal_walk_of_each_direction(gliding):
    demonstrations = gliding((0.0, 90.0), moving_at=0.4)
    demonstrations.states[60, a1.YAW] = -0.04
    one, other = recording.summary(demonstrations)
    assert (one["direction_deg"], other["direction_deg"]) == (0.0, 90.0)
    assert (one["yaw"], other["yaw"]) == (0.0, 0.04)
    assert one["speed"] == pytest.approx(0.4)
    assert one["reward"] == pytest.approx(np.exp(-0.5))
    assert one["saturation"] == 0.0
