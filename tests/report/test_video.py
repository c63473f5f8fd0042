"""Layouts of films and their drawing; the launcher's tests decode whole films."""

import os
import resource

import numpy as np
import psutil
import pytest

from qi_ext.evaluation import RecordedEpisode
from qi_ext.report import video
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import COURSES
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError


def episode(command, n=1000, fell=False):
    observations = np.zeros((n, 37))
    observations[:, 16:18] = command.velocity
    return RecordedEpisode(command, observations, np.zeros((n, 12)), [command] * n, fell, 0.0)


class Deadly:
    """A picture whose drawing ends the process."""

    label = "deadly"

    def __init__(self):
        self.episodes = [episode(task_commands("simple")[0])]

    def at(self, t):
        os._exit(1)


@pytest.mark.extensive
@pytest.mark.usefixtures("drawing")
def test_a_film_that_the_encoder_cannot_write_is_none(simple, tmp_path, monkeypatch):
    layout = video.one(episode(task_commands("simple")[0]), "agent", 64, 48)
    frames = video.frames

    def with_little_room(*arguments):
        for child in psutil.Process().children():
            if "ffmpeg" in child.name():
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (500, 500))  # as where the disk is full
        yield from frames(*arguments)

    monkeypatch.setattr(video, "frames", with_little_room)
    with pytest.raises(OSError, match="the encoder did not write the whole film; is there room in /") as caught:
        video.write_video(tmp_path / "walk.mp4", simple.model, layout, 40)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.extensive
@pytest.mark.usefixtures("drawing")
def test_a_process_that_dies_leaves_no_film_and_one_line(simple, tmp_path):
    with pytest.raises(UserError, match="rendering: a process that draws with .* has died"):
        video.write_video(tmp_path / "walk.mp4", simple.model, video.Layout([Deadly()], 1, 64, 48), 8)
    assert not list(tmp_path.iterdir())


def test_each_direction_has_its_place_on_the_compass():
    commands = task_commands("hard")
    layout = video.grid([episode(command) for command in commands], "all")
    assert layout.size == (3 * 480, 3 * 360)
    for place, picture in enumerate(layout.pictures):
        row, column = divmod(place, 3)
        if isinstance(picture, video.Map):
            assert (row, column) == (1, 1)
        else:
            (one,) = picture.episodes
            assert tuple(np.sign(np.round(one.command.velocity, 6))) == (column - 1, 1 - row)


def test_along_a_course_the_arrow_turns_and_both_paths_are_drawn():
    n = 200
    commands = [Command(90.0, 0.5, 0.3 * t) for t in range(n)]
    observations = np.zeros((n, 37))
    turning = RecordedEpisode(COURSES["circle"], observations, np.zeros((n, 12)), commands, False, 0.0)
    (picture,) = video.grid([turning], "").pictures  # no map
    assert picture.label == "circle"
    (robot,), _ = picture.at(100)
    np.testing.assert_allclose(robot.command.ahead, [-0.5, 3**0.5 / 2], atol=1e-12)
    np.testing.assert_allclose(robot.path[-1], turning.commanded_path[190])
    assert robot.trail.shape == (11, 2)
    (straight,), _ = video.Followed(episode(task_commands("simple")[0]), "").at(100)
    assert straight.path is None and straight.trail is None


@pytest.mark.extensive
@pytest.mark.usefixtures("drawing")
def test_a_task_of_many_directions_is_drawn(simple, tmp_path):
    """All robots and their trails are in one picture, the map."""
    layout = video.grid([episode(Command(angle)) for angle in range(0, 360, 8)], "45 directions", 32, 24)
    assert layout.size == (7 * 32, 7 * 24)
    video.write_picture(tmp_path / "walk.png", simple.model, layout, 999)
    assert (tmp_path / "walk.png").stat().st_size > 1000


def test_the_camera_keeps_to_the_robot_and_the_map_to_all_of_them():
    found = [episode(command) for command in task_commands("hard")]
    (robot,), view = video.Followed(found[0], "").at(700)
    assert np.linalg.norm(robot.pose[:2]) == pytest.approx(3.5, rel=1e-3)
    np.testing.assert_allclose(view.lookat[:2], robot.pose[:2], atol=0.01)
    robots, near = video.Map(found, "").at(0)
    _, far = video.Map(found, "").at(999)
    assert len(robots) == 8
    assert far.distance > near.distance


def test_one_that_fell_stays_where_it_fell_and_is_labelled():
    picture = video.Followed(episode(task_commands("simple")[0], n=50, fell=True), "agent")
    assert video.Layout([picture], 1, 480, 360).n_steps == 50 + video.HELD
    upright = video.Followed(episode(task_commands("simple")[0], n=60), "agent")
    assert video.Layout([picture, upright], 2, 480, 360).n_steps == 60
    np.testing.assert_array_equal(picture.at(49)[0][0].pose, picture.at(500)[0][0].pose)
    label = video._Label(picture, 480)
    before, after = (np.zeros((360, 480, 3), dtype=np.uint8) for _ in range(2))
    label.put(before, 49)
    label.put(after, 50)
    assert (after > 0).sum() > 1.3 * (before > 0).sum() > 0
