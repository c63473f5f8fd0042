"""Evaluate a trained agent in each direction, beside the trot controller and random torques.

    python launchers/evaluate.py --agent runs/hard-gail/0/agent.safetensors --episodes 10

prints return (of at most 1000), length, velocity error and falls per direction, the agent acting deterministically and
stochastically. Episodes start from the demonstrations that the agent was trained on, unless --demonstrations names others.
"""

from contextlib import closing

from qi_ext import load_agent
from qi_ext.errors import UserError
from qi_ext.files import require_output
from qi_ext.training.arguments import Parser, run_command
from qi_ext.training.config import SimpleGail


def main(arguments=None):
    """Parse, evaluate, print, write. Returns None; raises UserError for the user's mistakes."""
    parser = Parser("evaluate.py", __doc__)
    parser.add_argument("--agent", type=str, required=True, help="an agent.safetensors of a run", metavar="FILE")
    parser.add_argument("--episodes", type=int, default=10, help="episodes per direction [10]", metavar="X")
    parser.add_argument("--seed", type=int, help="seed of starts and action noise [that of the agent's run]", metavar="X")
    starts = "where episodes start: trot, loco-mujoco, or an npz [the agent's own]"
    parser.add_argument("--demonstrations", type=str, default="", help=starts, metavar="X")
    parser.add_argument("--json", type=str, default="", help="also write the results to this file", metavar="FILE")
    for name in ("n_workers", "pool", "scheduler"):
        setting = SimpleGail.__dataclass_fields__[name]
        text = setting.metadata["help"] + (f" [{setting.default}]" if setting.default else "")
        parser.add_argument(f"--{name}", type=str, default=setting.default, help=text, metavar="X")
    options = parser.parse_args(arguments)
    config = SimpleGail(n_workers=options.n_workers, pool=options.pool, scheduler=options.scheduler)
    if options.episodes < 1:
        raise UserError(f"--episodes: must be at least 1, not {options.episodes}")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed: must be at least 0, not {options.seed}")
    if options.json:
        require_output(options.json, "--json")
    agent = load_agent(options.agent)
    settings, lanes_per_block, seed, step = _run_of(agent, options.agent)
    seed = seed if options.seed is None else options.seed

    from qi_ext.evaluation import compare, table
    from qi_ext.sampling.batched import BatchedSampler
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.training.display import Display
    from qi_ext.training.run_directory import write_json

    name = options.demonstrations or agent.metadata.get("demonstrations", "trot")
    try:
        environment = QuadrupedDirection(**settings, demonstrations=name)
    except UserError as error:
        if options.demonstrations:
            raise
        raise UserError(f"{error}; the agent was trained on it: choose others with --demonstrations, such as trot") from None
    sampler = BatchedSampler(environment, lanes_per_block, config.pool, config.n_workers, config.scheduler)
    with closing(sampler), Display("evaluating", 4 * options.episodes * len(environment.commands), "episodes") as display:
        trained = f"{step:,} steps" if "step" in agent.metadata else agent.metadata.get("origin", "of unknown origin")
        display.say(f"{options.agent}: {agent.metadata.get('algorithm', '?')} on {settings['task']}, {trained}")
        found = environment.demonstrations.content_hash()
        if not options.demonstrations and agent.metadata.get("demonstrations_hash") not in (None, found):
            display.say(f"note: {name} has changed since the agent was trained on it")
        results = compare(sampler, agent, options.episodes, seed, step, display.advance)
        display.console.print(table(results, environment.demonstrations.source))
    if options.json:
        write_json(options.json, results)


def _run_of(agent, path):
    """The task's settings, the lanes per block, the seed and the step of the run that the agent comes from."""
    try:
        settings = {
            "task": agent.metadata["task"],
            "n_directions": int(agent.metadata.get("n_directions", 8)),
            "speed": float(agent.metadata.get("speed", 0.5)),
        }
        # mushroom-rl's `save` knows of no run.
        defaults = {"lanes_per_block": SimpleGail.lanes_per_block, "seed": 0, "step": 0}
        return settings, *(int(agent.metadata.get(name, default)) for name, default in defaults.items())
    except (KeyError, ValueError):
        raise UserError(f"agent: {path}: the metadata do not say which task it was trained on") from None


if __name__ == "__main__":
    run_command("evaluate.py", main)
