"""Load demonstrations by name: find the file, read it, check it, and fit it to the task's commands."""

import importlib.resources
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from qi_ext.demonstrations import minari
from qi_ext.demonstrations.checks import check, check_form
from qi_ext.demonstrations.dataset import Demonstrations
from qi_ext.demonstrations.formats import read
from qi_ext.demonstrations.meaning import check_meaning
from qi_ext.demonstrations.motion_clips import clip_paths, is_clips, listed, read_clips
from qi_ext.robot import a1
from qi_ext.robot.commands import Command, angle_between, differ_in_speed, label_among, nearest_command
from qi_ext.robot.courses import Course
from qi_ext.robot.frames import velocity_in_command_frame
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_name
from qi_ext.utils.programs import command as shell_command
from qi_ext.utils.words import typed

__all__ = ["load_demonstrations", "resolved_name"]

COMPAT = ("task", "upstream")
WIDEST = 22.5  # degrees at most from a recorded direction to the task's that it stands for
# M/s by which a speed may differ from the commanded one: an expert that keeps to it earns 0.61 of 1 a step. One that walks at
# another gets a note; of several commanded speeds, a recorded one that is further from all of them stands for none.
SLOW = 0.1


@overload
def load_demonstrations(
    name: None,
    commands: Sequence[Command | Course],
    compat: str = "task",
    fit: bool = False,
    max_pitch: float = a1.MAX_PITCH,
) -> None: ...


@overload
def load_demonstrations(
    name: str | Path | Demonstrations,
    commands: Sequence[Command | Course],
    compat: str = "task",
    fit: bool = False,
    max_pitch: float = a1.MAX_PITCH,
) -> Demonstrations: ...


def load_demonstrations(
    name: str | Path | Demonstrations | None,
    commands: Sequence[Command | Course],
    compat: str = "task",
    fit: bool = False,
    max_pitch: float = a1.MAX_PITCH,
) -> Demonstrations | None:
    """Return `Demonstrations` for a task that draws from `commands`.

    name: `trot`, the embedded synthetic set of our trot expert; `loco-mujoco`, its own real set where installed, else its
    perfect one; `minari:` and the id of a local Minari dataset, of `make_demonstrations.py` or recorded in the task; or the
    path of an npz of ours or of either of loco-mujoco's formats (real: 500 Hz joint trajectories; perfect: 100 Hz
    observations); or the paths of motion clips of AMP (.txt or .json), with commas between, or of a folder of them. All are
    checked and fitted to the commands; what comes from outside must also mean what its format says (rate, units, order of
    legs, signs, frames, height, contact: docs/own-recording.md). None gives None.
    compat: `task` puts the task's command in place of each segment's recorded goal, because a recorded goal speed of 0.51
    beside a commanded 0.50 would give the expert away to a discriminator, and leaves out segments of directions that the task
    never commands. Where it commands several speeds, so it does with segments whose recorded speed is further from all of
    them than half the gap between two, or than 0.1 m/s: under another speed's command, they would teach the wrong one.
    `upstream` keeps the recorded goals and all segments.
    fit: mend what can be mended: the lowest foot of each row is put on the ground, joints are brought into their range.
    Segments that are right stay as they are, to the last bit; where any is changed, recorded actions are left out.
    max_pitch: rad, past which a state is refused, as the task takes it for a fall.
    The result's `notes` say what was changed. Raises UserError where the data cannot be used.
    """
    if compat not in COMPAT:
        raise UserError(f"demonstrations: unknown compat {compat!r}; choose one of {', '.join(COMPAT)}")
    if name is None:
        return None
    if not len(commands):
        raise UserError("demonstrations: there are no commands to fit them to; a task draws from one command at least")
    if isinstance(name, Demonstrations):
        check_form(name)
        demonstrations = check(name, fit=fit, max_pitch=max_pitch)
    else:
        if is_embedded(name) and differ_in_speed(commands):
            raise UserError(_how_to_record(commands))
        demonstrations, parts = _read(str(name), _embedded_for(commands), fit, max_pitch)
        for part, where in parts if not is_embedded(name) else []:
            check_meaning(part, where)
    plain = [command for command in commands if isinstance(command, Command)]
    if len(plain) < len(commands):
        return demonstrations
    if demonstrations.headings is not None:
        raise UserError(
            f"demonstrations: {demonstrations.source}: its commands change as it walks, which only --task follow can learn from"
        )
    return _fit_to(demonstrations, plain) if compat == "task" else demonstrations


