from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations import load_demonstrations, loco_mujoco_formats
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError


@pytest.fixture
def straight_walk(walking, tmp_path):
    """A file like loco-mujoco's `walk_straight.npz`: 3 segments of 100 rows at 500 Hz, at 0.5 m/s, told 0.51."""
    path = tmp_path / "walk_straight.npz"
    loco_mujoco_formats.write_real(path, walking((0.0, 0.0, 0.0), rows=100, speed=0.51))
    return path


@pytest.fixture
def installed_sets(tmp_path, monkeypatch):
    """An empty folder in place of the one where loco-mujoco keeps its sets."""
    import loco_mujoco

    monkeypatch.setattr(loco_mujoco.__spec__, "submodule_search_locations", [str(tmp_path / "loco_mujoco")])
    folder = tmp_path / "loco_mujoco" / "datasets" / "quadrupeds"
    folder.mkdir(parents=True)
    return folder


def noted(demonstrations, *parts):
    """True where one of the notes has all the parts."""
    return any(all(part in note for part in parts) for note in demonstrations.notes)


# Names


def test_none_gives_none():
    assert load_demonstrations(None, task_commands("simple")) is None


def test_missing_sets_of_loco_mujoco_are_refused_with_the_way_to_get_them(installed_sets):
    with pytest.raises(UserError, match="loco-mujoco-download-real") as raised:
        load_demonstrations("loco-mujoco", task_commands("simple"))
    assert "\n" not in str(raised.value)
    assert str(installed_sets / "real" / "walk_straight.npz") in str(raised.value)


@pytest.mark.parametrize(("task", "name"), [("simple", "walk_straight.npz"), ("hard", "walk_8_dir.npz")])
def test_the_perfect_set_of_loco_mujoco_is_read_where_its_real_one_is_missing(installed_sets, walking, task, name):
    folder = installed_sets / "perfect" / f"unitreea1_{task}"
    folder.mkdir(parents=True)
    loco_mujoco_formats.write_perfect(folder / "perfect_expert_dataset_det.npz", walking((0.0, 0.0)))
    assert "perfect" in load_demonstrations("loco-mujoco", task_commands(task)).source
    (installed_sets / "real").mkdir()
    loco_mujoco_formats.write_real(installed_sets / "real" / name, walking((0.0,)))
    assert name in load_demonstrations("loco-mujoco", task_commands(task)).source


def test_unknown_compat_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'stock'.*task, upstream"):
        load_demonstrations("trot", task_commands("simple"), compat="stock")


# A recording of someone else's


def test_a_recording_is_read_at_100_hertz_with_its_recorded_velocities(straight_walk, walking):
    demonstrations = load_demonstrations(str(straight_walk), task_commands("simple"))
    assert demonstrations.bounds.tolist() == [0, 100, 200, 300]
    assert noted(demonstrations, "500 Hz", "recorded velocities")
    np.testing.assert_allclose(demonstrations.states, walking((0.0, 0.0, 0.0), rows=100).states, atol=1e-9)


def test_a_recording_without_split_points_is_one_segment(straight_walk):
    with np.load(straight_walk) as archive:
        arrays = {key: archive[key][:496] for key in archive if key != "split_points"}
    np.savez(straight_walk, **arrays)
    assert load_demonstrations(straight_walk, task_commands("simple")).bounds.tolist() == [0, 100]


def test_the_tasks_command_replaces_the_recorded_goal_with_a_note(straight_walk):
    demonstrations = load_demonstrations(straight_walk, task_commands("simple"))
    assert demonstrations.commands == (Command(0.0, 0.5),) * 3
    np.testing.assert_array_equal(demonstrations.states[:, a1.GOAL], np.tile([1.0, 0.0, 0.5], (300, 1)))
    assert noted(demonstrations, "0.51 m/s replaced", "0.5 m/s")


def test_a_slow_expert_is_noted_with_its_speed_and_reward(straight_walk):
    demonstrations = load_demonstrations(straight_walk, task_commands("simple", speed=0.7))
    reward = f"{a1.environment_reward(demonstrations.states).mean():.2f}"
    assert 0.3 < float(reward) < np.exp(-5.0 * 0.19)
    assert noted(demonstrations, "moves at 0.50 m/s", "0.7 m/s", reward)


