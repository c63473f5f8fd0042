"""Record the expert in every direction of a task, or check what the numbers of a recording mean.

    qi-ext demonstrations --task hard --seconds 20 --seed 0 --output FILE
    qi-ext demonstrations --task hard --speeds 0.3 0.5 0.7 --seconds 20 --seed 0 --output FILE
    qi-ext demonstrations --task hard --seconds 20 --seed 0 --format minari --output quadruped/trot-hard-v0
    qi-ext demonstrations --task simple --speed 0.78 --gait pace --output FILE
    qi-ext demonstrations --from CLIP --seconds 20 --seed 0 --output FILE
    qi-ext demonstrations --check FILE
    qi-ext demonstrations --check FILE --fit

Segments are nominal (the majority), start (random phase and posture), push (up to 60 N on the trunk) and noise (executed with
torque noise, the undisturbed action being the label). The same options make the same file. --from fits a gait of the expert to
a recorded animal's and records it on simple, at the recorded speed; a table compares the two. --check prints a table of
measures, each beside the range that is expected, changes nothing, and ends with exit code 2 where the recording would be
refused.
"""

import shlex
from pathlib import Path

import numpy as np

from qi_ext.robot import a1
from qi_ext.tasks.directions import TASKS, task_commands
from qi_ext.training.settings import Run, Task
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.programs import program
from qi_ext.utils.words import require_between, require_choice, typed

OURS = ("qi_ext", "packed")
FORMATS = (*OURS, "real", "perfect", "clips", "minari")
FORMATS_HELP = (
    "qi_ext (ours), packed (ours in half the bytes), minari, clips (a folder of AMP's motion clips), or for stock loco-mujoco "
    "real (500 Hz) or perfect (with actions)"
)
# Of the comparison of a recorded gait with the one that is fitted to it: what, its value, its format; the name in `Fit.shares`,
# None for what is kept in any case, "" for what follows from the rest.
GAIT_ROWS = (
    ("speed, m/s", lambda gait: gait.speed, ".2f", None),
    ("strides, Hz", lambda gait: gait.frequency, ".2f", None),
    ("phases of FR, FL, RR, RL", lambda gait: gait.phases, ".2f", "phases"),
    ("correlation of legs of a side", lambda gait: gait.lateral, "+.2f", ""),
    ("correlation of diagonal legs", lambda gait: gait.diagonal, "+.2f", ""),
    ("duty factor", lambda gait: gait.duty_factor, ".2f", "duty"),
    ("clearance, m", lambda gait: gait.clearance, ".3f", "clearance"),
    ("trunk above the lowest foot, m", lambda gait: gait.trunk_height, ".3f", "trunk_height"),
    ("feet ahead of the trunk, m", lambda gait: gait.stance[:, 0], "+.2f", "foot_offset"),
    ("feet to the left of it, m", lambda gait: gait.stance[:, 1], "+.2f", ""),
)
OF_RECORDING = ("fit", "max_pitch")  # options of a recording that is read
OUTPUT_HELP = "the npz to write, the folder of --format clips, or a Minari dataset's id"


def main(arguments=None):
    """Parse, record, write. Raises UserError for the user's mistakes, before anything is recorded."""
    parser = Parser(program("demonstrations"), __doc__)
    for name, kind, default, text in (
        ("task", str, "hard", "simple (walk along +x), hard (8 directions) or follow (drawn courses)"),
        ("seconds", float, 20.0, "motion per command, or along all courses together, s"),
        ("seed", int, 0, "seed of phases, starts, pushes and noise"),
        ("n_directions", int, 8, "directions of the hard task"),
        ("speed", float, 0.5, "commanded speed, m/s"),
        ("gait", str, "trot", "trot, or of simple pace (0.78 m/s), fast-trot (1.2 m/s) or walk (0.4 m/s)"),
        ("format", str, "qi_ext", FORMATS_HELP),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} [{default}]", metavar="X")
    text = "in place of --speed, those of the hard task, m/s: each direction is recorded at each"
    parser.add_argument("--speeds", type=float, nargs="+", default=[], help=text, metavar="X")
    parser.add_argument("--output", type=str, help=OUTPUT_HELP, metavar="FILE")
    text = "a recording, such as a motion clip, in place of --task, --speed and --gait: fit a gait to it, and record that"
    parser.add_argument("--from", type=str, help=text, metavar="CLIP")
    parser.add_argument("--check", type=str, help="a recording to check, in place of recording one", metavar="FILE")
    text = "with --check or --from: mend what can be mended first, as a run with --fit would"
    parser.add_argument("--fit", action="store_true", help=text)
    text = f"with --check or --from: pitch past which the robot has fallen, rad, as of a run [{a1.MAX_PITCH}]"
    parser.add_argument("--max_pitch", type=float, default=a1.MAX_PITCH, help=text, metavar="X")
    options = parser.parse_args(arguments)
    given, how = parser.options_in(arguments), {name: getattr(options, name) for name in OF_RECORDING}
    Task(**how)
    if options.check is not None:
        others = [word for word in given if word.removeprefix("--") not in ("check", *OF_RECORDING)]
        if others:
            raise UserError(f"{others[0]}: does not go with --check, which only reads FILE")
        _print_check(options.check, how)
        return
    clip = getattr(options, "from")
    for word in given if clip is None else []:
        if word.removeprefix("--") in OF_RECORDING:
            raise UserError(f"{word}: goes with --check FILE or --from CLIP; what is recorded here needs none")
    if options.output is None:
        raise UserError(f"--output: required; {OUTPUT_HELP} (or --check FILE, to check one)")
    if clip is not None:
        for word in given:
            if word.lstrip("-") in (*_of_commands(options), "gait"):
                raise UserError(f"{word}: does not go with --from, which takes it from the recording")
        options.task, options.n_directions = "simple", 8
    _check(options)
    gait = None
    if clip is not None:
        gait, options.speed = _fitted(clip, how)
    elif options.gait != "trot":
        from qi_ext.demonstrations.gaits import GAITS

        gait = GAITS[options.gait]
    _record(options, gait, clip)


