"""Film a trained agent, or the trot controller, as it walks.

    qi-ext record --agent pretrained/hard --grid --output walk.mp4

--beside shows another agent from the same start, --grid all directions at once, with a map; an orange arrow is the command. The
film shows an episode that qi-ext evaluate measures with the same --seed. On follow, --course films a course, the commanded path
orange and the walked one blue, and --grid all courses. --live opens MuJoCo's viewer instead, on a screen; there --keyboard or
--gamepad steers an agent of follow.
"""

from contextlib import closing
from pathlib import Path

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.course_files import MAX_SPEED, find_courses
from qi_ext.tasks.directions import TASKS
from qi_ext.training.settings import Run
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.programs import program
from qi_ext.utils.words import listed, require_between, require_choice

SUFFIXES = (".mp4", ".webm", ".png")


def main(arguments=None):
    """Parse, simulate, draw, write. Returns None; raises UserError for the user's mistakes."""
    parser = Parser(program("record"), __doc__)
    text = "an agent.safetensors of a run, or pretrained/simple, hard or follow, or expert, the trot controller"
    parser.add_argument("--agent", type=str, required=True, help=text, metavar="FILE")
    parser.add_argument("--output", type=str, default="", help="the film, .mp4 or .webm, or its end, .png", metavar="FILE")
    parser.add_argument("--beside", type=str, default="", help="another one, as --agent, beside it", metavar="FILE")
    parser.add_argument("--grid", action="store_true", help="all directions or courses of the task at once")
    parser.add_argument("--live", action="store_true", help="open MuJoCo's viewer; nothing is written")
    text = "with --live, on follow: steer by the arrow keys (faster, slower, turn), 7 8 9 (direction) and Enter (stop)"
    parser.add_argument("--keyboard", action="store_true", help=text)
    text = "with --live, on follow: steer by the left stick (direction, speed) and the right one (turn)"
    parser.add_argument("--gamepad", action="store_true", help=text)
    parser.add_argument("--direction", type=float, help="commanded, degrees from the heading [0]", metavar="X")
    parser.add_argument("--speed", type=float, help="commanded, m/s [the task's]", metavar="X")
    parser.add_argument("--heading", type=float, help="on follow: commanded, degrees [0]", metavar="X")
    text = "on follow: a course by name, such as figure-eight, or a YAML file of legs"
    parser.add_argument("--course", type=str, default="", help=text, metavar="X")
    parser.add_argument("--seconds", type=float, default=10.0, help="at most; an episode has 10 [10]", metavar="X")
    parser.add_argument("--seed", type=int, help="seed of the start and of action noise [that of the agent's run]", metavar="X")
    parser.add_argument("--stochastic", action="store_true", help="act as it was trained, with noise")
    parser.add_argument("--task", type=str, default="hard", help=f"of expert: {listed(TASKS)} [hard]", metavar="X")
    starts = "where episodes start: trot, loco-mujoco, minari:ID, or an npz [the agent's own]"
    parser.add_argument("--demonstrations", type=str, default="", help=starts, metavar="X")
    options = parser.parse_args(arguments)
    _check(options)

    from qi_ext.evaluation import load_evaluated_agent
    from qi_ext.utils.display import say

    agent = load_evaluated_agent(options.agent, options.task)
    other = load_evaluated_agent(options.beside, agent.settings["task"]) if options.beside else None
    _check_task(options, agent)
    environment = agent.environment(options.demonstrations, [options.course] if options.course else ())
    for note in agent.notes(environment, options.demonstrations):
        say(note)
    seed = agent.seed if options.seed is None else options.seed
    if options.grid or options.course:
        commands = environment.commands
    else:
        speed = environment.task.speed if options.speed is None else options.speed
        commands = [Command(options.direction or 0.0, speed, options.heading or 0.0)]
    if options.live:
        from qi_ext.report.live import watch

        steered_by = "keyboard" if options.keyboard else "gamepad" if options.gamepad else ""
        watch(agent, environment, commands[0], seed, not options.stochastic, steered_by)
    else:
        _film([agent, other] if other else [agent], environment, commands, seed, options)


