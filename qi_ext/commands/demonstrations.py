"""Record the expert in every direction of a task, or check what the numbers of a recording mean.

    qi-ext demonstrations --task hard --seconds 20 --seed 0 --output FILE
    qi-ext demonstrations --task hard --speeds 0.3 0.5 0.7 --seconds 20 --seed 0 --output FILE
    qi-ext demonstrations --task hard --seconds 20 --seed 0 --format minari --output quadruped/trot-hard-v0
    qi-ext demonstrations --check FILE
    qi-ext demonstrations --check FILE --fit

Segments are nominal (the majority), start (random phase and posture), push (up to 60 N on the trunk) and noise (executed with
torque noise, the undisturbed action being the label). The same options make the same file. --check prints a table of measures,
each beside the range that is expected, changes nothing, and ends with exit code 2 where the recording would be refused.
"""

from qi_ext.tasks.directions import TASKS, task_commands
from qi_ext.training.settings import Run, Task
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.programs import program
from qi_ext.utils.words import require_between, require_choice

OURS = ("qi_ext", "packed")
FORMATS = (*OURS, "real", "perfect", "clips", "minari")
FORMATS_HELP = (
    "qi_ext (ours), packed (ours in half the bytes), minari, clips (a folder of AMP's motion clips), or for stock loco-mujoco "
    "real (500 Hz) or perfect (with actions)"
)
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
        ("gait", str, "trot", "trot, or pace (of simple: a dog's, at 0.78 m/s)"),
        ("format", str, "qi_ext", FORMATS_HELP),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} [{default}]", metavar="X")
    text = "in place of --speed, those of the hard task, m/s: each direction is recorded at each"
    parser.add_argument("--speeds", type=float, nargs="+", default=[], help=text, metavar="X")
    parser.add_argument("--output", type=str, help=OUTPUT_HELP, metavar="FILE")
    parser.add_argument("--check", type=str, help="a recording to check, in place of recording one", metavar="FILE")
    text = "with --check: mend what can be mended first, as a run with --fit would"
    parser.add_argument("--fit", action="store_true", help=text)
    options = parser.parse_args(arguments)
    if options.check is not None:
        others = [word for word in parser.options_in(arguments) if word not in ("--check", "--fit")]
        if others:
            raise UserError(f"{others[0]}: does not go with --check, which only reads FILE")
        _print_check(options.check, options.fit)
        return
    if options.fit:
        raise UserError("--fit: goes with --check FILE, which it mends before it looks; what is recorded needs no mending")
    if options.output is None:
        raise UserError(f"--output: required; {OUTPUT_HELP} (or --check FILE, to check one)")
    output = options.output
    _check(options)

    import gymnasium
    from rich.table import Table

    from qi_ext.demonstrations import formats, minari, motion_clip_writer, recording
    from qi_ext.demonstrations.gaits import GAITS
    from qi_ext.robot import a1
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.utils.display import Display

    gait = None if options.gait == "trot" else GAITS[options.gait]
    of_commands = _of_commands(options)
    environment = QuadrupedDirection(**of_commands, demonstrations=None, seed=0)
    with Display("recording", recording.n_segments(environment, options.seconds), "segments") as display:
        demonstrations, falls = recording.record(
            environment, options.seconds, options.seed, lambda done, total: display.update(done), gait
        )
    made_by = "python launchers/make_demonstrations.py"
    made_by += f" --task {options.task} --seconds {options.seconds:g} --seed {options.seed}"
    if options.speeds:
        made_by += f" --n_directions {options.n_directions} --speeds {' '.join(f'{speed:g}' for speed in options.speeds)}"
    elif (options.n_directions, options.speed) != (8, 0.5):
        made_by += f" --n_directions {options.n_directions} --speed {options.speed:g}"
    if options.gait != "trot":
        made_by += f" --gait {options.gait}"
    if options.format != "qi_ext":
        made_by += f" --format {options.format}"
    if options.format in OURS:
        formats.write(output, demonstrations, made_by, packed=options.format == "packed")
    elif options.format == "real":
        formats.write_loco_mujoco_real(output, demonstrations)
    elif options.format == "clips":
        motion_clip_writer.write_clips(output, demonstrations)
    elif options.format == "perfect":
        formats.write_loco_mujoco_perfect(output, demonstrations)
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
    display.say("falls: segments that ended in a fall and were recorded anew")
    display.say(f"{len(demonstrations.states):,} states of the synthetic {options.gait} expert written to {output}")


def _print_check(name, fit):
    """Print the measures of a recording, and raise UserError where it is refused."""
    from qi_ext.demonstrations.examination import examine_all, table_of
    from qi_ext.demonstrations.loading import read_recording
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.utils.display import make_console, say

    demonstrations = read_recording(name, fit)
    measures, fault = examine_all(demonstrations, QuadrupedDirection("simple", demonstrations=None, seed=0).model)
    for note in demonstrations.notes if fit else ():
        say(f"  - {note}")
    make_console().print(table_of(measures, name))
    if fault is not None:
        raise UserError(f"demonstrations: {name}: {fault}")
    say("no fault was found")


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
        task_commands(**_of_commands(options))
    except ValueError as error:
        raise UserError(f"--{error}") from None
    if options.format in ("clips", "minari"):
        from qi_ext.demonstrations import minari, motion_clip_writer

        require_new = minari.require_new if options.format == "minari" else motion_clip_writer.require_new_folder
        require_new(options.output, "--output")
    else:
        require_output(options.output, "--output")
