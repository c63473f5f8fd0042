from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations import formats, loco_mujoco_formats
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.utils.errors import UserError

ARRAYS = ("states", "actions", "executed_actions", "external_force", "initial_state", "bounds")


def written_and_read(write, demonstrations, folder):
    path = folder / "demonstrations.npz"
    write(path, demonstrations)
    return formats.read(path)


# Ours


def test_our_format_keeps_everything_but_digits(gliding, tmp_path):
    demonstrations = replace(gliding((0.0, 90.0, 30.0), speed=0.3), bounds=np.array([0, 20, 100, 150]))
    demonstrations = demonstrations.with_commands(demonstrations.commands)
    read = written_and_read(formats.write, demonstrations, tmp_path)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(read, name), getattr(demonstrations, name), rtol=1e-7, atol=1e-7, err_msg=name)
    for name in ("commands", "kind", "source", "synthetic"):
        assert getattr(read, name) == getattr(demonstrations, name)


def test_our_format_keeps_start_states_and_goal_features_bit_for_bit(gliding, tmp_path):
    demonstrations = replace(gliding((30.0,)), initial_state=np.random.default_rng(0).normal(size=(1, 175)))
    read = written_and_read(formats.write, demonstrations, tmp_path)
    np.testing.assert_array_equal(read.initial_state, demonstrations.initial_state)
    np.testing.assert_array_equal(read.states[:, a1.GOAL], np.tile(Command(30.0).features, (50, 1)))


# loco-mujoco's real format


def test_real_format_is_read_as_it_was_written_and_has_no_actions(gliding, tmp_path):
    demonstrations = gliding((0.0, 45.0, 180.0), speed=0.3)
    read = written_and_read(loco_mujoco_formats.write_real, demonstrations, tmp_path)
    np.testing.assert_allclose(read.states, demonstrations.states, atol=1e-9)
    assert read.bounds.tolist() == demonstrations.bounds.tolist()
    assert read.commands == demonstrations.commands
    assert read.kind == ("recorded",) * 3
    assert (read.actions, read.executed_actions, read.synthetic) == (None, None, False)


def test_real_format_interpolates_5_samples_for_each_control_step(gliding, tmp_path):
    loco_mujoco_formats.write_real(tmp_path / "real.npz", gliding(rows=50))
    time = np.arange(246) * 0.002
    with np.load(tmp_path / "real.npz") as archive:
        assert archive["split_points"].tolist() == [0, 246, 492]
        assert {len(archive[key]) for key in loco_mujoco_formats.REAL} == {492}
        # A cubic through a sine's values and slopes every 0.01 s is off by (10 h)^4 / 384 of its amplitude.
        np.testing.assert_allclose(archive["q_FR_hip_joint"][:246], 0.1 * np.sin(10.0 * time), atol=1e-6)
        np.testing.assert_allclose(archive["dq_FR_hip_joint"][:246], np.cos(10.0 * time), atol=1e-4)


def test_real_format_moves_the_trunk_as_far_as_its_velocity_goes(gliding, tmp_path):
    loco_mujoco_formats.write_real(tmp_path / "real.npz", gliding((0.0, 90.0), rows=51))
    with np.load(tmp_path / "real.npz") as archive:
        x, y = (np.split(archive[key], archive["split_points"][1:-1]) for key in ("q_trunk_tx", "q_trunk_ty"))
    assert [x[0][0], x[1][0], y[0][0], y[1][0]] == [0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose([x[0][-1], y[0][-1], x[1][-1], y[1][-1]], [0.25, 0.0, 0.0, 0.25], atol=1e-12)


# loco-mujoco's perfect format


def test_perfect_format_is_read_as_the_transitions_written(gliding, tmp_path):
    demonstrations = gliding((0.0, 45.0, 180.0), speed=0.3, rows=10)
    read = written_and_read(loco_mujoco_formats.write_perfect, demonstrations, tmp_path)
    rows = np.concatenate([np.arange(9), np.arange(10, 19), np.arange(20, 29)])
    np.testing.assert_array_equal(read.states, demonstrations.states[rows])
    np.testing.assert_array_equal(read.actions, demonstrations.actions[rows])
    assert read.bounds.tolist() == [0, 9, 18, 27]
    assert read.commands == demonstrations.commands


# Demonstrations that a format cannot hold


@pytest.mark.parametrize(
    ("write", "lacking", "said"),
    [
        (formats.write, {"actions": None}, "our format needs actions"),
        (loco_mujoco_formats.write_perfect, {"actions": None}, "needs actions"),
        (loco_mujoco_formats.write_perfect, {"commands": (Command(0.0),), "bounds": np.array([0, 100])}, "two or more"),
        (loco_mujoco_formats.write_perfect, {"bounds": np.array([0, 20, 100])}, "segments of one length"),
        (loco_mujoco_formats.write_real, {"bounds": np.array([0, 20, 100])}, "segments of one length"),
    ],
)
def test_demonstrations_that_a_format_cannot_hold_are_refused(gliding, tmp_path, write, lacking, said):
    with pytest.raises(UserError, match=said):
        write(tmp_path / "demonstrations.npz", replace(gliding(), **lacking))


def test_a_missing_directory_is_refused_with_its_path(gliding, tmp_path):
    path = tmp_path / "missing" / "demonstrations.npz"
    with pytest.raises(UserError, match=str(path)):
        formats.write(path, gliding())