def resolved_name(name: str) -> str:
    """Return `name` for use from any working directory: a path is made absolute."""
    if not is_path(name):
        return name
    found = [str(path.resolve()) for path in paths(name)]
    for path in found if len(found) > 1 else []:
        if "," in path:
            raise UserError(f"demonstrations: {path} has a comma, which stands between clips; name their folder instead")
    return ",".join(found)


def paths(name: str) -> list[Path]:
    """Return the paths in the name of a recording that `is_path`: one, or several with commas between, of motion clips."""
    return [Path(each) for each in (listed(name) if is_clips(name) else [name])]


def is_path(name: str) -> bool:
    """Return whether `name` is the path of a recording, not the name of a set or the id of a Minari dataset."""
    return name not in ("trot", "loco-mujoco") and not name.startswith(minari.PREFIX)


def is_embedded(name: str | Path | Demonstrations | None) -> bool:
    """Return True for the name of the embedded sets, which are known to be right."""
    return isinstance(name, str) and name == "trot"


def read_recording(
    name: str, fit: bool = False, max_pitch: float = a1.MAX_PITCH
) -> tuple[Demonstrations, Sequence[tuple[Demonstrations, str | Path]]]:
    """Return a recording, by path or `minari:` and id, checked but for its meaning, under its own commands.

    With it come the motion clips that it is made of, each with its path, which must have their meaning by themselves.
    fit, max_pitch: as `load_demonstrations` takes them. Raises UserError where it cannot be read, or must not be learned from.
    """
    whole, parts = _read(name, "simple", fit, max_pitch)
    return whole, [(part, path) for part, path in parts if part is not whole]


def embedded_path(task: str) -> Path:
    """Path of the embedded set of our trot expert for `simple`, `hard` or `follow`."""
    return Path(str(importlib.resources.files("qi_ext.demonstrations") / "data" / f"trot_{task}.npz"))


def _embedded_for(commands: Sequence[Command | Course]) -> str:
    """The task whose embedded set goes with these commands."""
    if any(isinstance(command, Course) for command in commands):
        return "follow"
    return "simple" if len(commands) == 1 else "hard"


def _read(
    name: str, task: str, fit: bool, max_pitch: float
) -> tuple[Demonstrations, Sequence[tuple[Demonstrations, str | Path]]]:
    """Return `Demonstrations`, checked but for their meaning, and what of them stands in each file, with its path."""
    where: str | Path = name
    files: list[Path] = []
    if name.startswith(minari.PREFIX):
        whole = minari.read(name.removeprefix(minari.PREFIX))
    elif is_path(name) and is_clips(name):
        whole, files = read_clips(name), clip_paths(name)
    else:
        where = _path(name, task)
        whole = read(where)
    parts: list[Any] = [(check(whole.select([i]), path, fit, max_pitch), path) for i, path in enumerate(files)]
    whole = check(whole, where, fit, max_pitch)
    return whole, parts or [(whole, where)]


def _path(name: str, task: str) -> Path:
    if name == "trot":
        return embedded_path(task)
    if name == "loco-mujoco":
        task = "simple" if task == "simple" else "hard"  # which are all that it has
        found: Any = importlib.util.find_spec("loco_mujoco")
        folder = Path(found.submodule_search_locations[0], "datasets", "quadrupeds")
        real = folder / "real" / ("walk_straight.npz" if task == "simple" else "walk_8_dir.npz")
        perfect = folder / "perfect" / f"unitreea1_{task}" / "perfect_expert_dataset_det.npz"
        for path in (real, perfect):
            if path.is_file():
                return path
        raise UserError(
            f"demonstrations: loco-mujoco's own sets are not installed (neither {real} nor {perfect} is there); "
            "run loco-mujoco-download-real, or use --demonstrations trot"
        )
    require_name(name, "demonstrations")
    return Path(name)


