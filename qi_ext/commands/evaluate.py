"""Evaluate a trained agent in each direction, or along courses, beside the trot controller and random torques.

    qi-ext evaluate --agent runs/hard-gail/0/agent.safetensors --episodes 10

prints return (of at most 1000), length, velocity error and falls per direction, the agent acting deterministically and
stochastically; then how it walks beside the trot controller. --robustness adds pushes, action noise, directions between those
trained on and other speeds. Episodes start from the demonstrations that the agent was trained on, unless --demonstrations names
others. --env stock evaluates in loco-mujoco's own UnitreeA1, unpatched, with mushroom-rl's own Core, in this process.
"""

from contextlib import closing

from qi_ext.training.settings import Run, Sampling
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.limits import MOST_EPISODES
from qi_ext.utils.programs import program
from qi_ext.utils.words import require_between, require_choice

POOL_SETTINGS = {name: Sampling.model_fields[name] for name in ("n_workers", "pool", "scheduler")}


def main(arguments=None):
    """Parse, evaluate, print, write. Returns None; raises UserError for the user's mistakes."""
    options, sampling = _parse(arguments)

    from qi_ext.evaluation import load_evaluated_agent
    from qi_ext.training.run_directory import write_json
    from qi_ext.utils.display import say

    agent = load_evaluated_agent(options.agent)
    beside = load_evaluated_agent(options.beside) if options.beside else None
    seed = agent.seed if options.seed is None else options.seed
    environment = agent.environment(options.demonstrations, options.courses)
    say(f"{options.agent}: {agent.title}")
    notes = agent.notes(environment, options.demonstrations)
    if beside:
        say(f"agent beside: {options.beside}: {beside.title}")
        notes += [f"agent beside: {note}" for note in beside.notes(environment, options.demonstrations)]
    for note in notes:
        say(note)
    if options.env == "stock":
        if agent.settings["task"] == "follow":
            raise UserError("--env: stock is told no heading, which follow's commands have; use ours")
        results = _evaluate_stock(agent, environment, options.episodes, seed)
    else:
        results = _evaluate(agent, beside, environment, seed, options, sampling)
    if options.json:
        write_json(options.json, results)


def _parse(arguments):
    """Parse the options and the settings of the pool; check them before anything is loaded."""
    parser = Parser(program("evaluate"), __doc__)
    text = "an agent.safetensors of a run, or pretrained/simple, hard or follow"
    parser.add_argument("--agent", type=str, required=True, help=text, metavar="FILE")
    parser.add_argument("--episodes", type=int, default=10, help="episodes per direction or course [10]", metavar="X")
    parser.add_argument("--seed", type=int, help="seed of starts and action noise [that of the agent's run]", metavar="X")
    starts = "where episodes start: trot, loco-mujoco, minari:ID, or an npz [the agent's own]"
    parser.add_argument("--demonstrations", type=str, default="", help=starts, metavar="X")
    text = "of an agent of follow: courses by name, or YAML files of legs [all that have names]"
    parser.add_argument("--courses", type=str, nargs="+", default=[], help=text, metavar="X")
    text = "another agent to evaluate, deterministic, such as one that was only cloned"
    parser.add_argument("--beside", type=str, default="", help=text, metavar="FILE")
    text = "also evaluate under pushes, action noise and other commands"
    parser.add_argument("--robustness", action="store_true", help=text)
    text = "ours, or stock: loco-mujoco's UnitreeA1 in mushroom-rl's Core [ours]"
    parser.add_argument("--env", type=str, default="ours", help=text, metavar="X")
    parser.add_argument("--json", type=str, default="", help="also write the results to this file", metavar="FILE")
    for name, setting in POOL_SETTINGS.items():
        text = setting.description + (f" [{setting.default}]" if setting.default else "")
        parser.add_argument(f"--{name}", type=str, default=setting.default, help=text, metavar="X")
    options = parser.parse_args(arguments)
    sampling = Sampling(**{name: getattr(options, name) for name in POOL_SETTINGS})
    require_between("--episodes", options.episodes, 1, MOST_EPISODES)
    Run(seed=options.seed or 0)
    require_choice("--env", options.env, ("ours", "stock"))
    defaults = {"beside": "", "robustness": False} | {name: setting.default for name, setting in POOL_SETTINGS.items()}
    asked = [f"--{name}" for name, default in defaults.items() if getattr(options, name) != default]
    if options.env == "stock" and asked:
        raise UserError(f"{asked[0]}: not with --env stock, which runs one episode at a time in this process; leave it out")
    if options.json:
        require_output(options.json, "--json")
    return options, sampling


def _evaluate(agent, beside, environment, seed, options, sampling):
    """Evaluate in our environment and print the tables; return what --json holds."""
    from qi_ext.evaluation import evaluate_agent, evaluate_robustness
    from qi_ext.evaluation.gait import demonstrated_gait
    from qi_ext.report.tables import gait_table, robustness_table, table
    from qi_ext.utils.display import make_console

    console = make_console()
    with closing(agent.source(environment, sampling.pool, sampling.n_workers, sampling.scheduler)) as source:
        arguments = (source, agent.actor, options.episodes, seed, agent.step, beside and beside.actor)
        results = evaluate_agent(*arguments)
        console.print(table(results, environment.demonstrations.source))
        console.print(gait_table(results, demonstrated_gait(environment.demonstrations)))
        if options.robustness:
            results["robustness"] = evaluate_robustness(*arguments)
            console.print(robustness_table(results["robustness"]))
    return results


def _evaluate_stock(agent, environment, episodes, seed):
    """Evaluate in the stock environment with our commands and demonstrations, print the table, return what --json holds."""
    from qi_ext.evaluation.stock import compare_stock, stock_versions
    from qi_ext.report.tables import table
    from qi_ext.utils.display import Display

    demonstrations, commands = environment.demonstrations, environment.commands
    with Display("evaluating", 3 * episodes * len(commands), "episodes") as display:
        display.say(f"{stock_versions()}; no patches")
        results = compare_stock(agent.actor, demonstrations, commands, episodes, seed, agent.step, display.advance)
        display.console.print(table(results, demonstrations.source))
    return results
