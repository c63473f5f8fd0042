"""The film launcher, its films decoded again."""

import runpy
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from qi_ext.learning.policy import GaussianPolicy
from qi_ext.utils.errors import UserError

LAUNCHER = Path(__file__).parents[2] / "launchers" / "record.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(LAUNCHER))["main"]


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "agent.safetensors"
    policy = GaussianPolicy(37, 12, [16], 0.7, np.random.SeedSequence(0))
    policy.save_agent(path, {"task": "hard", "n_directions": "2", "algorithm": "gail", "demonstrations": "trot"})
    return str(path)


def decoded(path):
    """What the container says, and the pictures, (n, height, width, 3), uint8."""
    reader = imageio_ffmpeg.read_frames(str(path))
    said = next(reader)
    width, height = said["size"]
    return said, np.array([np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in reader])


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "h264"), ("webm", "vp9")])
def test_a_film_moves(main, tmp_path, capsys, suffix, codec):
    path = tmp_path / f"walk.{suffix}"
    main(["--agent", "expert", "--direction", "45", "--seconds", "0.2", "--output", str(path)])
    said, pictures = decoded(path)
    assert said["codec"].startswith(codec)
    assert said["pix_fmt"].startswith("yuv420p")
    assert said["fps"] == 25
    assert pictures.shape == (5, 720, 1280, 3)
    moved = np.abs(np.diff(pictures.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (moved > 0.3).all()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    printed = capsys.readouterr().out
    assert "drawing" in printed
    assert "45 degrees: return 9" in printed


@pytest.mark.usefixtures("drawing")
def test_two_are_beside_each_other_from_the_same_start(main, agent, tmp_path, capsys):
    main(["--agent", agent, "--beside", "expert", "--seconds", "0.2", "--output", str(tmp_path / "walk.mp4")])
    _, pictures = decoded(tmp_path / "walk.mp4")
    assert pictures.shape == (5, 600, 1600, 3)
    left, right = pictures[:, 60:, :800].astype(int), pictures[:, 60:, 800:].astype(int)  # below what is written on them
    apart = np.abs(left - right).mean(axis=(1, 2, 3))
    assert 2.0 * apart[0] < apart[-1]
    said = [line.split(":")[0].strip() for line in capsys.readouterr().out.splitlines() if "return" in line]
    assert said == ["gail on hard, of unknown origin, 0 degrees", "trot controller on hard, 0 degrees"]


@pytest.mark.usefixtures("drawing")
def test_a_grid_shows_each_direction_and_a_map(main, agent, tmp_path, capsys):
    main(["--agent", agent, "--grid", "--seconds", "0.1", "--output", str(tmp_path / "walk.mp4")])
    _, pictures = decoded(tmp_path / "walk.mp4")
    assert pictures.shape == (3, 360, 1440, 3)
    # This agent falls at once, and that is said.
    assert [line.split(":")[0].strip() for line in capsys.readouterr().out.splitlines() if "return" in line] == [
        "0 degrees",
        "180 degrees",
    ]


@pytest.mark.usefixtures("drawing")
def test_a_picture_is_that_of_the_last_moment(main, tmp_path):
    pictures = []
    for seconds in ("0.004", "0.5"):
        main(["--agent", "expert", "--task", "simple", "--seconds", seconds, "--output", str(tmp_path / "walk.png")])
        pictures.append(np.asarray(Image.open(tmp_path / "walk.png")).astype(int))
    assert pictures[0].shape == (720, 1280, 3)
    assert np.abs(pictures[0] - pictures[1]).mean() > 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--output: name the film"),
        (["--output", "walk.avi"], "must end with .mp4, .webm or .png"),
        (["--output", "missing/walk.mp4"], "--output: missing cannot be written to"),
        (["--output", "walk.mp4", "--live"], "not both"),
        (["--live", "--grid"], "--grid: is of films"),
        (["--output", "walk.mp4", "--grid", "--beside", "expert"], "--beside: not with --grid"),
        (["--output", "walk.mp4", "--grid", "--direction", "45"], "--direction: not with --grid"),
        (["--output", "walk.mp4", "--direction", "nan"], "--direction: must be a finite number"),
        (["--output", "walk.mp4", "--seconds", "0"], "--seconds: must be above 0"),
        (["--output", "walk.mp4", "--seed", "-1"], "--seed: must be at least 0"),
        (["--output", "walk.mp4", "--task", "harder"], "--task: must be simple or hard"),
        (["--output", "walk.mp4", "--beside", "missing"], "missing"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(main, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        main(["--agent", "expert", *options])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("display", [None, ":77"])
def test_the_viewer_needs_a_screen(main, monkeypatch, display):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)  # where nothing answers
    with pytest.raises(UserError, match="there is no screen here"):
        main(["--agent", "expert", "--live"])