def _fitted(clip, how):
    """Fit a gait to a recording, print how they compare, and return the gait and the speed, m/s.

    how: to load the recording, {option: value}.
    """
    from rich.table import Table
    from rich.text import Text

    from qi_ext.demonstrations import fitting
    from qi_ext.demonstrations.gait_measures import measure_gait
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.utils.display import Display
    from qi_ext.utils.output import printable

    measured = measure_gait(fitting.recorded_walk(clip, **how))
    speed = round(measured.speed, 2)
    name = printable(Path(clip).stem)
    try:
        environment = QuadrupedDirection("simple", speed=speed, demonstrations=None, seed=0)
        with Display("fitting", fitting.TRIALS, "trials at most") as display:
            fit = fitting.fit_gait(environment, measured, name, display.advance, fitting.SECONDS)
    except ValueError as error:
        raise UserError(f"--from: {clip}: {error}") from None
    table = Table(title=Text(fit.gait.name))
    for heading in ("", "recorded", "fitted", "taken over"):
        table.add_column(heading, justify="right" if heading else "left")
    fitted = measure_gait(fit.states)
    for what, of, form, share in GAIT_ROWS:
        taken = "all" if share is None else "-" if not share else f"{fit.shares[share]:.0%}"
        table.add_row(what, *(" ".join(format(x, form) for x in np.atleast_1d(of(each))) for each in (measured, fitted)), taken)
    display.console.print(table)
    return fit.gait, speed


def _record(options, gait, clip):
    """Record the expert in `gait`, None for the task's trot, write the file, and print what is in it."""
    import gymnasium
    from rich.table import Table

    from qi_ext.demonstrations import formats, loco_mujoco_formats, minari, motion_clip_writer, recording
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.utils.display import Display

    output = options.output
    of_commands = _of_commands(options)
    environment = QuadrupedDirection(**of_commands, demonstrations=None, seed=0)
    with Display("recording", recording.size(environment.commands, options.seconds)[0], "segments") as display:
        demonstrations, falls = recording.record(
            environment, options.seconds, options.seed, lambda done, total: display.update(done), gait
        )
    made_by = _made_by(options, clip)
    if options.format in OURS:
        formats.write(output, demonstrations, made_by, packed=options.format == "packed")
    elif options.format == "real":
        loco_mujoco_formats.write_real(output, demonstrations)
    elif options.format == "clips":
        motion_clip_writer.write_clips(output, demonstrations)
    elif options.format == "perfect":
        loco_mujoco_formats.write_perfect(output, demonstrations)
    else:
        # Episodes of the recovered environment cannot start from an embedded set that does not have these speeds.
        starts = {"demonstrations": None} if len(options.speeds) > 1 else {}
        env = gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", **of_commands, **starts)
        minari.write(output, demonstrations, env, made_by)
        output = minari.PREFIX + output

    rows = demonstrations.bounds[1]
    table = Table(title=f"nominal segments, of {demonstrations.n_segments} segments of {rows * a1.CONTROL_DT:g} s")
    for heading in ("command", "speed", "reward a step", "max roll", "max pitch", "max yaw", "saturation", "falls"):
        table.add_column(heading, justify="right")
    for row in recording.summary(demonstrations):
        table.add_row(
            row["command"],
            f"{row['speed']:.4f} m/s",
            f"{row['reward']:.4f}",
            *(f"{row[name]:.3f} rad" for name in ("roll", "pitch", "yaw")),
            f"{100 * row['saturation']:.1f} %",
            str(falls[row["command"]]),
        )
    display.console.print(table)
    display.say("falls: segments that ended in a fall, or left the joints' range, and were recorded anew")
    name = options.gait if gait is None else gait.name
    display.say(f"{len(demonstrations.states):,} states of the synthetic {name} expert written to {output}")


