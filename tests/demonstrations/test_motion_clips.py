import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qi_ext.demonstrations import load_demonstrations, resolved_name
from qi_ext.demonstrations.motion_clip_writer import write_clip, write_clips
from qi_ext.demonstrations.motion_clips import read_clips
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.kinematics import TRUNK_HEIGHT, feet, feet_velocities
from qi_ext.robot.mirror import mirror_observations
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

MOTION = slice(0, a1.GOAL.start)  # of an observation


@pytest.fixture(scope="module")
def trot():
    """The embedded set of hard, of which segment 0 walks along +x and 30 at 45 degrees."""
    return load_demonstrations("trot", task_commands("hard"))


@pytest.fixture
def clip(trot, tmp_path):
    """clip(change, index=0, hz=100): path of a clip of a segment, as of others, whose content `change` has changed."""

    def make(change=lambda content: None, index=0, hz=100.0):
        path = tmp_path / "trot.txt"
        write_clip(path, trot, index, hz)
        content = json.loads(path.read_text())
        del content["Command"]  # which only ours say
        change(content)
        path.write_text(json.dumps(content))
        return str(path)

    return make


@pytest.mark.parametrize("command", [Command(22.5, 0.5), Command(200.0, 0.05)])
def test_a_clip_of_ours_is_read_under_the_command_that_it_was_written_under(trot, tmp_path, command):
    written = trot.select([30]).with_commands([command])
    write_clips(tmp_path / "clips", written)
    read = read_clips(str(tmp_path / "clips"))
    assert read.commands == (command, Command(360.0 - command.direction_deg, command.speed))
    np.testing.assert_allclose(read.states[read.segment(0)], written.states, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(("rows", "count", "said"), [(49, 1, "clips of 49 rows"), (50, 3, "3 clips, and a folder may hold 2")])
def test_clips_that_nobody_could_learn_from_are_not_written(trot, tmp_path, monkeypatch, rows, count, said):
    monkeypatch.setattr("qi_ext.demonstrations.motion_clip_writer.MAX_CLIPS", 2)
    first = trot.select([0])
    short = replace(first, states=first.states[:rows], bounds=np.array([0, rows]), actions=None, executed_actions=None)
    short = replace(short, external_force=None).select([0] * count)
    with pytest.raises(UserError, match=said):
        write_clips(tmp_path / "clips", short)
    assert not list(tmp_path.iterdir())


def rows_of(trot, index=0):
    return trot.states[trot.segment(index)]


def frames(change):
    """A change of the frames alone: change((n, 61)) returns other ones."""

    def of(content):
        content["Frames"] = change(np.array(content["Frames"])).tolist()

    return of


def flipped(frames):
    frames[::3, 3:7] *= -1.0
    return frames


def lowered(frames):
    frames[:, 2] -= 0.2
    return frames


def in_degrees(frames):
    frames[:, 37:49] = np.degrees(frames[:, 37:49])
    return frames


def other_legs(content):
    """Legs in our order, which the clip says."""
    frames = np.array(content["Frames"])
    for begin in (7, 19, 37, 49):
        frames[:, begin : begin + 12] = frames[:, begin : begin + 12].reshape(-1, 4, 3)[:, [1, 0, 3, 2]].reshape(-1, 12)
    content.update(Frames=frames.tolist(), LegOrder=a1.LEGS)


@pytest.mark.parametrize(
    ("change", "index", "hz", "tolerance"),
    [
        (lambda content: None, 0, 100.0, 1e-6),
        (lambda content: None, 30, 100.0, 1e-6),
        (frames(flipped), 0, 100.0, 1e-6),
        (other_legs, 0, 100.0, 1e-6),
        (lambda content: None, 0, 200.0, 1e-3),
        (frames(flipped), 30, 500.0, 1e-3),
    ],
)
def test_what_is_written_is_read_again(clip, trot, change, index, hz, tolerance):
    read = read_clips(clip(change, index, hz))
    expected = rows_of(trot, index)
    np.testing.assert_allclose(read.states[read.segment(0)], expected, rtol=0.0, atol=tolerance)
    np.testing.assert_array_equal(read.states[read.segment(1)], mirror_observations(read.states[read.segment(0)]))
    assert read.commands[0] == trot.commands[index]
    assert (read.headings, read.synthetic, read.actions) == (None, False, None)


def test_a_written_frame_says_where_the_feet_are_and_how_the_trunk_moves(clip, trot):
    content = json.loads(Path(clip(index=30)).read_text())
    frames, states = np.array(content["Frames"]), rows_of(trot, 30)
    rotation = Rotation.from_quat(frames[:, 3:7])
    positions = np.concatenate([frames[:, :3], states[:, a1.POSITION][:, 1:]], axis=1)
    positions[:, 2] -= TRUNK_HEIGHT
    in_world = np.stack([rotation.apply(foot) for foot in frames[:, 19:31].reshape(-1, 4, 3).swapaxes(0, 1)], axis=1)
    order = [1, 0, 3, 2]
    np.testing.assert_allclose(frames[:, None, :3] + in_world, feet(positions)[:, order], atol=1e-8)
    np.testing.assert_allclose(rotation.apply(frames[:, 31:34]), states[:, 16:19], atol=1e-8)
    # A foot moves with the trunk, and against it.
    spin, motion = rotation.apply(frames[:, 34:37]), frames[:, 49:61].reshape(-1, 4, 3)
    moving = np.stack([rotation.apply(foot) for foot in motion.swapaxes(0, 1)], axis=1)
    expected = feet_velocities(positions, states[:, a1.VELOCITY])[:, order]
    np.testing.assert_allclose(states[:, None, 16:19] + np.cross(spin[:, None], in_world) + moving, expected, atol=1e-6)


@pytest.mark.parametrize(("rows", "length"), [(slice(0, -1), 61), (slice(1, None), 61), (slice(0, -1), 19)])
def test_differences_to_a_neighbour_and_no_velocities_at_all_are_taken_from_the_positions(clip, trot, rows, length):
    def late(frames):
        frames[rows, 37:49] = np.diff(frames[:, 7:19], axis=0) / 0.01
        frames[:, 31:37] = 17.0
        return frames[:, :length]

    read, expected = read_clips(clip(frames(late))), rows_of(trot)
    np.testing.assert_allclose(read.states[:250, a1.POSITION], expected[:, a1.POSITION], rtol=0.0, atol=1e-6)
    moving = expected[2:248, a1.VELOCITY]
    error = read.states[2:248, a1.VELOCITY] - moving
    assert (np.sqrt((error**2).mean(0)) < 0.2 * np.sqrt((moving**2).mean(0)) + 0.02).all()
    assert "velocities from the positions" in read.notes[0]


@pytest.mark.parametrize("angle", [-20.0, 35.0, 130.0, 179.0])
def test_a_clip_is_turned_to_face_ahead_and_to_travel_along_its_command(clip, trot, angle):
    def turn(frames):
        rotation = Rotation.from_euler("z", angle, degrees=True)
        frames[:, :3] = rotation.apply(frames[:, :3])
        frames[:, 3:7] = (rotation * Rotation.from_quat(frames[:, 3:7])).as_quat()
        return frames

    read = read_clips(clip(frames(turn), index=30))
    assert read.commands[0] == Command(45.0)
    np.testing.assert_allclose(read.states[:250, MOTION], rows_of(trot, 30)[:, MOTION], rtol=0.0, atol=0.02)
    assert f"turned by {-angle:.0f} degrees" in read.notes[0]


def test_a_clip_that_turns_is_seen_in_a_frame_that_turns(clip, trot):
    """Turned by 60 degrees/s about the trunk, in which frame it is what it was."""
    rate = np.radians(60.0)

    def turn(frames):
        time = np.arange(len(frames)) / 100.0
        rotation = Rotation.from_euler("z", (rate * time)[:, None])
        steps = rotation[:-1].apply(np.diff(frames[:, :3], axis=0))
        frames[1:, :3] = frames[0, :3] + np.cumsum(steps, axis=0)
        frames[:, 3:7] = (rotation * Rotation.from_quat(frames[:, 3:7])).as_quat()
        return frames[:, :19]

    read = read_clips(clip(frames(turn), index=30))
    assert read.commands == (Command(45.0), Command(315.0))
    np.testing.assert_allclose(read.headings[:250, 1], rate, atol=0.01)
    np.testing.assert_allclose(read.headings[249, 0], 2.49 * rate, atol=0.02)
    np.testing.assert_allclose(read.headings[250:], -read.headings[:250])
    np.testing.assert_allclose(read.states[5:245, MOTION].mean(0), rows_of(trot, 30)[5:245, MOTION].mean(0), atol=0.05)


def test_a_folder_and_a_list_are_as_many_segments(clip, tmp_path, monkeypatch):
    for name in ("a.txt", "b.json"):
        (tmp_path / name).write_bytes(Path(clip()).read_bytes())
    (tmp_path / "trot.txt").unlink()
    (tmp_path / "README.md").write_text("not a clip")
    listed = f"{tmp_path / 'a.txt'},{tmp_path / 'b.json'}"
    for name in (str(tmp_path), listed):
        read = load_demonstrations(name, task_commands("simple"))
        assert read.n_segments == 4
        assert read.source == "motion clips: a, b"
    monkeypatch.chdir(tmp_path)
    assert resolved_name("a.txt,b.json") == listed


def test_names_with_commas_are_told_from_lists(clip, tmp_path, monkeypatch):
    folder = tmp_path / "x,y"
    folder.mkdir()
    (folder / "a.txt").write_bytes(Path(clip()).read_bytes())
    for name in (str(folder), str(folder / "a.txt")):
        assert resolved_name(name) == name
        assert read_clips(name).n_segments == 2
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="a.txt has a comma, which stands between clips; name their folder"):
        resolved_name("a.txt,b.txt")
    # A folder's name does not hide an embedded set.
    (folder / "trot").mkdir()
    assert load_demonstrations("trot", task_commands("simple")).synthetic
    for name in ("n" * 300, ""):
        with pytest.raises(UserError, match="demonstrations: "):
            load_demonstrations(name, task_commands("simple"))


