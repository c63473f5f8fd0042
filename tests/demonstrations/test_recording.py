from collections import Counter

import mujoco
import numpy as np
import pytest

from qi_ext.demonstrations import formats, recording
from qi_ext.demonstrations.checks import check
from qi_ext.demonstrations.dataset import Demonstrations
from qi_ext.demonstrations.meaning import TRAVELS, examine
from qi_ext.robot import a1
from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.tasks import QuadrupedDirection

STORAGE = 1e-5  # more than the rounding of stored states
KINDS = ("nominal", "start", "push", "noise")
SEGMENTS = len(recording.PATTERN)


@pytest.fixture(scope="module")
def without_settling():
    """Recordings that begin after 0.1 s of walking, not 4 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "SETTLING_SECONDS", 0.1)
        yield


@pytest.fixture(scope="module")
def recorded(simple, without_settling):
    """A round of segments of 0.2 s."""
    return record(simple, seed=0)


embedded = pytest.mark.skipif(
    mujoco.__version__ != "2.3.7",
    reason="the embedded sets were recorded with MuJoCo 2.3.7, and replay in no other to the last bit",
)


def record(environment, seed, **settings):
    demonstrations, falls = recording.record(environment, seconds=0.2 * SEGMENTS, seed=seed, **settings)
    assert falls == {"0": 0}
    return demonstrations


def assert_replays(environment, demonstrations, index):
    replayed = recording.replay(environment, demonstrations, index)
    np.testing.assert_allclose(replayed, demonstrations.states[demonstrations.segment(index)], rtol=0.0, atol=STORAGE)


@embedded
@pytest.mark.parametrize("kind", KINDS)
def test_an_embedded_segment_replays_exactly_from_its_start_state(hard, kind):
    demonstrations = hard.demonstrations
    direction = 45.0 * (1 + KINDS.index(kind))
    segments = zip(demonstrations.commands, demonstrations.kind, strict=True)
    index = next(i for i, (command, k) in enumerate(segments) if k == kind and command.direction_deg == direction)
    assert_replays(hard, demonstrations, index)


@embedded
def test_recording_with_seed_0_starts_as_the_embedded_set(simple, recorded):
    index = recorded.kind.index("start")  # which begins without settling
    rows, embedded = recorded.segment(index), simple.demonstrations.segment(index)
    for name in ("states", "actions"):
        expected = getattr(simple.demonstrations, name)[embedded][: rows.stop - rows.start]
        np.testing.assert_allclose(getattr(recorded, name)[rows], expected, rtol=0.0, atol=STORAGE)


def test_plan_makes_most_segments_nominal_and_leaves_no_kind_out():
    kinds, _ = recording.segment_plan(40.0)
    assert set(kinds) == set(KINDS)
    assert Counter(kinds)["nominal"] > len(kinds) / 2


@pytest.mark.parametrize("seconds", [1.0, 20.0, 300.0])
def test_plan_is_as_long_as_asked_for(seconds):
    kinds, rows = recording.segment_plan(seconds)
    assert len(kinds) * rows * a1.CONTROL_DT == pytest.approx(seconds, abs=len(kinds) * a1.CONTROL_DT / 2 + 1e-9)


def test_a_recording_passes_the_checks_and_replays(simple, recorded):
    check(recorded)
    assert np.diff(recorded.bounds).tolist() == [20] * SEGMENTS
    assert recorded.synthetic
    for index in range(SEGMENTS):
        assert_replays(simple, recorded, index)


def test_a_slow_walk_that_a_push_moves_aside_is_read_all_the_same(without_settling, monkeypatch):
    slow = QuadrupedDirection("simple", speed=0.1, demonstrations=None)
    forces = np.zeros((55, 3))
    forces[5:15, 1] = recording.MAX_PUSH
    monkeypatch.setattr(recording, "_pushes", lambda *_: forces)
    segment = recording.record_segment(slow, slow.commands[0], "push", 55, np.random.default_rng(0))
    del segment["initial_state"]
    pushed = Demonstrations(
        bounds=np.array([0, 55]), commands=slow.commands, kind=("push",), source="", synthetic=True, **segment
    )
    along, across = (velocity.mean() for velocity in velocity_in_command_frame(pushed.states))
    assert abs(across) > along and np.hypot(along, across) > TRAVELS
    assert examine(pushed)[1] is None


def test_a_recording_depends_on_its_seed_only_and_tells_of_each_segment(simple, recorded):
    simple.seed(99)
    told = []
    assert record(simple, seed=0, progress=lambda *done: told.append(done)).content_hash() == recorded.content_hash()
    assert told == [(done, SEGMENTS) for done in range(1, SEGMENTS + 1)]
    assert record(simple, seed=1).content_hash() != recorded.content_hash()


def test_a_written_recording_is_read_with_the_same_actions(recorded, tmp_path):
    formats.write(tmp_path / "trot.npz", recorded)
    read = formats.read(tmp_path / "trot.npz")
    for name in ("actions", "executed_actions", "initial_state"):
        np.testing.assert_array_equal(getattr(read, name), getattr(recorded, name), err_msg=name)
    np.testing.assert_allclose(read.states, recorded.states, rtol=0.0, atol=1e-6)


def test_segments_that_end_in_a_fall_are_recorded_anew_or_given_up(simple, without_settling, monkeypatch):
    monkeypatch.setattr(recording, "MAX_PUSH", 5000.0)
    monkeypatch.setattr(recording, "ATTEMPTS", 2)
    with pytest.raises(RuntimeError, match="fell, or left the joints' range, 2 times in push segments, command 0"):
        recording.record(simple, seconds=0.6 * SEGMENTS, seed=0)


def test_a_push_lasts_for_one_step_of_the_environment(simple):
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
    assert (one["command"], other["command"]) == ("0", "90")
    assert (one["yaw"], other["yaw"]) == (0.0, 0.04)
    assert one["speed"] == pytest.approx(0.4)
    assert one["reward"] == pytest.approx(np.exp(-0.5))
    assert one["saturation"] == 0.0
