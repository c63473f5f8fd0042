"""Films of recorded episodes: one, two beside each other, or all directions at once."""

import functools
import math
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter1d

from qi_ext.report.rendering import LOOKED_AT, Renderer, Robot, View
from qi_ext.robot import a1
from qi_ext.robot.courses import Course
from qi_ext.sampling.loky_backend import LokyWorkers, in_order
from qi_ext.sampling.pool import available_cpus
from qi_ext.utils.drawing import rendering_backend
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically

STEPS_PER_FRAME = 4  # 25 pictures a second, in real time
HELD = 100  # steps that a film lasts after a fall
SMOOTHED = 50  # steps over which the camera's path is averaged
TRAIL_EVERY = 20  # steps
LINE_EVERY = 10  # steps, of lines that turn
COURSE_CAMERA = {"distance": 2.4, "elevation": -45.0}
APART = 0.6  # m, from the middle of the map to where its robots start

# Order of 8 directions in a grid of 3 by 3, each where it points on a compass, around the map of all.
MAP = None
COMPASS = (3, 2, 1, 4, MAP, 0, 5, 6, 7)

CODECS = {
    ".mp4": ("libx264", ["-crf", "23", "-preset", "fast", "-movflags", "+faststart"]),
    ".webm": ("libvpx-vp9", ["-crf", "33", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1"]),
}


class Followed:
    """A picture that follows one robot, the camera beside it; along a course with the commanded path and the walked one."""

    def __init__(self, episode, label):
        """episode: a `RecordedEpisode`. label: written in the corner."""
        self.episodes, self.label = [episode], label
        self._poses = episode.poses
        self._path = uniform_filter1d(self._poses[:, :2], SMOOTHED, axis=0, mode="nearest")
        self._on_course = isinstance(episode.command, Course)
        self._commanded = episode.commanded_path[::LINE_EVERY] if self._on_course else None
        self._camera = COURSE_CAMERA if self._on_course else {"distance": 1.4}

    def at(self, t):
        """Return the `Robot`s and the `View` of step t."""
        t = min(t, len(self._poses) - 1)
        view = View((*self._path[t], LOOKED_AT), **self._camera)
        trail = _trail(self._poses, t, LINE_EVERY) if self._on_course else None
        return [Robot(self._poses[t], self.episodes[0].commands[t], trail, self._commanded)], view


class Map:
    """A picture of all robots from above, each with its trail."""

    def __init__(self, episodes, label, elevation=-75.0):
        self.episodes, self.label = episodes, label
        self._poses = []
        for episode in episodes:
            poses = episode.poses
            poses[:, :2] += APART * episode.command.features[:2]
            self._poses.append(poses)
        self._elevation = elevation

    def at(self, t):
        """Return the `Robot`s and the `View` of step t."""
        robots = []
        for episode, poses in zip(self.episodes, self._poses, strict=True):
            now = min(t, len(poses) - 1)
            robots.append(Robot(poses[now], episode.commands[now], _trail(poses, now, TRAIL_EVERY)))
        reach = max(np.linalg.norm(robot.pose[:2]) for robot in robots)
        # From this far, the end of the foremost robot's arrow is in the picture on every side, the camera's too.
        return robots, View((0.0, 0.0, 0.0), 2.6 * (reach + 0.75), elevation=self._elevation, shadows=False)


def _trail(poses, now, every):
    """Return where a robot has been until step `now`, (n, 2), m, a point each so many steps."""
    return np.concatenate([poses[:now:every, :2], poses[now : now + 1, :2]])


@dataclass(frozen=True)
class Layout:
    """Pictures in rows of `columns`, each of `width` by `height` pixels (even numbers)."""

    pictures: list
    columns: int
    width: int
    height: int

    @property
    def size(self):
        rows = -(-len(self.pictures) // self.columns)
        return self.columns * self.width, rows * self.height

    @property
    def n_steps(self):
        """Steps of the longest episode, and a second more where it ends by a fall, so that the fall is seen."""
        episodes = [episode for picture in self.pictures for episode in picture.episodes]
        longest = max(episodes, key=lambda episode: len(episode.observations))
        return len(longest.observations) + (HELD if longest.fell else 0)


def one(episode, label, width=1280, height=720):
    """Return the `Layout` of one `RecordedEpisode`."""
    return Layout([Followed(episode, label)], 1, width, height)


def beside(episodes, labels, width=800, height=600):
    """Return the `Layout` of several `RecordedEpisode`s beside each other."""
    return Layout([Followed(*pair) for pair in zip(episodes, labels, strict=True)], len(episodes), width, height)


def grid(episodes, label, width=480, height=360):
    """Return the `Layout` of a map and each direction: 8 around the map as on a compass, another number row by row.

    Courses, which would lie over each other on a map, are without one.
    """
    followed = [Followed(episode, episode.label) for episode in episodes]
    if isinstance(episodes[0].command, Course):
        return Layout(followed, math.ceil(math.sqrt(len(followed) * 16 / 9)), width, height)
    overview = Map(episodes, label)
    order = COMPASS if len(episodes) == 8 else (*range(len(episodes)), MAP)
    pictures = [overview if i is MAP else followed[i] for i in order]
    columns = max(min(3, len(pictures)), math.ceil(math.sqrt(len(pictures))))
    return Layout(pictures, columns, width, height)


def frames(model, layout, times, n_processes):
    """Yield the picture of each step in `times`, (height, width, 3), uint8, drawn in `n_processes` processes.

    Raises UserError where nothing draws.
    """
    backend = rendering_backend()  # in this process, once, where its error can be raised
    painters = LokyWorkers(n_processes, _Painter.prepare, (model, layout, backend))
    try:
        # A few at a time, because the encoder may be slower.
        yield from in_order(painters, (functools.partial(_Painter.paint, t) for t in times), 2 * n_processes)
    except RuntimeError as error:  # of one that died, or could not begin
        fault = painters.fault or error
        if isinstance(error, painters.death) and not painters.fault:
            fault = f"a process that draws with {backend} has died"
        raise UserError(f"rendering: {fault}; another library may work: MUJOCO_GL=osmesa") from None


class _Painter:
    """The state of a process that draws."""

    def __init__(self, model, layout, backend):
        self._layout = layout
        self._labels = [_Label(picture, layout.width) for picture in layout.pictures]
        self._renderer = Renderer(model, layout.width, layout.height, backend)

    @classmethod
    def prepare(cls, model, layout, backend):
        cls.instance = cls(model, layout, backend)

    @classmethod
    def paint(cls, t):
        return cls.instance.frame(t)

    def frame(self, t):
        """Draw all pictures of the layout at step `t`."""
        layout = self._layout
        frame = np.zeros((*reversed(layout.size), 3), dtype=np.uint8)
        for i, (picture, label) in enumerate(zip(layout.pictures, self._labels, strict=True)):
            row, column = divmod(i, layout.columns)
            area = frame[row * layout.height :, column * layout.width :][: layout.height, : layout.width]
            area[:] = self._renderer.draw(*picture.at(t))
            label.put(area, t)
        return frame


def write_video(path, model, layout, n_steps, progress=lambda n: None):
    """Write a film of `n_steps` steps to `path`, mp4 (H.264) or webm (VP9).

    Raises UserError, and OSError where the encoder stops early; nothing is written then.
    """
    rendering_backend()  # before an encoder runs that would complain of no frames
    path = Path(path)
    codec, parameters = CODECS[path.suffix]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, path.name)
        writer = imageio_ffmpeg.write_frames(
            str(whole),
            layout.size,
            fps=1.0 / (STEPS_PER_FRAME * a1.CONTROL_DT),
            codec=codec,
            pix_fmt_out="yuv420p",
            macro_block_size=2,
            output_params=parameters,
        )
        times = range(0, n_steps, STEPS_PER_FRAME)
        cut_short = OSError(f"{path}: the encoder did not write the whole film; is there room in {tempfile.gettempdir()}?")
        with closing(writer):
            writer.send(None)
            for t, frame in zip(times, frames(model, layout, times, available_cpus()), strict=True):
                try:
                    writer.send(frame)
                except OSError:  # whose message is the encoder's whole log
                    raise cut_short from None
                progress(min(STEPS_PER_FRAME, n_steps - t))
        try:
            n_written, _ = imageio_ffmpeg.count_frames_and_secs(str(whole))
        except RuntimeError:
            n_written = 0
        if n_written != len(times):
            raise cut_short
        with whole.open("rb") as source, write_atomically(path) as target:
            shutil.copyfileobj(source, target)


def write_picture(path, model, layout, step):
    """Write the film's picture of one step to `path`, png. Raises UserError, OSError."""
    (frame,) = frames(model, layout, [step], 1)
    with write_atomically(path) as file:
        Image.fromarray(frame).save(file, format="PNG")


class _Label:
    """The text in a picture's corner, which says when its robot has fallen."""

    def __init__(self, picture, width):
        font = ImageFont.load_default(size=max(16, width // 32))
        self._shades = {False: _text(picture.label, font), True: _text(f"{picture.label}: fell", font)}
        single = picture.episodes[0] if len(picture.episodes) == 1 else None
        self._falls_at = len(single.observations) if single and single.fell else np.inf

    def put(self, area, t):
        shade = self._shades[bool(t >= self._falls_at)]
        height, width = shade.shape
        corner = area[8 : 8 + height, 8 : 8 + width]
        corner[:] = np.maximum(corner * 0.45, shade[: corner.shape[0], : corner.shape[1], None])


def _text(text, font):
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (right + 16, bottom + 12))
    ImageDraw.Draw(image).text((8, 4), text, fill=255, font=font)
    return np.asarray(image)
