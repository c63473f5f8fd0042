"""Walks as a film: one, two beside each other, or all directions at once."""

import math
import multiprocessing
import shutil
import signal
import tempfile
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter1d

from qi_ext.report.rendering import TRUNK_HEIGHT, Renderer, Robot, View, rendering_backend
from qi_ext.robot import a1
from qi_ext.sampling.pool import available_cpus
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically

STEPS_PER_FRAME = 4  # 25 pictures a second, in real time
HELD = 100  # steps that a film goes on after the last fall
SMOOTHED = 50  # steps that the camera's way is averaged over
TRAIL_EVERY = 20  # steps
APART = 0.6  # m, of the robots in a map from where they all would start

# Of 8 directions, where each would be on a map; MAP is one of them all, in the middle.
MAP = None
COMPASS = (3, 2, 1, 4, MAP, 0, 5, 6, 7)

CODECS = {
    ".mp4": ("libx264", ["-crf", "23", "-preset", "fast", "-movflags", "+faststart"]),
    ".webm": ("libvpx-vp9", ["-crf", "33", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1"]),
}


class Followed:
    """A picture of one robot, the camera beside it."""

    def __init__(self, walk, label, distance=1.4):
        self.walks, self.label = [walk], label
        self._poses = walk.poses
        self._way = uniform_filter1d(self._poses[:, :2], SMOOTHED, axis=0, mode="nearest")
        self._distance = distance

    def at(self, t):
        t = min(t, len(self._poses) - 1)
        view = View((*self._way[t], TRUNK_HEIGHT), self._distance)
        return [Robot(self._poses[t], self.walks[0].command)], view


class Map:
    """All robots from above, each with its trail."""

    def __init__(self, walks, label, elevation=-75.0):
        self.walks, self.label = walks, label
        self._poses = []
        for walk in walks:
            poses = walk.poses
            poses[:, :2] += APART * walk.command.features[:2]
            self._poses.append(poses)
        self._elevation = elevation

    def at(self, t):
        robots = []
        for walk, poses in zip(self.walks, self._poses, strict=True):
            now = min(t, len(poses) - 1)
            trail = np.concatenate([poses[:now:TRAIL_EVERY, :2], poses[now : now + 1, :2]])
            robots.append(Robot(poses[now], walk.command, trail))
        reach = max(np.linalg.norm(robot.pose[:2]) for robot in robots)
        # A point as far away as the foremost arrow's end is in the picture wherever it lies, also nearest to the camera.
        return robots, View((0.0, 0.0, 0.0), 2.6 * (reach + 0.75), elevation=self._elevation)


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
        """Until the longest walk ends, and a second more where it fell, so that this is seen."""
        longest = max((walk for picture in self.pictures for walk in picture.walks), key=lambda walk: len(walk.observations))
        return len(longest.observations) + (HELD if longest.fell else 0)


def one(walk, label, width=1280, height=720):
    return Layout([Followed(walk, label)], 1, width, height)


def beside(walks, labels, width=800, height=600):
    return Layout([Followed(*pair) for pair in zip(walks, labels, strict=True)], len(walks), width, height)


def grid(walks, label, width=480, height=360):
    """Each direction where it is on a map, and the map in the middle; of another number than 8, row by row."""
    overview = Map(walks, label)
    followed = [Followed(walk, f"{walk.command.direction_deg:g} degrees") for walk in walks]
    order = COMPASS if len(walks) == 8 else (*range(len(walks)), MAP)
    pictures = [overview if i is MAP else followed[i] for i in order]
    columns = max(min(3, len(pictures)), math.ceil(math.sqrt(len(pictures))))
    return Layout(pictures, columns, width, height)


def frames(model, layout, times, n_processes):
    """Yields the picture of each step in `times`, (height, width, 3), uint8, drawn in `n_processes`.

    Raises UserError where nothing draws.
    """
    backend = rendering_backend()  # here, once, and for its words
    context = multiprocessing.get_context("spawn")  # a forked process would have this one's threads and locks
    with ProcessPoolExecutor(n_processes, context, _Painter.prepare, (model, layout, backend)) as executor:
        waiting = deque()  # a few at a time, because what takes them may be slower
        try:
            for t in times:
                waiting.append(executor.submit(_Painter.paint, t))
                if len(waiting) > 2 * n_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"rendering: a process that draws with {backend} has died; another may do: MUJOCO_GL=osmesa"
            ) from None
        finally:
            executor.shutdown(cancel_futures=True)


class _Painter:
    """What a process that draws has."""

    def __init__(self, model, layout, backend):
        self._layout = layout
        self._labels = [_Label(picture, layout.width) for picture in layout.pictures]
        self._renderer = Renderer(model, layout.width, layout.height, backend)

    @classmethod
    def prepare(cls, model, layout, backend):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for the pictures says when to stop
        cls.here = cls(model, layout, backend)

    @classmethod
    def paint(cls, t):
        return cls.here.frame(t)

    def frame(self, t):
        """The picture of step `t`."""
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

    Raises UserError, OSError; a film that the encoder has cut short is not written.
    """
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
                except OSError:  # which says so in many lines
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
    """What is written in a picture's corner, and that a robot has fallen."""

    def __init__(self, picture, width):
        font = ImageFont.load_default(size=max(16, width // 32))
        self._of = {False: _text(picture.label, font), True: _text(f"{picture.label}: fell", font)}
        single = picture.walks[0] if len(picture.walks) == 1 else None
        self._falls_at = len(single.observations) if single and single.fell else np.inf

    def put(self, area, t):
        shade = self._of[bool(t >= self._falls_at)]
        height, width = shade.shape
        corner = area[8 : 8 + height, 8 : 8 + width]
        corner[:] = np.maximum(corner * 0.45, shade[: corner.shape[0], : corner.shape[1], None])


def _text(text, font):
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (right + 16, bottom + 12))
    ImageDraw.Draw(image).text((8, 4), text, fill=255, font=font)
    return np.asarray(image)
