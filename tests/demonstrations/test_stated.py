"""Files that say what they hold: keys that contradict it are refused, and what is checked is told by --check."""

import numpy as np
import pytest

from qi_ext.commands import demonstrations as command
from qi_ext.demonstrations import formats, load_demonstrations, loco_mujoco_formats
from qi_ext.robot import a1
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError


@pytest.fixture
def perfect(walking):
    """Arrays of a file in the perfect format."""
    return walking((0.0, 0.0), rows=60).dataset()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("frequency", 50.0, "frequency is 50, but the rows of this format are at 100 Hz"),
        ("fps", 500, "fps is 500"),
        ("Sampling_Rate", 50, "Sampling_Rate is 50"),
        ("control_dt", 0.02, "control_dt is 0.02"),
        ("timestamps", np.arange(118) * 0.02, "timestamps says 50 Hz"),
        ("time", np.arange(117) * 0.01, "one for each of the 118 rows of the recording, not of shape .117,."),
        ("angle_units", "deg", "angle_units are deg"),
        ("dt", 0.02, "dt is 0.02, but"),
        ("dt", 0.0, "dt must be a single positive number"),
        ("time", np.arange(118) * 0.02, "time says 50 Hz"),
        ("time", np.cumsum(np.tile([0.005, 0.01, 0.01, 0.015], 30))[:118], "steps of time vary"),
        ("time", np.zeros(118), "time does not rise"),
        ("units", "deg, m", "units are deg; give"),
        ("joint_names", [*a1.LEG_JOINTS[:-1], "tail"], "joint_names holds 'tail'"),
        ("joint_order", [name.encode() for name in a1.LEG_JOINTS[:-1]], "joint_order must name each of the 12 joints"),
    ],
)
def test_keys_that_say_something_else_are_refused(perfect, tmp_path, key, value, said):
    np.savez(tmp_path / "keys.npz", **perfect | {key: np.array(value)})
    with pytest.raises(UserError, match=said):
        load_demonstrations(tmp_path / "keys.npz", task_commands("simple"))


def test_keys_that_agree_are_accepted(perfect, tmp_path):
    keys = {"frequency": 100, "dt": 0.01, "time": np.arange(118) * 0.01, "units": "rad", "joint_names": np.array(a1.JOINTS)}
    np.savez(tmp_path / "keys.npz", **perfect, **keys)
    assert load_demonstrations(tmp_path / "keys.npz", task_commands("simple")).notes == ()


def test_the_rate_that_a_file_states_is_compared_with_that_of_its_format(walking, tmp_path):
    loco_mujoco_formats.write_real(tmp_path / "real.npz", walking((0.0, 0.0), rows=60))
    with np.load(tmp_path / "real.npz") as archive:
        real = dict(archive)
    np.savez(tmp_path / "agrees.npz", **real, frequency=500)
    assert load_demonstrations(tmp_path / "agrees.npz", task_commands("simple")).n_segments == 2
    np.savez(tmp_path / "other.npz", **real, frequency=100)
    with pytest.raises(UserError, match="frequency is 100, but the rows of this format are at 500 Hz"):
        load_demonstrations(tmp_path / "other.npz", task_commands("simple"))


def test_joint_names_put_joints_in_order(perfect, tmp_path):
    order = np.random.default_rng(0).permutation(12)
    states = perfect["states"].copy()
    for columns in (a1.LEG_POSITION, a1.LEG_VELOCITY):
        states[:, columns] = states[:, columns][:, order]
    mixed = perfect | {"states": states, "actions": perfect["actions"][:, order]}
    np.savez(tmp_path / "mixed.npz", **mixed, joint_names=np.array(a1.ACTUATORS)[order])
    found = load_demonstrations(tmp_path / "mixed.npz", task_commands("simple"))
    np.testing.assert_array_equal(found.states, perfect["states"])
    np.testing.assert_array_equal(found.actions, perfect["actions"])
    assert "joints put in our order" in found.notes[0]


# What is checked


def test_a_file_is_checked_when_it_is_loaded_and_demonstrations_in_memory_are_not(walking, tmp_path):
    wrong = walking()
    wrong.states[:, a1.TRUNK_Z] += 0.43
    formats.write(tmp_path / "high.npz", wrong)
    with pytest.raises(UserError, match=f"{tmp_path / 'high.npz'}: the lowest foot is at 0.4.* subtract 0.43"):
        load_demonstrations(tmp_path / "high.npz", task_commands("simple"))
    assert load_demonstrations(wrong, task_commands("simple")).n_segments == 1


def test_check_prints_the_measures_and_changes_nothing(perfect, tmp_path, capsys):
    np.savez(tmp_path / "right.npz", **perfect)
    before = (tmp_path / "right.npz").read_bytes()
    command.main(["--check", str(tmp_path / "right.npz")])
    printed = capsys.readouterr().out
    for words in (
        "share of rows that repeat",
        "height of the lowest foot",
        "over that of one without torque",
        "no fault was found",
    ):
        assert words in printed
    assert "WRONG" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["right.npz"]
    assert (tmp_path / "right.npz").read_bytes() == before


def test_check_with_fit_says_what_it_mended_and_what_there_is_then(perfect, tmp_path, capsys):
    perfect["states"][:, a1.TRUNK_Z] += 0.1
    np.savez(tmp_path / "floating.npz", **perfect)
    command.main(["--check", str(tmp_path / "floating.npz"), "--fit"])
    printed = capsys.readouterr().out
    assert "--fit moved the trunk up or down in" in printed
    assert "no fault was found" in printed


def test_options_that_check_would_not_heed_are_refused(tmp_path):
    with pytest.raises(UserError, match="--fit: goes with --check"):
        command.main(["--fit", "--output", str(tmp_path / "none.npz")])
    with pytest.raises(UserError, match="--max_pitch: goes with --check"):
        command.main(["--max_pitch", "0.5", "--output", str(tmp_path / "none.npz")])
    with pytest.raises(UserError, match="--max_pitch: must be at most 1, not 20"):
        command.main(["--max_pitch", "20", "--check", str(tmp_path / "none.npz")])
    with pytest.raises(UserError, match="--seed: does not go with --check"):
        command.main(["--check", str(tmp_path / "none.npz"), "--seed", "0"])


def test_check_prints_the_table_of_a_refused_file_and_then_refuses_it(perfect, tmp_path, capsys):
    perfect["states"][:, a1.TRUNK_Z] += 0.43
    np.savez(tmp_path / "high.npz", **perfect)
    with pytest.raises(UserError, match="subtract 0.43"):
        command.main(["--check", str(tmp_path / "high.npz")])
    assert capsys.readouterr().out.count("WRONG") == 1