def test_the_clip_that_is_wrong_is_named(clip, tmp_path):
    for name, change in (("good", lambda content: None), ("bad", frames(lowered))):
        (tmp_path / f"{name}.json").write_bytes(Path(clip(change)).read_bytes())
    (tmp_path / "trot.txt").unlink()
    with pytest.raises(
        UserError,
        match="demonstrations: .*bad.json: 250 of 250 states are past a fall limit: height .*250 rows, the first at row 0",
    ):
        load_demonstrations(str(tmp_path), task_commands("simple"))
    (tmp_path / "bad.json").write_text("a note")
    with pytest.raises(UserError, match="bad.json.*take it out of the folder"):
        load_demonstrations(str(tmp_path), task_commands("simple"))


def test_a_comma_after_the_last_number_is_read_over(clip):
    path = Path(clip())
    path.write_text(path.read_text().replace("]]", "],]"))
    assert read_clips(str(path)).n_segments == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("Frames"), "has no Frames; is it a motion clip"),
        (lambda content: content.update(FrameDuration=0.0), "FrameDuration: .*greater than or equal to 0.001"),
        (lambda content: content.update(Frames=content["Frames"][:1]), "Frames: .*at least 4"),
        (lambda content: content["Frames"][3].pop(), "frames hold 60 or 61 numbers"),
        (lambda content: content["Frames"][3].__setitem__(8, "nan"), "Frames.3.8: input should be a valid number"),
        (lambda content: content["Frames"][3].__setitem__(3, 5.0), "the quaternion of frame 3 is 5.* long"),
        (lambda content: content["Frames"][3].__setitem__(slice(3, 7), [0.0, 0.5**0.5, 0.0, 0.5**0.5]), "on end in frame 3"),
        (lambda content: content.update(LegOrder=["FL", "FL", "RR", "RL"]), "LegOrder names a leg twice"),
        (
            lambda content: content.update(FrameDuration=0.005),
            "FrameDuration is 0.005 s.* 2 times.* of frames that last 0.01 s",
        ),
        (frames(in_degrees), "joints move 0.0175 times as far in it as their velocities say: are these in degrees a second"),
    ],
)
def test_a_mistake_in_a_clip_is_one_line(clip, change, said):
    path = clip(change)
    with pytest.raises(UserError, match=said) as caught:
        read_clips(path)
    assert "\n" not in str(caught.value)
    assert path in str(caught.value)