def test_compat_upstream_keeps_the_recorded_goal_and_all_segments(straight_walk, gliding):
    demonstrations = load_demonstrations(straight_walk, task_commands("simple"), compat="upstream")
    assert demonstrations.commands == (Command(0.0, 0.51),) * 3
    np.testing.assert_allclose(demonstrations.states[:, a1.GOAL], np.tile([1.0, 0.0, 0.51], (300, 1)), atol=1e-12)
    demonstrations = load_demonstrations(gliding((0.0, 90.0, 180.0)), task_commands("simple"), compat="upstream")
    assert (demonstrations.n_segments, demonstrations.notes) == (3, ())


# Directions that do not fit


def test_demonstrations_that_fit_have_no_notes(gliding):
    assert load_demonstrations(gliding((0.0, 180.0)), task_commands("hard", n_directions=2)).notes == ()


def test_directions_never_demonstrated_are_noted(gliding):
    demonstrations = load_demonstrations(gliding((0.0, 90.0)), task_commands("hard", n_directions=4))
    assert noted(demonstrations, "never demonstrated: 180, 270 degrees")


def test_segments_of_directions_never_commanded_are_left_out_with_a_note(gliding):
    demonstrations = load_demonstrations(gliding((0.0, 90.0, 180.0)), task_commands("simple"))
    assert demonstrations.commands == (Command(0.0),)
    assert noted(demonstrations, "left out 2 segments")


def test_a_recorded_direction_a_few_degrees_off_becomes_the_tasks(gliding):
    demonstrations = load_demonstrations(gliding((44.0, 92.0)), task_commands("hard"))
    assert demonstrations.commands == (Command(45.0), Command(90.0))
    assert noted(demonstrations, "44.0 degrees", "45 degrees")


def test_demonstrations_of_other_directions_only_are_refused(gliding):
    with pytest.raises(UserError, match="none of the task's directions.*only 90") as raised:
        load_demonstrations(gliding((90.0,)), task_commands("simple"))
    assert "\n" not in str(raised.value)


def test_numbers_that_are_not_real_are_refused(gliding):
    glide = gliding((0.0, 0.0))
    with pytest.raises(UserError, match="states must hold real numbers, not complex128"):
        load_demonstrations(replace(glide, states=glide.states + 0j), task_commands("simple"))


@pytest.mark.parametrize("compat", ["task", "upstream"])
def test_no_commands_are_refused(compat):
    with pytest.raises(UserError, match="^demonstrations: there are no commands"):
        load_demonstrations("trot", [], compat)


# Several speeds


def test_segments_of_several_speeds_are_kept_apart(gliding):
    recorded = [Command(0.0, 0.31), Command(0.0, 0.7), Command(178.0, 0.3), Command(180.0, 0.5), Command(90.0, 0.3)]
    demonstrations = load_demonstrations(
        gliding([0.0] * 5).with_commands(recorded), task_commands("hard", n_directions=2, speeds=[0.3, 0.7])
    )
    assert demonstrations.commands == (Command(0.0, 0.3), Command(0.0, 0.7), Command(180.0, 0.3))
    assert noted(demonstrations, "0.31 m/s replaced", "0 degrees at 0.3 m/s")
    assert noted(demonstrations, "left out 1 segments of speeds")
    assert noted(demonstrations, "left out 1 segments of directions")
    assert noted(demonstrations, "never demonstrated: 180 at 0.7 m/s;")


def test_what_has_none_of_several_speeds_is_refused_with_the_way_to_record_them(gliding):
    commands = task_commands("hard", n_directions=4, speeds=[0.3, 0.7])
    with pytest.raises(UserError, match="none of the task's commands .*, only 0 at 0.5 m/s;"):
        load_demonstrations(gliding((0.0,)), commands)
    with pytest.raises(UserError, match="0.5 m/s only.*--task hard --speeds 0.3 0.7 --n_directions 4 --output"):
        load_demonstrations("trot", commands)


@pytest.mark.parametrize(
    ("settings", "content_hash"),
    [
        ({"task": "simple"}, "6f10bc5d3436044a"),
        ({"task": "hard"}, "a1b0c5578f69c5cf"),
        ({"task": "hard", "n_directions": 12, "speed": 0.7}, "5d943e97264e137d"),
    ],
    ids=str,
)
def test_of_one_speed_the_embedded_sets_are_what_they_were(settings, content_hash):
    assert load_demonstrations("trot", task_commands(**settings)).content_hash() == content_hash