def _check(options):
    """Raise UserError for options that do not fit together, before anything is loaded."""
    if options.live == bool(options.output):
        raise UserError("--output: name the film, such as walk.mp4, or choose --live" + (", not both" if options.live else ""))
    for name in ("grid", "beside"):
        if options.live and getattr(options, name):
            raise UserError(f"--{name}: not with --live, which shows one robot; make a film with --output walk.mp4")
    if options.grid and options.beside:
        raise UserError("--beside: not with --grid; make two films")
    _check_command(options)
    require_between("--seconds", options.seconds, a1.CONTROL_DT, 1e6)
    Run(seed=options.seed or 0)
    require_choice("--task", options.task, TASKS)
    if options.output:
        if Path(options.output).suffix not in SUFFIXES:
            raise UserError(f"--output: {options.output} must end with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
        require_output(options.output, "--output")


def _check_command(options):
    """Raise UserError for a command that cannot be given, or is said twice."""
    steered = [name for name in ("keyboard", "gamepad") if getattr(options, name)]
    said = [name for name in ("direction", "speed", "heading") if getattr(options, name) is not None]
    said += ["course"] if options.course else []
    if steered and not options.live:
        raise UserError(f"--{steered[0]}: only with --live, which opens a window")
    if len(steered) == 2:
        raise UserError("--gamepad: not with --keyboard; leave one out")
    if said and steered:
        raise UserError(f"--{said[0]}: not with --{steered[0]}, which commands by itself; leave one out")
    if said and options.grid:
        raise UserError(f"--{said[0]}: not with --grid, which shows them all; leave one out")
    if len(said) > 1 and options.course:
        raise UserError(f"--{said[0]}: not with --course, which says it all; leave one out")
    for name, least, most in (("speed", 0.0, MAX_SPEED), ("direction", -360.0, 360.0), ("heading", -360.0, 360.0)):
        if getattr(options, name) is not None:
            require_between(f"--{name}", getattr(options, name), least, most)
    if options.course:
        find_courses([options.course])


def _check_task(options, agent):
    """Raise UserError for options that only follow has, where the agent is of another task."""
    task = agent.settings["task"]
    for name in ("course", "heading", "keyboard", "gamepad"):
        if getattr(options, name) not in (None, "", False) and task != "follow":
            expert = "; name it with --task follow" if agent.actor is None else ""
            raise UserError(f"--{name}: only on follow, and {options.agent} is on {task}, where commands stay{expert}")


def _film(agents, environment, commands, seed, options):
    """Simulate the episodes of all agents, then draw them."""
    from qi_ext.evaluation import record_episodes
    from qi_ext.report.video import beside, grid, one, write_picture, write_video
    from qi_ext.utils.display import Display, say
    from qi_ext.utils.drawing import rendering_backend

    backend = rendering_backend()
    first = agents[0]
    shown = max(1, round(options.seconds / a1.CONTROL_DT))
    with (
        closing(first.source(environment)) as source,
        Display("walking", len(agents) * len(commands), "episodes") as display,
    ):
        recorded = [
            record_episodes(
                source,
                agent.controller(not options.stochastic),
                commands,
                seed,
                first.step,
                progress=display.advance,
                n_steps=shown,
            )
            for agent in agents
        ]
    labels = [f"{agent.title}, {episodes[0].label}" for agent, episodes in zip(agents, recorded, strict=True)]
    if options.grid:
        layout = grid(recorded[0], first.title)
    elif len(agents) > 1:
        layout = beside([episodes[0] for episodes in recorded], labels)
    else:
        layout = one(recorded[0][0], labels[0])
    n_steps = min(layout.n_steps, shown)
    if options.output.endswith(".png"):
        write_picture(options.output, environment.model, layout, n_steps - 1)
    else:
        with Display(f"drawing ({backend})", n_steps, "steps") as display:
            write_video(options.output, environment.model, layout, n_steps, display.advance)
    viewer = "an image viewer" if options.output.endswith(".png") else "a video player or a browser"
    say(f"{options.output}: {n_steps * a1.CONTROL_DT:g} s, {layout.size[0]} x {layout.size[1]}; open it in {viewer}")
    for agent, episodes in zip(agents, recorded, strict=True):
        title = f"{agent.title}, " if len(agents) > 1 else ""
        for episode in episodes:
            most = shown if episode.cut else environment.info.horizon
            end = ", fell" if episode.fell else f" in {shown * a1.CONTROL_DT:g} s" if episode.cut else ""
            value = f"return {episode.episode_return:.0f} of at most {most}"
            say(f"  {title}{episode.label}: {value}{end}")
