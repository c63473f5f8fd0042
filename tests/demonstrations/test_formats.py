from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations import formats
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.utils.errors import UserError


def written_and_read(write, demonstrations, folder):
    path = folder / "demonstrations.npz"
    write(path, demonstrations)
    return formats.read(path)


# Ours


def test_ours_keeps_everything_but_digits(gliding, tmp_path):
    demonstrations = gliding((0.0, 90.0, 30.0), speed=0.3)
    read = written_and_read(formats.write, demonstrations, tmp_path)
    for name in ("states", "actions", "executed_actions", "external_force", "initial_state", "bounds"):
        np.testing.assert_allclose(getattr(read, name), getattr(demonstrations, name), rtol=1e-7, atol=1e-7, err_msg=name)
    for name in ("commands", "kind", "source", "synthetic"):
        assert getattr(read, name) == getattr(demonstrations, name)


def test_ours_keeps_the_start_states_of_replays_bit_for_bit(gliding, tmp_path):
    demonstrations = replace(gliding(), initial_state=np.random.default_rng(0).normal(size=(2, 175)))
    read = written_and_read(formats.write, demonstrations, tmp_path)
    np.testing.assert_array_equal(read.initial_state, demonstrations.initial_state)


def test_ours_keeps_goal_features_in_double_precision(gliding, tmp_path):
    read = written_and_read(formats.write, gliding((30.0,)), tmp_path)
    np.testing.assert_array_equal(read.states[:, a1.GOAL], np.tile(Command(30.0).features, (50, 1)))


def test_ours_keeps_segments_of_different_lengths(gliding, tmp_path):
    demonstrations = replace(gliding(), bounds=np.array([0, 20, 100]))
    assert written_and_read(formats.write, demonstrations, tmp_path).bounds.tolist() == [0, 20, 100]


def test_ours_says_which_command_made_it(gliding, tmp_path):
    formats.write(tmp_path / "demonstrations.npz", gliding(), made_by="record.py --seed 3")
    with np.load(tmp_path / "demonstrations.npz") as archive:
        assert str(archive["made_by"]) == "record.py --seed 3"


# loco-mujoco's real format


def test_real_format_is_read_as_it_was_written(gliding, tmp_path):
    demonstrations = gliding((0.0, 45.0, 180.0), speed=0.3)
    read = written_and_read(formats.write_loco_mujoco_real, demonstrations, tmp_path)
    np.testing.assert_allclose(read.states, demonstrations.states, atol=1e-9)
    assert read.bounds.tolist() == demonstrations.bounds.tolist()
    assert read.commands == demonstrations.commands


def test_real_format_is_read_as_recorded_and_without_actions(gliding, tmp_path):
    read = written_and_read(formats.write_loco_mujoco_real, gliding(), tmp_path)
    assert read.kind == ("recorded", "recorded")
    assert (read.actions, read.executed_actions, read.synthetic) == (None, None, False)


def test_real_format_has_5_samples_a_control_step(gliding, tmp_path):
    formats.write_loco_mujoco_real(tmp_path / "real.npz", gliding(rows=50))
    with np.load(tmp_path / "real.npz") as archive:
        assert archive["split_points"].tolist() == [0, 246, 492]
        assert {len(archive[key]) for key in formats.REAL} == {492}


def test_real_format_moves_the_trunk_as_far_as_its_velocity_goes(gliding, tmp_path):
    formats.write_loco_mujoco_real(tmp_path / "real.npz", gliding((0.0, 90.0), rows=51))
    with np.load(tmp_path / "real.npz") as archive:
        x, y = (np.split(archive[key], archive["split_points"][1:-1]) for key in ("q_trunk_tx", "q_trunk_ty"))
    assert [x[0][0], x[1][0], y[0][0], y[1][0]] == [0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose([x[0][-1], y[0][-1], x[1][-1], y[1][-1]], [0.25, 0.0, 0.0, 0.25], atol=1e-12)


def test_real_format_puts_a_smooth_curve_between_our_samples(gliding, tmp_path):
    formats.write_loco_mujoco_real(tmp_path / "real.npz", gliding((0.0,)))
    time = np.arange(246) * 0.002
    with np.load(tmp_path / "real.npz") as archive:
        # A cubic through a sine's values and slopes every 0.01 s is off by (10 h)^4 / 384 of its amplitude.
        np.testing.assert_allclose(archive["q_FR_hip_joint"], 0.1 * np.sin(10.0 * time), atol=1e-6)
        np.testing.assert_allclose(archive["dq_FR_hip_joint"], np.cos(10.0 * time), atol=1e-4)


# loco-mujoco's perfect format


def test_perfect_format_is_read_as_the_transitions_written(gliding, tmp_path):
    demonstrations = gliding((0.0, 45.0, 180.0), speed=0.3, rows=10)
    read = written_and_read(formats.write_loco_mujoco_perfect, demonstrations, tmp_path)
    rows = np.concatenate([np.arange(9), np.arange(10, 19), np.arange(20, 29)])
    np.testing.assert_array_equal(read.states, demonstrations.states[rows])
    np.testing.assert_array_equal(read.actions, demonstrations.actions[rows])
    assert read.bounds.tolist() == [0, 9, 18, 27]
    assert read.commands == demonstrations.commands


def test_perfect_format_without_actions_is_refused(gliding, tmp_path):
    with pytest.raises(UserError, match="needs actions"):
        formats.write_loco_mujoco_perfect(tmp_path / "perfect.npz", replace(gliding(), actions=None))


def test_perfect_format_of_one_segment_is_refused_as_loco_mujoco_cannot_read_it(gliding, tmp_path):
    with pytest.raises(UserError, match="two or more"):
        formats.write_loco_mujoco_perfect(tmp_path / "perfect.npz", gliding((0.0,)))


@pytest.mark.parametrize("write", [formats.write_loco_mujoco_real, formats.write_loco_mujoco_perfect])
def test_segments_of_different_lengths_are_refused_in_loco_mujocos_formats(gliding, tmp_path, write):
    with pytest.raises(UserError, match="one length"):
        write(tmp_path / "demonstrations.npz", replace(gliding(), bounds=np.array([0, 20, 100])))


@pytest.mark.parametrize(
    "write", [formats.write, formats.write_loco_mujoco_real, formats.write_loco_mujoco_perfect], ids=["ours", "real", "perfect"]
)
def test_directory_that_is_not_there_is_the_users_mistake(gliding, tmp_path, write):
    path = tmp_path / "missing" / "demonstrations.npz"
    with pytest.raises(UserError) as raised:
        write(path, gliding())
    assert str(path) in str(raised.value)


def test_recording_without_actions_is_refused_in_our_format(gliding, tmp_path):
    with pytest.raises(UserError, match="actions"):
        formats.write(tmp_path / "ours.npz", replace(gliding(), actions=None, executed_actions=None))
