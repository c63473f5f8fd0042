"""Returns against minutes of ours and of other libraries, on the same task, demonstrations, evaluation and machine.

    python benchmarks/peers.py run [NAME ...] [--seeds 0] --python VENV/bin/python
    python benchmarks/peers.py tables

run trains each learner for at most 20 minutes on simple, one after the other, in runs/peers/NAME/SEED; each leaves its policy
about every 15 seconds. Then, outside of the clock, all of those policies are evaluated in the same episodes, and the returns
are published in results/peers/NAME/SEED.json. What is published is not done again, so it can be stopped and started anew; a
run of ours goes on, one of another library begins again. VENV is of the other libraries: benchmarks/requirements-peers.txt
says how to make it. tables writes the tables and the plot of docs/comparison.md.
"""

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from peer_results import MODES, read_results, with_tables, write_plot
from tables import say

from qi_ext.sweeps.made_with import ROOT, made_with
from qi_ext.utils.command_line import Parser, run_command
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole

MINUTES = 20  # of training at most
EPISODES, LAST_EPISODES = 8, 96  # of the evaluation of each policy, and of the last
EVALUATION_SEED = 0
VERSIONS = ("mujoco", "numpy", "torch", "gymnasium", "loco-mujoco")
VERSIONS_OF_OTHERS = ("stable-baselines3", "imitation")
OPTIONS = "--task simple --evaluation_episodes 0 --checkpoint_every 0.25 --keep_checkpoints 1000"
OURS = f"launchers/run_gail.py {OPTIONS}"
STOCK = f"benchmarks/stock_imitation_lib.py {OPTIONS}"
IMITATION_LIB = "--backend imitation_lib --n_steps 10000000"
OTHER = "benchmarks/sb3_peers.py"


@dataclass(frozen=True)
class Peer:
    """what: words for the table. command: of its training, without seed, limit and place. seeds: that are published."""

    what: str
    command: str
    seeds: tuple[int, ...] = (0,)

    @property
    def is_ours(self):
        """Whether our loop trains it, and it leaves a run directory."""
        return not self.command.startswith(OTHER)


PEERS = {
    "ours-gail": Peer("ours, GAIL from scratch", OURS, (0, 1, 2)),
    "ours-vail": Peer("ours, VAIL from scratch", f"{OURS} --algorithm vail", (0, 1, 2)),
    "ours-gail-warm": Peer("ours, GAIL after a warm start", f"{OURS} --warm_start 60", (0, 1, 2)),
    "imitation-gail": Peer("imitation, GAIL, tuned", f"{OTHER} --learner gail --settings tuned", (0, 1, 2)),
    "imitation-gail-states": Peer(
        "imitation, GAIL, tuned, states only", f"{OTHER} --learner gail --settings tuned --states_only"
    ),
    "imitation-gail-library": Peer("imitation, GAIL, its HalfCheetah settings", f"{OTHER} --learner gail --settings library"),
    "imitation-airl": Peer("imitation, AIRL, tuned", f"{OTHER} --learner airl --settings tuned"),
    "imitation-airl-library": Peer("imitation, AIRL, its HalfCheetah settings", f"{OTHER} --learner airl --settings library"),
    "imitation-bc": Peer("imitation, behavioural cloning", f"{OTHER} --learner bc"),
    "imitation-lib-gail": Peer("imitation-lib, GAIL, patched", f"{OURS} {IMITATION_LIB}"),
    "imitation-lib-vail": Peer("imitation-lib, VAIL, patched", f"{OURS} {IMITATION_LIB} --algorithm vail"),
    "imitation-lib-gail-stock": Peer("imitation-lib, GAIL, as it is", f"{STOCK} {IMITATION_LIB}"),
    "imitation-lib-vail-stock": Peer("imitation-lib, VAIL, as it is", f"{STOCK} {IMITATION_LIB} --algorithm vail"),
    "sb3-ppo": Peer("Stable-Baselines3, PPO on the task's own reward", f"{OTHER} --learner ppo"),
}


def main(arguments=None):
    """Parse, and do it. Raises UserError for the user's mistakes."""
    parser = Parser("peers.py", __doc__)
    parser.add_argument("action", type=str, help="run or tables", metavar="ACTION")
    parser.add_argument("names", type=str, nargs="*", help=f"learners, of {', '.join(PEERS)} [all]", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", help="which seeds [all that are published]", metavar="N")
    parser.add_argument("--python", type=str, default="", help="of the other libraries [they are left out]", metavar="FILE")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"of training at most [{MINUTES}]", metavar="X")
    parser.add_argument("--results", type=str, default=str(ROOT / "results" / "peers"), help="[results/peers]", metavar="DIR")
    parser.add_argument("--runs", type=str, default=str(ROOT / "runs" / "peers"), help="[runs/peers]", metavar="DIR")
    options = parser.parse_args(arguments)
    if options.action not in ("run", "tables"):
        raise UserError(f"ACTION: must be run or tables, not {options.action!r}")
    for name in options.names:
        if name not in PEERS:
            raise UserError(f"{name}: no such learner; there are {', '.join(PEERS)}")
    if options.action == "tables":
        results = read_results(options.results, PEERS)
        page = ROOT / "docs" / "comparison.md"
        write_whole(page, with_tables(page.read_text(), PEERS, results))
        if results:
            write_plot(page.with_suffix(".png"), PEERS, results)
        return
    for name in options.names or PEERS:
        for seed in PEERS[name].seeds:
            if options.seeds is None or seed in options.seeds:
                run(name, seed, options)


