"""Control steps per second of MuJoCo Warp on a GPU beside the pool of the same machine, and the time to returns of 400 and 800.

    python benchmarks/gpu_physics.py --json FILE
    python benchmarks/gpu_physics.py --quick            # on a machine without a GPU: sees that it runs

Envs walk, by a policy that is cloned from the demonstrations. Prints a table, a column for each number of envs: physics alone,
with policy, rewards and starts, and the whole loop of learning. Then `hard` is trained from scratch for at most --minutes.
"""

import csv
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tables import Measure, machine, make_parser, parse, print_table, say, take_rounds, write_medians

from qi_ext.utils.command_line import run_command

ROUNDS = 3
SIZES, QUICK_SIZES = (32, 256, 1024, 4096, 8192), (8,)
FRAGMENT = 24  # steps of each env in a batch
PACKAGES = ("mujoco", "mujoco-warp", "warp-lang", "torch", "numpy")
RETURNS = (400, 800)
MEASURES = {
    "physics": Measure("physics alone, steps/s", "{:.0f}"),
    "sampling": Measure("with policy, rewards and starts", "{:.0f}"),
    "loop": Measure("whole loop", "{:.0f}"),
    "loop_over_pool": Measure("whole loop / pool of this machine, 32 envs", "{:.1f}"),
}


def main(arguments=None):
    """Parse, measure, print, write. Raises UserError for the user's mistakes, before anything is measured."""
    parser = make_parser("gpu_physics.py", __doc__, ROUNDS)
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N [auto]", metavar="X")
    parser.add_argument("--minutes", type=float, default=3.5, help="of the training at most; 0 for none [3.5]", metavar="X")
    options = parse(parser, arguments, ROUNDS)

    # Here, because the pool's workers import this file.
    from qi_ext.learning.device import choose_device
    from qi_ext.sampling.warp.physics import require_warp
    from qi_ext.tasks import QuadrupedDirection

    require_warp()
    device, name = choose_device(options.device)
    sizes = QUICK_SIZES if options.quick else SIZES
    environment = QuadrupedDirection("hard", seed=0)
    values, learner = {}, _walking_learner(environment, device, options.quick)
    pool = _pool_steps_per_second(environment, options.quick)
    for n_envs in sizes:
        say(f"{n_envs} envs")
        values |= _measured(_Loop(n_envs, environment, learner, options.quick), options.rounds, pool)
    print(f"{options.rounds} rounds, on {device} ({name}), {machine(PACKAGES)}")
    print(f"pool of this machine, 32 envs: {pool:.0f} steps/s")
    print_table(MEASURES, values, {f"{n:,} envs": f"_{n}" for n in sizes}, judged=False)
    reached = _times_to_returns(device, options) if options.minutes and not options.quick else {}
    for level, seconds in reached.items():
        print(f"hard from scratch, return of {level}: {'not reached' if seconds is None else f'{seconds:.0f} s'}")
    facts = {"rounds": options.rounds, "device": name, "pool": pool}
    write_medians(options.json, values, facts | {f"seconds_to_{level}": seconds for level, seconds in reached.items()})


def _measured(loop, rounds, pool):
    """Return {name_n: [value of each round]}."""

    def take_round():
        row = {"physics": loop.physics(), "sampling": loop.sampling(), "loop": loop.whole()}
        row["loop_over_pool"] = row["loop"] / pool
        return {f"{name}_{loop.n_envs}": value for name, value in row.items()}

    return take_rounds(rounds, take_round, warm_up=True)


def _walking_learner(environment, device, quick):
    """A learner whose policy is cloned from the demonstrations."""
    import numpy as np

    from qi_ext.training.config import make_config
    from qi_ext.training.learner import make_learner, warm_start

    config = make_config("hard", physics="warp", warm_start=1 if quick else 20)
    seeds = np.random.SeedSequence(0), np.random.SeedSequence(1)
    learner = make_learner(config, environment.info, environment.demonstrations, seeds[0], device)
    warm_start(config, learner.policy, environment.demonstrations, seeds[1])
    return learner


class _Loop:
    """Envs on the device, and a learner that they teach."""

    def __init__(self, n_envs, environment, learner, quick):
        from qi_ext.sampling.warp.source import WarpSource

        self.n_envs, self._n_steps, self._learner = n_envs, 4 if quick else FRAGMENT, learner
        self._source = WarpSource(environment, n_envs, min(n_envs, 1024), device=learner.device)

    def physics(self):
        actions = self._gather().tensors["actions"]
        return self._per_second(lambda: [self._source._physics.step(row) for row in actions.unbind(dim=1)])

    def sampling(self):
        return self._per_second(self._gather)

    def whole(self):
        return self._per_second(lambda: self._learner.fit(self._gather()))

    def _gather(self):
        self._source.start(self._learner, self._n_steps * self.n_envs)
        return self._source.collect()

    def _per_second(self, work):
        """Env steps per second of `work`, a fragment of each env; each begins where the robots have walked to."""
        import torch

        before = self._source.state()
        began = time.monotonic()
        work()
        if self._source.device.type == "cuda":
            torch.cuda.synchronize(self._source.device)
        seconds = time.monotonic() - began
        self._source.load_state(before)
        return self._n_steps * self.n_envs / seconds


def _pool_steps_per_second(environment, quick):
    """Steps per second of the pool, of all CPUs, 32 envs, with an agent that walks."""
    from types import SimpleNamespace

    from qi_ext import load_agent
    from qi_ext.sampling import PoolSource

    agent = SimpleNamespace(policy=SimpleNamespace(actor=load_agent("pretrained/hard")))
    n_steps = 64 if quick else 8192
    with closing(PoolSource(environment, seed=0)) as pool:
        for _ in range(2):  # the first starts the workers
            began = time.monotonic()
            pool.start(agent, n_steps)
            pool.collect()
    return n_steps / (time.monotonic() - began)


def _times_to_returns(device, options):
    """Train `hard` from scratch; return {return: seconds of training until episodes returned it on average, or None}."""
    from qi_ext.training.resume import find_start
    from qi_ext.training.training_run import TrainingRun

    with tempfile.TemporaryDirectory() as folder:
        settings = {"task": "hard", "physics": "warp", "device": str(device), "minutes": options.minutes}
        with TrainingRun(find_start(settings | {"results_dir": folder, "evaluation_episodes": 0})) as run:
            run.train()
        with (Path(run.directory.path) / "progress.csv").open() as file:
            rows = list(csv.DictReader(file))
    reached, seconds = dict.fromkeys(RETURNS), 0.0
    for row in rows:
        seconds += float(row["collect_seconds"]) + float(row["learn_seconds"])
        for level in RETURNS:
            if reached[level] is None and row["return_mean"] and float(row["return_mean"]) >= level:
                reached[level] = seconds
    return reached


if __name__ == "__main__":
    run_command("gpu_physics.py", main)
