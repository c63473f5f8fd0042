"""Motion clips of AMP and its forks, JSON files of poses, read as demonstrations; motion_clip_writer.py writes them.

A frame holds 61 numbers, or the first 19 of them: position of the trunk (m, world) and its quaternion (x, y, z, w); angles of
the legs (rad), in the order FL, FR, RL, RR unless `LegOrder` says another; positions of the feet (m, trunk's frame); linear and
angular velocity of the trunk (trunk's frame); velocities of the joints; velocities of the feet (trunk's frame). Source: Peng et
al., Learning Agile Robotic Locomotion Skills by Imitating Animals (2020), and the clips of its successors, compared with the
robot's kinematics.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import FailFast, Field, TypeAdapter
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from scipy.spatial.transform import Rotation
from typing_extensions import TypedDict  # of typing, pydantic takes none before Python 3.12

from qi_ext.demonstrations.conventions import joints_of
from qi_ext.demonstrations.dataset import HZ, Demonstrations
from qi_ext.demonstrations.meaning import TRAVELS
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.frames import in_command_frame, turned, wrapped
from qi_ext.robot.kinematics import TRUNK_HEIGHT
from qi_ext.robot.mirror import mirror_observations
from qi_ext.utils.errors import UserError
from qi_ext.utils.output import printable
from qi_ext.utils.reading import checked, parse_json, read_text

SUFFIXES = (".txt", ".json")
SHORT, LONG = 19, 61  # numbers of a frame
POSITION, QUATERNION, JOINTS = slice(0, 3), slice(3, 7), slice(7, 19)
LINEAR, ANGULAR, JOINT_VELOCITIES = slice(31, 34), slice(34, 37), slice(37, 49)
LEG_ORDER = ("FL", "FR", "RL", "RR")
MAX_BYTES = 2**25
MAX_CLIPS = 1000
MAX_NAMED = 10  # clips, in a source and in notes
MAX_FRAMES, MIN_FRAMES = 100_000, 4
MIN_TURN_RATE, MIN_TURN = (
    0.2,
    math.radians(20.0),
)  # rad/s, mean, and rad, in all, from which a clip's heading turns, not only sways
UNTURNED_WITHIN = math.radians(2.0)  # of its heading, rad, a clip is left as it is
DURATION_SLOPE = (0.8, 1.25)  # public clips 1.00; 50 Hz said to be 100 Hz 2, degrees a second 0.017
TELLING = 0.75  # share of the movement that velocities must explain for their factor to be looked at; public clips 1.00
UPRIGHT = 0.5  # cosine of the trunk's inclination
ON_END = 0.99  # sine of the pitch, near which roll and yaw cannot be told apart
MAX_COMMAND = 360.0  # of its direction, degrees, and far above any speed
GRID = 45.0  # degrees, between directions of commands


class _Clip(TypedDict, total=False):
    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012 (pydantic reads it)

    FrameDuration: Annotated[float, Field(ge=1e-3, le=0.2)]
    Frames: Annotated[
        list[Annotated[list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=SHORT, max_length=LONG), FailFast()]],
        Field(min_length=MIN_FRAMES, max_length=MAX_FRAMES),
        FailFast(),  # or a file of millions of faults takes gigabytes
    ]
    Command: Annotated[list[Annotated[float, Field(ge=0.0, le=MAX_COMMAND)]], Field(min_length=2, max_length=2)]
    LegOrder: Annotated[list[Literal["FR", "FL", "RR", "RL"]], Field(min_length=4, max_length=4)]


_CLIP: Any = TypeAdapter(_Clip)


def listed(name: str) -> list[str]:
    """Return the paths in `name`: itself where there is such a file or folder, else those between its commas."""
    return [name] if os.path.exists(name) else name.split(",")


def is_clips(name: str) -> bool:
    """Return True for motion clips: .txt or .json files with commas between, or a folder."""
    return bool(name) and (os.path.isdir(name) or all(Path(each).suffix.lower() in SUFFIXES for each in listed(name)))


def clip_paths(name: str) -> list[Path]:
    """Return the files that `name` says, as `is_clips` takes it. Raises UserError where a folder holds none."""
    if not os.path.isdir(name):
        return [Path(each) for each in listed(name)]
    found = sorted(path for path in Path(name).iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(
            f"demonstrations: {name}: is a directory without motion clips (.txt, .json); name a file, or their folder"
        )
    if len(found) > MAX_CLIPS:
        raise UserError(
            f"demonstrations: {name}: holds {len(found):,} clips, and may hold {MAX_CLIPS:,}; make two folders of it"
        )
    return found


def read_clips(name: str) -> Demonstrations:
    """Return `Demonstrations` of motion clips, a segment each, then those of their mirror images; not yet checked.

    Frames are resampled to 100 Hz. Velocities are those of the file where they are of the frame's own time. Differences to a
    neighbouring frame, which belong to the time half a frame away, are taken anew from the positions. Each clip is turned about
    the vertical so that its mean heading is +x, or, where it travels, so that it travels in one of the 8 directions, the one
    nearest to where its heading says that it goes; within 2 degrees it is left as it is. This direction and its mean speed are
    its command. A clip of ours says its `Command`, degrees and m/s, and is not turned. Where one of them turns, all have
    `headings`, for `follow`; its own is the straight line through its yaw.
    Raises UserError, in one line, where a file cannot be read.
    """
    paths = clip_paths(name)
    try:
        clips = [_read(path) for path in paths]
    except UserError as error:
        hint = "; if it is no motion clip, take it out of the folder" if os.path.isdir(name) else ""
        raise UserError(f"demonstrations: {error}{hint}") from None
    follow = any(clip.rate for clip in clips)
    parts, commands, headings, notes = [], [], [], []
    for clip in clips:
        states, heading, command, said = _in_the_frame_of_its_command(clip)
        parts += [states]
        commands.append(command)
        headings.append(heading)
        notes.append(f"{clip.name}: {said}")
    more = f" and {len(clips) - MAX_NAMED} more" if len(clips) > MAX_NAMED else ""
    images = [mirror_observations(states) for states in parts]
    commands += [Command(-command.direction_deg % 360.0, command.speed) for command in commands]
    bounds = np.cumsum([0, *(len(states) for states in (*parts, *images))])
    return Demonstrations(
        states=np.concatenate([*parts, *images]),
        bounds=bounds.astype(np.int64),
        commands=tuple(commands),
        kind=("recorded",) * len(commands),
        source=printable(
            f"motion clips: {', '.join(clip.name + ' (turning)' * bool(clip.rate) for clip in clips[:MAX_NAMED])}{more}"
        ),
        synthetic=False,
        headings=np.concatenate([*headings, *(-heading for heading in headings)]) if follow else None,
        notes=(*notes[:MAX_NAMED], f"each{more} with its mirror image"),
    )


@dataclass(frozen=True)
class _Motion:
    """A clip at 100 Hz: positions and velocities, (n, 18), of `a1.JOINTS` in the world; yaw, (n,), rad, straight in time."""

    name: str
    positions: np.ndarray
    velocities: np.ndarray
    yaw: np.ndarray
    rate: float  # of yaw, rad/s; 0 where it does not turn
    command: Command | None  # that the clip says
    said: str


def _read(path: Path) -> _Motion:
    # Public clips have commas after the last number of a list.
    text = re.sub(r",(\s*[\]}])", r"\1", read_text(path, MAX_BYTES))
    clip = checked(parse_json(text, path), _CLIP, path)
    for name in ("Frames", "FrameDuration"):
        if name not in clip:
            raise UserError(f"{path}: has no {name}; is it a motion clip?")
    lengths = {len(frame) for frame in clip["Frames"]}
    if lengths not in ({SHORT}, {LONG}):
        found = " or ".join(map(str, sorted(lengths)))
        raise UserError(f"{path}: frames hold {found} numbers, but all must hold {SHORT}, or all {LONG}")
    frames, step = np.array(clip["Frames"]), clip["FrameDuration"]
    if (len(frames) - 1) * step > MAX_FRAMES / HZ:
        raise UserError(f"{path}: lasts more than {MAX_FRAMES / HZ:,.0f} s; cut it")
    norms = np.linalg.norm(frames[:, QUATERNION], axis=1)
    if np.abs(norms - 1.0).max() > 0.1:
        worst = np.abs(norms - 1.0).argmax()
        raise UserError(f"{path}: the quaternion of frame {worst} is {norms[worst]:.3g} long, not 1")
    order = clip.get("LegOrder", LEG_ORDER)
    if len(set(order)) < len(a1.LEGS):
        raise UserError(f"{path}: LegOrder names a leg twice: {', '.join(order)}")
    rotation = Rotation.from_quat(frames[:, QUATERNION])
    _require_order(frames[:, QUATERNION], rotation, path)
    on_end = np.abs(rotation.as_matrix()[:, 0, 2])
    if on_end.max() > ON_END:
        raise UserError(f"{path}: the trunk stands on end in frame {on_end.argmax()}; is the quaternion x, y, z, w?")
    legs = joints_of([a1.LEGS.index(leg) for leg in order])
    if frames.shape[1] == LONG:
        _require_duration(frames[:, JOINTS], frames[:, JOINT_VELOCITIES], step, path)
    command = None
    if "Command" in clip:
        direction, speed = clip["Command"]
        command = Command(direction % 360.0, speed)
    return _resampled(printable(path.stem), frames, rotation, step, legs, command)


def _require_order(quaternions: np.ndarray, rotation: Rotation, path: Path) -> None:
    """Raise UserError where the trunk is upright only if the quaternion is taken as w, x, y, z."""
    upright, otherwise = (
        np.median(each.as_matrix()[:, 2, 2]) for each in (rotation, Rotation.from_quat(np.roll(quaternions, -1, axis=1)))
    )
    if upright < UPRIGHT < otherwise:
        raise UserError(f"{path}: the trunk lies down or upside down: is the quaternion w, x, y, z? a clip's is x, y, z, w")


def _require_duration(joints: np.ndarray, velocities: np.ndarray, step: float, path: Path) -> None:
    """Raise UserError where velocities explain how joints move but for a factor, which FrameDuration or their unit must have.

    joints, velocities: (n, 12). Velocities may be those of a frame or the differences to the next or the last one; where they
    explain the movement in none of these ways, nothing is said.
    """
    moved = np.diff(joints, axis=0)
    explained, slope = 0.0, 1.0
    for rate in (0.5 * (velocities[1:] + velocities[:-1]), velocities[:-1], velocities[1:]):
        both, square = np.sum(moved * rate), np.sum(rate**2)
        if square > 0.0 and both**2 > explained * square * np.sum(moved**2):
            explained, slope = both**2 / (square * np.sum(moved**2)), both / (step * square)
    if explained < TELLING or DURATION_SLOPE[0] <= slope <= DURATION_SLOPE[1]:
        return
    cause = "in degrees a second" if abs(slope * 180.0 / math.pi - 1.0) < 0.1 else f"of frames that last {slope * step:.3g} s"
    cause = cause if slope > 0.0 else "of the other sign"
    raise UserError(
        f"{path}: FrameDuration is {step:g} s, and joints move {slope:.3g} times as far in it as their velocities say: are "
        f"these {cause}?"
    )


def _resampled(
    name: str, frames: np.ndarray, rotation: Rotation, step: float, legs: np.ndarray, command: Command | None
) -> _Motion:
    """Return the clip at 100 Hz. rotation: of the trunk in each frame. legs: index in a frame of each of our 12 joints."""
    angles = np.unwrap(rotation.as_euler("XYZ"), axis=0)
    trunk = frames[:, POSITION] - (0.0, 0.0, TRUNK_HEIGHT)
    positions = np.concatenate([trunk, angles, frames[:, JOINTS][:, legs]], axis=1)
    time, rows = step * np.arange(len(frames)), np.arange(math.floor((len(frames) - 1) * step * HZ + 1e-6) + 1) / HZ
    velocities = None
    if frames.shape[1] == LONG:
        linear = rotation.apply(frames[:, LINEAR])
        rates = np.linalg.solve(rate_axes(angles), rotation.apply(frames[:, ANGULAR])[..., None])[..., 0]
        velocities = np.concatenate([linear, rates, frames[:, JOINT_VELOCITIES][:, legs]], axis=1)
    own = velocities is not None and _are_of_their_frame(positions, velocities, step)
    spline = CubicHermiteSpline(time, positions, velocities) if own else CubicSpline(time, positions)
    at = np.minimum(rows, time[-1])
    forward = rotation.apply((1.0, 0.0, 0.0))
    yaw = np.unwrap(np.arctan2(forward[:, 1], forward[:, 0]))
    rate, mean = np.polyfit(time - time.mean(), yaw, 1)
    rate = rate if command is None and abs(rate) > MIN_TURN_RATE and abs(rate) * time[-1] > MIN_TURN else 0.0
    of = "of the file" if own else "from the positions"
    said = f"{len(frames)} frames at {1.0 / step:g} Hz, velocities {of}"
    return _Motion(name, spline(at), spline(at, 1), mean + rate * (at - time.mean()), float(rate), command, said)


def rate_axes(angles: np.ndarray) -> np.ndarray:
    """Axes of the rates of intrinsic x-y-z angles in the world, (n, 3, 3): angular velocity = axes @ rates."""
    roll, pitch = angles[:, 0], angles[:, 1]
    zero, one = np.zeros(len(angles)), np.ones(len(angles))
    return np.stack(
        [
            np.stack([one, zero, np.sin(pitch)], axis=1),
            np.stack([zero, np.cos(roll), -np.sin(roll) * np.cos(pitch)], axis=1),
            np.stack([zero, np.sin(roll), np.cos(roll) * np.cos(pitch)], axis=1),
        ],
        axis=1,
    )


def _are_of_their_frame(positions: np.ndarray, velocities: np.ndarray, step: float) -> bool:
    """Return True where velocities explain the movement of joints better than as differences to a neighbouring frame."""
    moved, rates = np.diff(positions[:, 6:], axis=0), velocities[:, 6:]
    both, next_alone, last_alone = (
        np.linalg.norm(moved - step * rate) for rate in (0.5 * (rates[1:] + rates[:-1]), rates[:-1], rates[1:])
    )
    return bool(both < min(next_alone, last_alone, 0.5 * np.linalg.norm(moved)))


def _in_the_frame_of_its_command(motion: _Motion) -> tuple[np.ndarray, np.ndarray, Command, str]:
    """Return states, (n, 37), headings, (n, 2), the command, and words for what was done."""
    heading, command = np.zeros_like(motion.yaw), motion.command
    if command is None:
        heading, command = _heading_and_command(motion)
    said = motion.said
    if not motion.rate and abs(wrapped(heading[0])) < UNTURNED_WITHIN:
        heading = np.zeros_like(heading)
    elif not motion.rate:
        said += f", turned by {-math.degrees(wrapped(heading[0])):.0f} degrees"
    states = np.empty((len(heading), a1.N_OBSERVATIONS))
    for row in range(len(states)):
        position, velocity = turned(motion.positions[row, :6], motion.velocities[row, :6], -heading[row], -motion.rate)
        states[row, a1.POSITION] = *position[2:], *motion.positions[row, 6:]
        states[row, a1.VELOCITY] = *velocity, *motion.velocities[row, 6:]
    states[:, a1.GOAL] = command.features
    turns = f", turning by {math.degrees(motion.rate):.0f} degrees/s" if motion.rate else ""
    said += f": {len(states)} rows, {command.direction_deg:g} degrees at {command.speed:.2f} m/s{turns}"
    return states, np.stack([heading - heading[0], np.full(len(states), motion.rate)], axis=1), command, said


def _heading_and_command(motion: _Motion) -> tuple[np.ndarray, Command]:
    """Return the heading, (n,), rad, relative to which a clip travels in one of the 8 directions, and that as its command."""
    vx, vy = motion.velocities[:, 0], motion.velocities[:, 1]
    along, across = (np.mean(each) for each in in_command_frame(vx, vy, np.cos(motion.yaw), np.sin(motion.yaw)))
    speed, course = float(np.hypot(along, across)), math.degrees(math.atan2(across, along))
    if speed < TRAVELS:
        return motion.yaw, Command(0.0, round(speed, 2))
    direction = GRID * round(course / GRID)
    return motion.yaw + math.radians(course - direction), Command(direction % 360.0, round(speed, 2))