def run(name, seed, options):
    """Train, evaluate and publish a seed of a learner unless it is published."""
    peer, directory = PEERS[name], Path(options.runs, name, str(seed))
    published = Path(options.results, name, f"{seed}.json")
    if published.exists():
        return
    if not peer.is_ours and not options.python:
        say(f"{name}: left out, because --python is not given")
        return
    say(f"== {name}, seed {seed}")
    train(peer, seed, directory, options)
    result = evaluate(name, seed, directory, options)
    published.parent.mkdir(parents=True, exist_ok=True)
    write_whole(published, json.dumps(result, indent=1) + "\n")


def train(peer, seed, directory, options):
    """Train a learner in `directory` unless it is trained. Raises OSError where its program fails."""
    done = directory / "trained"
    if done.exists():
        return
    if peer.is_ours:
        place = ["--results_dir", str(directory.parent), "--resume", "auto"]
    else:
        shutil.rmtree(directory, ignore_errors=True)
        place = ["--directory", str(directory)]
    words = [*shlex.split(peer.command), "--seed", str(seed), "--minutes", str(options.minutes), *place]
    say(f"$ python {shlex.join(words)}")
    python = sys.executable if peer.is_ours else options.python
    code = subprocess.run([python, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
    if code:
        raise OSError(f"{words[0]} ended with exit code {code}; what it said is above")
    done.touch()


def evaluate(name, seed, directory, options):
    """Return what is published of a trained learner: returns of each policy that it left, and of the last in more episodes."""
    from qi_ext.evaluation import evaluate as evaluate_episodes
    from qi_ext.evaluation import load_evaluated_agent
    from qi_ext.sampling.controllers import PolicyController

    peer = PEERS[name]
    policies = policies_of_ours(directory) if peer.is_ours else policies_of_others(directory)
    agent = load_evaluated_agent(str(policies[-1][-1]))
    with closing(agent.source(agent.environment())) as source:

        def evaluated(path, episodes):
            actor = load_evaluated_agent(str(path)).actor
            for mode in MODES:
                controller = PolicyController(actor, deterministic=mode == "deterministic")
                yield mode, evaluate_episodes(source, controller, episodes, EVALUATION_SEED)

        snapshots = [
            {"step": step, "minutes": round(minutes, 3)}
            | {mode: round(each["return_mean"], 1) for mode, each in evaluated(path, EPISODES)}
            for step, minutes, path in policies
        ]
        last = {
            mode: {"return_mean": round(each["return_mean"], 1), "falls": each["directions"][0]["falls"]}
            for mode, each in evaluated(policies[-1][-1], LAST_EPISODES)
        }
    last = {mode: each | {"episodes": LAST_EPISODES} for mode, each in last.items()}
    python, names = (sys.executable, VERSIONS) if peer.is_ours else (options.python, (*VERSIONS, *VERSIONS_OF_OTHERS))
    made = made_with() | {"versions": versions(python, names), "physics_steps_per_second": round(physics_rate())}
    return {"name": name, "seed": seed, "command": peer.command, "snapshots": snapshots, "last": last, "made_with": made}


def physics_rate(n_steps=1000, rounds=3):
    """Return control steps per second of bare MuJoCo in this process, a robot that lies: how fast this machine is, and now."""
    import mujoco

    from qi_ext.sampling.read_environment import read_environment
    from qi_ext.tasks import QuadrupedDirection

    spec = read_environment(QuadrupedDirection("simple"))
    data, rates = mujoco.MjData(spec.model), []
    for _ in range(rounds):
        mujoco.mj_resetData(spec.model, data)
        begin = time.perf_counter()
        for _ in range(n_steps):
            mujoco.mj_step(spec.model, data, spec.n_substeps)
        rates.append(n_steps / (time.perf_counter() - begin))
    return statistics.median(rates)


def policies_of_ours(directory):
    """Return (step, minutes of training, path) of each checkpoint's agent in a run directory."""
    from qi_ext.sweeps.published_curve import read_curve
    from qi_ext.training.checkpoints import Checkpoints

    seconds = json.loads((directory / "result.json").read_text())["training_seconds"]
    curve = read_curve(directory / "progress.csv", seconds)
    before = seconds / 60.0 - sum((curve["step"] - curve["begin"]) / curve["steps_per_second"]) / 60.0
    minutes = {0: before} | dict(zip(curve["step"].astype(int).tolist(), curve["minutes"].tolist(), strict=True))
    checkpoints = Checkpoints(directory)
    return [(step, minutes[step], checkpoints.directory(step) / "agent.safetensors") for step in checkpoints.steps()]


def policies_of_others(directory):
    """Return (step, minutes of training, path) of each agent that sb3_peers.py left."""
    from qi_ext.agents.acting import load_agent

    found = []
    for path in sorted((directory / "agents").glob("*.safetensors")):
        metadata = load_agent(path).metadata
        found.append((int(metadata["step"]), float(metadata["minutes"]), path))
    return found


def versions(python, names):
    """Return {name: version} of Python and of these packages in an environment. python: its interpreter."""
    code = "import json, platform, sys; from importlib.metadata import version; "
    code += "print(json.dumps({'python': platform.python_version()} | {name: version(name) for name in sys.argv[1:]}))"
    return json.loads(subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    run_command("peers.py", main)
