"""The film launcher, its films decoded again."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from qi_ext.utils.errors import UserError


@pytest.fixture(scope="module")
def main(main_of):
    return main_of("record.py")


def decoded(path):
    """What the container says, and the pictures, (n, height, width, 3), uint8."""
    reader = imageio_ffmpeg.read_frames(str(path))
    container = next(reader)
    width, height = container["size"]
    return container, np.array([np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in reader])


def titles(capsys):
    """The titles of the episodes whose returns were printed."""
    return [line.split(":")[0].strip() for line in capsys.readouterr().out.splitlines() if "return" in line]


@pytest.mark.usefixtures("drawing")
def test_a_picture_is_the_last_moment_of_the_episode(main, make_agent, tmp_path, capsys):
    main(["--agent", make_agent(), "--seconds", "0.1", "--output", str(tmp_path / "walk.png")])
    picture = np.asarray(Image.open(tmp_path / "walk.png"))
    assert picture.shape == (720, 1280, 3)
    assert picture.std() > 10.0
    assert titles(capsys) == ["0 degrees"]


def drawn_on_the_floor(path):
    """Numbers of blue and orange pixels below the middle, where the arrow is not."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(path))[400:].astype(int), -1, 0)
    return np.sum((blue > 150) & (red < 100)), np.sum((red > 150) & (blue < 90))


@pytest.mark.usefixtures("drawing")
def test_a_picture_of_a_course_has_the_commanded_path_and_the_walked_one(main, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("- {seconds: 5, turn_rate: 60}")
    options = ["--agent", "expert", "--task", "follow", "--seconds", "1", "--output", str(tmp_path / "walk.png")]
    main([*options, "--course", str(tmp_path / "mine.yaml")])
    walked, commanded = drawn_on_the_floor(tmp_path / "walk.png")
    assert walked > 500 and commanded > 300
    main([*options, "--direction", "90", "--heading", "30", "--speed", "0.3"])
    assert drawn_on_the_floor(tmp_path / "walk.png") == (0, 0)
    assert titles(capsys) == ["mine", "90 degrees"]


@pytest.mark.extensive
@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "h264"), ("webm", "vp9")])
def test_a_film_moves(main, tmp_path, capsys, suffix, codec):
    path = tmp_path / f"walk.{suffix}"
    main(["--agent", "expert", "--direction", "45", "--seconds", "0.2", "--output", str(path)])
    container, pictures = decoded(path)
    assert container["codec"].startswith(codec)
    assert container["pix_fmt"].startswith("yuv420p")
    assert container["fps"] == 25
    assert pictures.shape == (5, 720, 1280, 3)
    moved = np.abs(np.diff(pictures.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (moved > 0.3).all()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    printed = capsys.readouterr().out
    assert "drawing" in printed
    assert "45 degrees: return 19 of at most 20 in 0.2 s" in printed  # of the steps that are shown


@pytest.mark.extensive
@pytest.mark.usefixtures("drawing")
def test_two_are_beside_each_other_from_the_same_start(main, make_agent, tmp_path, capsys):
    agent = make_agent(task="hard", n_directions="2")
    main(["--agent", agent, "--beside", "expert", "--seconds", "0.2", "--output", str(tmp_path / "walk.mp4")])
    _, pictures = decoded(tmp_path / "walk.mp4")
    assert pictures.shape == (5, 600, 1600, 3)
    left, right = pictures[:, 60:, :800].astype(int), pictures[:, 60:, 800:].astype(int)  # below the labels
    apart = np.abs(left - right).mean(axis=(1, 2, 3))
    assert 2.0 * apart[0] < apart[-1]
    assert titles(capsys) == ["gail on hard, of unknown origin, 0 degrees", "trot controller on hard, 0 degrees"]


@pytest.mark.extensive
@pytest.mark.usefixtures("drawing")
def test_a_grid_shows_each_direction_and_a_map(main, make_agent, tmp_path, capsys):
    agent = make_agent(task="hard", n_directions="2")
    main(["--agent", agent, "--grid", "--seconds", "0.1", "--output", str(tmp_path / "walk.mp4")])
    _, pictures = decoded(tmp_path / "walk.mp4")
    assert pictures.shape == (3, 360, 1440, 3)
    assert titles(capsys) == ["0 degrees", "180 degrees"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--output: name the film"),
        (["--output", "walk.avi"], "must end with .mp4, .webm or .png"),
        (["--output", "missing/walk.mp4"], "--output: missing cannot be written to"),
        (["--output", "walk.mp4", "--live"], "not both"),
        (["--live", "--grid"], "--grid: not with --live"),
        (["--output", "walk.mp4", "--grid", "--beside", "expert"], "--beside: not with --grid"),
        (["--output", "walk.mp4", "--grid", "--direction", "45"], "--direction: not with --grid"),
        (["--output", "walk.mp4", "--direction", "nan"], "--direction: must be a finite number"),
        (["--output", "walk.mp4", "--speed", "-1"], "--speed: must be at least 0"),
        (["--output", "walk.mp4", "--course", "circle"], "--course: only on follow, and expert is on hard"),
        (["--output", "walk.mp4", "--heading", "9", "--task", "simple"], "--heading: only on follow"),
        (["--output", "walk.mp4", "--task", "follow", "--course", "circel"], "no course 'circel'; choose one of"),
        (["--output", "walk.mp4", "--task", "follow", "--course", "circle", "--grid"], "--course: not with --grid"),
        (["--output", "walk.mp4", "--task", "follow", "--course", "circle", "--speed", "1"], "--speed: not with --course"),
        (["--output", "walk.mp4", "--task", "follow", "--keyboard"], "--keyboard: only with --live"),
        (["--live", "--keyboard"], "--keyboard: only on follow"),
        (["--live", "--keyboard", "--gamepad"], "--gamepad: not with --keyboard"),
        (["--live", "--task", "follow", "--keyboard", "--course", "circle"], "--course: not with --keyboard"),
        (["--output", "walk.mp4", "--seconds", "0"], "--seconds: must be at least 0.01"),
        (["--output", "walk.mp4", "--seconds", "1e30"], "--seconds: must be at most"),
        (["--output", "walk.mp4", "--direction", "1e300"], "--direction: must be at most 360"),
        (["--output", "walk.mp4", "--seed", "-1"], "--seed: must be at least 0"),
        (["--output", "walk.mp4", "--task", "harder"], "--task: must be simple, hard or follow"),
        (["--output", "walk.mp4", "--beside", "missing"], "missing"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(main, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        main(["--agent", "expert", *options])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("display", [None, ":77"])  # where nothing answers
def test_the_viewer_needs_a_screen(main, monkeypatch, display):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(UserError, match="there is no screen here"):
        main(["--agent", "expert", "--live"])