def _print_check(name, how):
    """Print the measures of a recording, and raise UserError where it is refused. how: to load it, {option: value}."""
    from qi_ext.demonstrations.examination import examine_all, table_of
    from qi_ext.demonstrations.loading import read_recording
    from qi_ext.demonstrations.meaning import check_meaning
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.utils.display import make_console, say

    demonstrations, clips = read_recording(name, **how)
    measures, fault = examine_all(demonstrations, QuadrupedDirection("simple", demonstrations=None, seed=0).model)
    for note in demonstrations.notes if how["fit"] else ():
        say(f"  - {note}")
    make_console().print(table_of(measures, name))
    if fault is not None:
        raise UserError(f"demonstrations: {name}: {fault}")
    for clip, path in clips:
        check_meaning(clip, path)
    say("no fault was found")


def _made_by(options, clip):
    """The command that makes the same file, but for --output. Numbers are written in full, or it would make another one."""
    words = ["python launchers/make_demonstrations.py"]
    words += [f"--from {shlex.quote(clip)}" if clip is not None else f"--task {options.task}"]
    if options.fit:
        words += ["--fit"]
    if options.max_pitch != a1.MAX_PITCH:
        words += [f"--max_pitch {typed(options.max_pitch)}"]
    words += [f"--seconds {typed(options.seconds)} --seed {options.seed}"]
    if options.speeds:
        words += [f"--n_directions {options.n_directions} --speeds {' '.join(map(typed, options.speeds))}"]
    elif clip is None and (options.n_directions, options.speed) != (8, 0.5):
        words += [f"--n_directions {options.n_directions} --speed {typed(options.speed)}"]
    if options.gait != "trot":
        words += [f"--gait {options.gait}"]
    if options.format != "qi_ext":
        words += [f"--format {options.format}"]
    return " ".join(words)


def _of_commands(options):
    return {name: getattr(options, name) for name in ("task", "n_directions", "speed", "speeds")}


def _check(options):
    from qi_ext.demonstrations.gaits import GAITS  # scipy, which takes a third of a second

    require_choice("--task", options.task, TASKS)
    require_choice("--format", options.format, FORMATS)
    require_choice("--gait", options.gait, GAITS)
    if options.gait != "trot" and options.task != "simple":
        raise UserError(f"--gait: {options.gait} walks ahead only; use --task simple")
    if options.task == "follow" and options.format not in OURS:
        raise UserError(f"--format: {options.format} holds one command an episode, and follow's change; use qi_ext or packed")
    require_between("--seconds", options.seconds, 1, 3600)
    Run(seed=options.seed)
    Task(n_directions=options.n_directions)
    for name, speed in (("speed", options.speed), *(("speeds", speed) for speed in options.speeds)):
        if not 0.0 < speed <= GAITS[options.gait].max_speed:
            raise UserError(
                f"--{name}: the {options.gait} walks at up to {GAITS[options.gait].max_speed:g} m/s, not at {speed:g}"
            )
    try:
        commands = task_commands(**_of_commands(options))
    except ValueError as error:
        raise UserError(f"--{error}") from None
    if options.format == "minari":
        from qi_ext.demonstrations import minari

        minari.require_new(options.output, "--output")
        return
    _require_name_of_a_path(options.output, options.format)
    if options.format == "clips":
        from qi_ext.demonstrations import motion_clip_writer, recording

        n_clips, rows = recording.size(commands, options.seconds)
        motion_clip_writer.require_readable(n_clips, rows, f"--seconds {typed(options.seconds)}")
        motion_clip_writer.require_new_folder(options.output, "--output")
    else:
        require_output(options.output, "--output")


def _require_name_of_a_path(output, form):
    """Raise UserError where --demonstrations would take the name of what is written for something else."""
    from qi_ext.demonstrations.loading import is_path
    from qi_ext.demonstrations.motion_clips import SUFFIXES

    if not is_path(output):
        raise UserError(f"--output: {output} is taken by --demonstrations for a set of that name; write ./{output}")
    if form != "clips" and output.lower().endswith(SUFFIXES):
        raise UserError(f"--output: {output} would be read as a motion clip, as its ending says; let it end in .npz")