def _how_to_record(commands: Sequence[Command | Course]) -> str:
    """What to do instead of learning several speeds from the embedded set."""
    plain = [command for command in commands if isinstance(command, Command)]
    speeds = " ".join(map(typed, dict.fromkeys(command.speed for command in plain)))
    count = len({command.direction_deg for command in plain})
    words = f"--task hard --speeds {speeds}" + (f" --n_directions {count}" if count != 8 else "") + " --output speeds.npz"
    return (
        f"demonstrations: trot, the embedded set, holds 0.5 m/s only; record these speeds by {shell_command('demonstrations')} "
        f"{words}, and name them by --demonstrations speeds.npz"
    )


def _fit_to(demonstrations: Demonstrations, commands: Sequence[Command]) -> Demonstrations:
    """Return the segments of what is commanded, each under the nearest command, with notes on all that was changed."""
    directions = dict.fromkeys(command.direction_deg for command in commands)
    several = differ_in_speed(commands)
    widest, furthest = min(180.0 / len(directions), WIDEST), _furthest_speed(commands)
    unit = "" if several else " degrees"

    def label(command: Command) -> str:
        return label_among(command, commands)

    keep, fitted, replaced, left_out = [], [], set(), {"directions": 0, "speeds": 0}
    for i, recorded in enumerate(demonstrations.commands):
        command = commands[nearest_command(recorded, commands)]
        turned = float(angle_between(command.direction_deg, recorded.direction_deg))
        if turned > widest + 1e-6:
            left_out["directions"] += 1
        elif abs(recorded.speed - command.speed) > furthest + 1e-6:
            left_out["speeds"] += 1
        else:
            keep.append(i)
            fitted.append(command)
            if abs(recorded.speed - command.speed) > 1e-9 or turned > 1e-6:
                replaced.add((f"{recorded.direction_deg:.1f}", f"{recorded.speed:.2f}", command))
    if not keep:
        wanted, found = map(label, commands), sorted({label(command) for command in demonstrations.commands})
        what, instead = ("commands", "") if several else ("directions", " or --demonstrations trot")
        raise UserError(
            f"demonstrations: {demonstrations.source} has none of the task's {what} ({', '.join(wanted)}{unit}), "
            f"only {', '.join(found)}; use another file{instead}"
        )
    notes = list(demonstrations.notes)
    for direction, speed, command in sorted(replaced, key=str):
        notes.append(
            f"recorded goal {direction} degrees at {speed} m/s replaced by the task's command, "
            f"{command.direction_deg:g} degrees at {command.speed:g} m/s"
        )
    for name, count in left_out.items():
        if count:
            notes.append(f"left out {count} segments of {name} that the task never commands")
    shown = set(fitted)
    missing = [label(command) for command in commands if command not in shown]
    if missing:
        nearest = "direction, and speed in it" if several else "direction"
        notes.append(
            f"never demonstrated: {', '.join(missing)}{unit}; episodes there start from the nearest demonstrated {nearest}"
        )
    result = demonstrations.select(keep).with_commands(fitted)
    return replace(result, notes=(*notes, *_speed_notes(result)))


def _furthest_speed(commands: Sequence[Command]) -> float:
    """M/s at most from a recorded speed to the task's that it stands for; a single one stands for all, with a note."""
    speeds = np.unique([command.speed for command in commands])
    return min(float(np.diff(speeds).min()) / 2.0, SLOW) if len(speeds) > 1 else np.inf


def _speed_notes(demonstrations: Demonstrations) -> list[str]:
    """Notes on commands whose speed the expert does not keep: imitating it cannot earn the environment's reward."""
    notes = []
    for command in sorted(set(demonstrations.commands), key=lambda command: (command.direction_deg, command.speed)):
        states = demonstrations.of(command).states
        along = float(velocity_in_command_frame(states)[0].mean())
        if abs(along - command.speed) > SLOW:
            notes.append(
                f"the expert moves at {along:.2f} m/s along the command of {command.speed:g} m/s "
                f"({command.direction_deg:g} degrees); its own environment reward is "
                f"{a1.environment_reward(states).mean():.2f} a step"
            )
    return notes
