"""Twelve kinds of wrong recording: a training run refuses each before it begins, in words that are said of no other kind."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations import formats
from qi_ext.demonstrations.checks import check
from qi_ext.demonstrations.dynamics import examine_dynamics
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.demonstrations.mending import GROUND, lowest_foot
from qi_ext.demonstrations.motion_clip_writer import write_clip
from qi_ext.robot import a1
from qi_ext.training.resume import find_start
from qi_ext.training.training_run import TrainingRun
from qi_ext.utils.errors import UserError

CALF, HIPS = a1.LEG_POSITION.start + 2, [4, 7, 10, 13, 22, 25, 28, 31]


@pytest.fixture(scope="module")
def trot():
    """Segments of the embedded set of simple, with pushes, noise and odd starts among them."""
    return formats.read(embedded_path("simple")).select(range(0, 22, 4))


def put(index, change):
    def make(states):
        states[index] = change(states[index])
        return states

    return make


def legs_of_the_left_first(states):
    for begin in (4, 22):
        states[:, begin : begin + 12] = states[:, begin : begin + 12].reshape(-1, 4, 3)[:, [1, 0, 3, 2]].reshape(-1, 12)
    return states


EVERY = slice(None)
# {kind: (change of the states, words of the refusal)}
KINDS = {
    "degrees": (put((EVERY, a1.LEG_POSITION), np.degrees), "and 9 more; are they in degrees? give rad"),
    "50 Hz taken for 100 Hz": (lambda states: states[::2], "times as far a row as its velocities say: 50 Hz? resample it"),
    "leg order": (legs_of_the_left_first, "as if the recording had legs in the order FL, FR, RL, RR"),
    "floating": (put((EVERY, a1.TRUNK_Z), lambda z: z + 0.02), "nothing bears the robot in 100% of the rows"),
    "sunk": (put((EVERY, a1.TRUNK_Z), lambda z: z - 0.05), "the lowest foot is at -0.041 m, sunk in the ground: --fit puts"),
    "feet sliding": (
        put((EVERY, a1.TRUNK_VX), lambda v: 2.0 * v),
        "times as far as its velocity says, if the lowest foot rests",
    ),
    "fallen rows": (
        put((slice(100, 110), a1.PITCH), lambda angle: 0.0 * angle + 0.25),
        "10 of 1500 states are past a fall limit: pitch 0.25 rad of 0.192 allowed (10 rows, the first at row 100); cut",
    ),
    "out of range": (
        put((slice(7, 9), CALF), lambda angle: 0.0 * angle - 0.7),
        "FR_calf_joint reaches -0.700 rad, past [-2.697, -0.916] (2 rows, the first at row 7); --fit brings joints into",
    ),
    "one row": (lambda states: states[:1], "an episode of row 0 alone"),
    "changing goal": (put((slice(700, None), slice(34, 36)), lambda goal: goal[:, ::-1]), "the goal turns within rows"),
    "mirrored signs": (put((EVERY, HIPS), np.negative), "as if the recording had the hips' sign reversed"),
    "wxyz quaternions": (None, "is the quaternion w, x, y, z? a clip's is x, y, z, w"),
}


@pytest.fixture(scope="module")
def refusals(trot, tmp_path_factory):
    """{kind: what a training run from scratch refuses it with}."""
    folder, found = tmp_path_factory.mktemp("wrong"), {}
    for kind, (change, _) in KINDS.items():
        path = folder / f"{kind.replace(' ', '_')}.{'npz' if change else 'txt'}"
        if change:
            states = change(trot.states.copy())
            last = np.zeros(len(states))
            last[[bound * len(states) // len(trot.states) - 1 for bound in trot.bounds[1:]]] = 1.0
            np.savez(path, states=states, last=last)
        else:
            write_clip(path, trot)
            clip = json.loads(path.read_text())
            for frame in clip["Frames"]:
                frame[3:7] = [frame[6], *frame[3:6]]
            path.write_text(json.dumps(clip))
        settings = {"demonstrations": str(path), "results_dir": str(folder / "runs"), "pool": "serial"}
        with pytest.raises(UserError) as refused:
            TrainingRun(find_start(settings))
        assert not (folder / "runs").exists()
        found[kind] = str(refused.value)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_run_refuses_each_kind_in_words_of_its_own(refusals, kind):
    said = KINDS[kind][1]
    assert [other for other, refusal in refusals.items() if said in refusal] == [kind], refusals[kind]
    assert "\n" not in refusals[kind]


# --fit


def test_a_right_recording_is_left_as_it_is(trot, simple):
    assert check(trot, fit=True) is trot
    fall, replay = examine_dynamics(trot, simple.model)[0]
    assert fall.value < 0.1
    assert replay.value == 100


@pytest.mark.parametrize("height", [-0.05, 0.02, 0.1])
def test_feet_that_float_or_are_sunk_are_put_on_the_ground(trot, simple, height):
    time = np.arange(len(trot.states)) * a1.CONTROL_DT
    states = trot.states.copy()
    states[:, a1.TRUNK_Z] += height + 0.01 * np.sin(5.0 * time)
    states[:, 18] += 0.05 * np.cos(5.0 * time)
    mended = check(replace(trot, states=states), fit=True)
    np.testing.assert_allclose(mended.states[:, a1.TRUNK_Z], trot.states[:, a1.TRUNK_Z], atol=0.006)
    np.testing.assert_allclose(lowest_foot(mended.states), GROUND, atol=0.003)
    assert np.abs(mended.states[:, 18] - trot.states[:, 18]).mean() < 0.05
    np.testing.assert_array_equal(np.delete(mended.states, [0, 18], axis=1), np.delete(trot.states, [0, 18], axis=1))
    assert mended.actions is mended.initial_state is None
    assert "--fit moved the trunk up or down in 1500 of 1500 rows, by 0." in mended.notes[-2]
    assert "left out the recorded actions" in mended.notes[-1]
    assert examine_dynamics(mended, simple.model)[1] is None


def test_joints_past_their_range_are_brought_into_it(trot):
    states, hip = trot.states.copy(), CALF - 2
    over = np.maximum(0.0, 0.95 * np.sin(np.linspace(0.0, np.pi, 100)) - states[100:200, hip])
    states[100:200, hip] += over
    states[100:200, 22] += np.gradient(over, a1.CONTROL_DT)
    mended = check(replace(trot, states=states), fit=True)
    past = states[:, hip] > a1.LEG_RANGE[0, 1]
    np.testing.assert_array_equal(mended.states[past, hip], a1.LEG_RANGE[0, 1])
    assert not mended.states[past, 22].any()
    assert f"brought FR_hip_joint into range in {past.sum()} rows, by 0.1" in " ".join(mended.notes)


def test_what_is_not_to_be_mended_is_refused_all_the_same(trot):
    for kind in ("degrees", "leg order", "mirrored signs"):
        with pytest.raises(UserError, match=re.escape(KINDS[kind][1])):
            check(replace(trot, states=KINDS[kind][0](trot.states.copy())), fit=True)
    high = replace(trot, states=put((EVERY, a1.TRUNK_Z), lambda z: z + 0.43)(trot.states.copy()))
    with pytest.raises(UserError, match="0.43 m from the ground at row .*--fit moves a row by at most 0.25 m: .* subtract"):
        check(high, fit=True)
