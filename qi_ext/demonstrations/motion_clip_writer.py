"""Demonstrations as motion clips of AMP and its forks, for other people's tools; motion_clips.py says what a frame holds."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from qi_ext.demonstrations.conventions import joints_of
from qi_ext.demonstrations.dataset import HZ, Demonstrations
from qi_ext.demonstrations.loco_mujoco_formats import integrated
from qi_ext.demonstrations.measures import ROWS
from qi_ext.demonstrations.motion_clips import LEG_ORDER, MAX_CLIPS, rate_axes
from qi_ext.robot import a1
from qi_ext.robot.kinematics import TRUNK_HEIGHT, feet, feet_velocities
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_name, require_writable, write_whole

DIGITS = 9  # after the point


def write_clips(folder: str | Path, demonstrations: Demonstrations) -> None:
    """Write each segment of `Demonstrations` as a motion clip into a new folder, which appears when it is whole.

    Raises UserError where there is such a folder, it cannot be written, commands change within segments, which clips do not
    say, or segments are so many, or so short, that the folder could not be learned from.
    """
    if demonstrations.headings is not None:
        raise UserError(f"demonstrations: {folder}: clips hold one command each, and these change; write our format")
    require_readable(demonstrations.n_segments, int(np.diff(demonstrations.bounds).min()), f"demonstrations: {folder}")
    require_new_folder(folder, "demonstrations")
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix=".clips.", dir=folder.parent) as temporary:
        whole = Path(temporary, "clips")
        whole.mkdir()
        for index, kind in enumerate(demonstrations.kind):
            write_clip(whole / f"{index:04d}-{kind}.txt", demonstrations, index)
        whole.rename(folder)


def require_readable(n_clips: int, n_rows: int, where: str) -> None:
    """Raise UserError, beginning with `where`, unless a folder of so many clips, of `n_rows` at least, can be learned from."""
    if n_clips > MAX_CLIPS:
        raise UserError(
            f"{where}: makes {n_clips:,} clips, and a folder may hold {MAX_CLIPS:,}; record less, or another format"
        )
    if n_rows < ROWS[0]:
        raise UserError(f"{where}: makes clips of {n_rows} rows, and one needs {ROWS[0]}, half a second; record longer ones")


def require_new_folder(folder: str | Path, option: str) -> None:
    """Raise UserError, naming `option`, unless a folder can be made at this path."""
    require_name(folder, option)
    if Path(folder).exists():
        raise UserError(f"{option}: {folder} is there already; name a new folder")
    require_writable(Path(folder).parent, option)


def write_clip(path: str | Path, demonstrations: Demonstrations, index: int = 0, hz: float = HZ) -> None:
    """Write a segment of `Demonstrations` as a motion clip of 61 numbers a frame, at `hz` frames a second.

    It says its command, too, unless the command changes.
    Velocities are those of each frame's own time. Frames between two rows are interpolated by the cubic through positions and
    velocities. Raises UserError where the file cannot be written.
    """
    states, command = demonstrations.states[demonstrations.segment(index)], demonstrations.commands[index]
    velocities = states[:, a1.VELOCITY]
    positions = np.concatenate([integrated(velocities[:, :2]), states[:, a1.POSITION]], axis=1)
    time = np.arange(len(positions)) / HZ
    at = np.arange(math.floor(time[-1] * hz + 1e-6) + 1) / hz
    spline = CubicHermiteSpline(time, positions, velocities)
    positions, velocities = spline(at), spline(at, 1)
    rotation = Rotation.from_euler("XYZ", positions[:, 3:6])
    order = [a1.LEGS.index(leg) for leg in LEG_ORDER]
    # To exchange left and right is its own inverse, so the reader's index serves here, too.
    legs = joints_of(order)
    # With the trunk at the origin and at rest, feet are in its frame.
    resting = np.concatenate([np.zeros((len(positions), 6)), positions[:, 6:]], axis=1)
    moving = np.concatenate([np.zeros((len(positions), 6)), velocities[:, 6:]], axis=1)
    frames = np.concatenate(
        [
            positions[:, :3] + (0.0, 0.0, TRUNK_HEIGHT),
            rotation.as_quat(),
            positions[:, 6:][:, legs],
            (feet(resting) - (0.0, 0.0, TRUNK_HEIGHT))[:, order].reshape(len(positions), 12),
            rotation.inv().apply(velocities[:, :3]),
            rotation.inv().apply((rate_axes(positions[:, 3:6]) @ velocities[:, 3:6, None])[..., 0]),
            velocities[:, 6:][:, legs],
            feet_velocities(resting, moving)[:, order].reshape(len(positions), 12),
        ],
        axis=1,
    )
    lines = ",\n".join(json.dumps([round(number, DIGITS) for number in frame]) for frame in frames.tolist())
    head = {
        "LoopMode": "Clamp",
        "FrameDuration": 1.0 / hz,
        "MotionWeight": 1.0,
        "EnableCycleOffsetPosition": True,
        "EnableCycleOffsetRotation": True,
    }
    if demonstrations.headings is None:
        # The reader would take a push, or a slow walk, for another command.
        head["Command"] = [command.direction_deg, command.speed]
    opening = json.dumps(head, indent=0).removesuffix("\n}")
    write_whole(path, f'{opening},\n"Frames":\n[\n{lines}\n]\n}}\n')
