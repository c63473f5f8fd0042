"""Steps per second of the whole training loop beside the stock one, and beside the pool alone, in one run.

    python benchmarks/training.py --json FILE

Ours: the loop that trains, pool, learner, discriminator. Stock: mushroom-rl's Core and TRPO, loco-mujoco's UnitreeA1, with
the same discriminator. Both gather and learn from 10,240 samples per fit: 37-512-256-12, 20 conjugate-gradient steps, 5 critic
epochs. Prints a table, medians over rounds of each round's ratio, and writes the medians as one flat JSON object.
benchmarks/README.md says how to read it.
"""

import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from tables import Measure, machine, make_parser, parse, print_table, say, take_rounds, write_medians

from qi_ext.utils.command_line import run_command

ROUNDS = 5
PACKAGES = ("mujoco", "numpy", "torch", "joblib", "mushroom-rl", "loco-mujoco")
# symmetry none and no disturbances, because the stock loop has neither.
SETTINGS = {
    "batch_size": 10_240,
    "cg_iterations": 20,
    "critic_epochs": 5,
    "symmetry": "none",
    "push": 0.0,
    "torque_noise": 0.0,
    "restart_every": 0,
}
COLUMNS = {"walking": "", "from scratch": "_scratch"}
MEASURES = {
    "loop_speedup": Measure("our loop / stock loop", "{:.2f}", 6.0),
    "share_of_pool": Measure("our loop / pool alone", "{:.2f}", 0.70),
    "share_of_pool_in_sequence": Measure("our loop without overlap / pool alone", "{:.2f}"),
    "loop_steps_per_second": Measure("our loop, steps/s", "{:.0f}"),
    "pool_steps_per_second": Measure("pool alone, steps/s", "{:.0f}"),
    "stock_steps_per_second": Measure("stock loop, steps/s", "{:.0f}"),
    "stock_core_steps_per_second": Measure("stock loop without the fit, steps/s", "{:.0f}"),
}


def main(arguments=None):
    """Parse, measure, print, write. Raises UserError for the user's mistakes, before anything is measured."""
    parser = make_parser("training.py", __doc__, ROUNDS)
    parser.add_argument("--workers", type=str, default="2", help="processes of the pool, or auto [2]", metavar="N")
    parser.add_argument("--device", type=str, default="cpu", help="where ours learns: cpu, cuda or cuda:N [cpu]", metavar="X")
    parser.add_argument("--threads", type=int, default=2, help="torch's, in the stock loop [2]", metavar="N")
    options = parse(parser, arguments, ROUNDS)

    # Here, because the pool's workers import this file.
    from qi_ext.training.config import make_config

    settings = SETTINGS | {"n_workers": options.workers, "device": options.device}
    settings |= {"batch_size": 256, "warm_start": 1} if options.quick else {"warm_start": 60}
    values = _measure(make_config("hard", **settings), options)
    print(f"{options.workers} workers, {options.rounds} rounds, ours on {options.device}, on {machine(PACKAGES)}")
    print_table(MEASURES, values, COLUMNS, judged=options.workers == "2" and options.device == "cpu")
    write_medians(options.json, values, {name: getattr(options, name) for name in ("workers", "rounds", "device")})


def _measure(config, options):
    """Return {name: [value of each round]}."""
    with ExitStack() as stack:
        walks = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "walks.npz")
        contenders = {suffix: _Loops(config, walks, suffix == "", options.threads, stack) for suffix in COLUMNS.values()}

        def take_round():
            return {f"{name}{suffix}": value for suffix, loops in contenders.items() for name, value in loops.round().items()}

        return take_rounds(options.rounds, take_round, warm_up=True)


class _Loops:
    """Our loop and the stock one, from the same policy on."""

    def __init__(self, config, walks, walking, threads, stack):
        import numpy as np
        import torch
        from stock_contenders import stock_a1, write_walks
        from stock_learner import StockImitation

        from qi_ext.learning.device import choose_device
        from qi_ext.sampling import ParallelCore, PoolSource
        from qi_ext.tasks import QuadrupedDirection
        from qi_ext.training.learner import make_learner, warm_start

        self.config, self._threads, self._torch = config, threads, torch
        environment = QuadrupedDirection("hard", seed=0)
        demonstrations = environment.demonstrations
        write_walks(walks, demonstrations)
        device, _ = choose_device(config.run.device)

        def learner(device):
            return make_learner(config, environment.info, demonstrations, np.random.SeedSequence(0), device)

        self.ours, for_stock = learner(device), learner("cpu")
        if walking:
            say("cloning the demonstrations")
            warm_start(config, self.ours.policy, demonstrations, np.random.SeedSequence(1))
            for_stock.load_state(self.ours.state())
        self.source = stack.enter_context(closing(PoolSource(environment, **dict(config.sampling), seed=0)))
        self.core = ParallelCore(self.ours, environment, source=self.source)
        self.stock_agent = StockImitation(for_stock)
        self.stock_environment = stock_a1(walks)
        self.stock_environment.seed(0)

    def round(self):
        ours, in_sequence = self._ours(overlap=True), self._ours(overlap=False)
        pool, (stock, stock_core) = self._pool(), self._stock()
        return {
            "loop_speedup": ours / stock,
            "share_of_pool": ours / pool,
            "share_of_pool_in_sequence": in_sequence / pool,
            "loop_steps_per_second": ours,
            "pool_steps_per_second": pool,
            "stock_steps_per_second": stock,
            "stock_core_steps_per_second": stock_core,
        }

    def _ours(self, overlap):
        """Return steps per second from the end of one update to that of another; the next batch may be under way at both."""
        from qi_ext.training.loop import learn

        size = self.config.trpo.batch_size
        self._torch.set_num_threads(self.config.run.learner_threads)
        if overlap:
            run = _Run(self.source, self.ours, size, n_updates=4)
            learn(run)
            ends = run.ends
        else:
            ends = []
            self.core.callbacks_fit = [lambda dataset: ends.append(time.perf_counter())]
            self.core.learn(n_steps=4 * size, n_steps_per_fit=size, quiet=True)
        return 2 * size / (ends[2] - ends[0])

    def _pool(self):
        """Return steps per second of the pool with policy and envs as they are now."""
        began = time.perf_counter()
        for _ in range(2):
            self.source.start(self.ours, n_steps=self.config.trpo.batch_size)
            self.source.collect()
        return 2 * self.config.trpo.batch_size / (time.perf_counter() - began)

    def _stock(self):
        """Return steps per second of one batch and its fit, and of the batch alone."""
        from mushroom_rl.core import Core

        self._torch.set_num_threads(self._threads)
        agent, seconds = self.stock_agent, []

        class Timed:
            """The agent with a clock around its fit."""

            def __getattr__(self, name):
                return getattr(agent, name)

            def fit(self, dataset, **info):
                began = time.perf_counter()
                agent.fit(dataset, **info)
                seconds.append(time.perf_counter() - began)

        core = Core(Timed(), self.stock_environment)
        began = time.perf_counter()
        core.learn(n_steps=self.config.trpo.batch_size, n_steps_per_fit=self.config.trpo.batch_size, quiet=True)
        whole = time.perf_counter() - began
        return self.config.trpo.batch_size / whole, self.config.trpo.batch_size / (whole - sum(seconds))


class _Run:
    """A run of some updates for `training.loop.learn`, without directory and checkpoints. ends: when each update ended."""

    def __init__(self, source, learner, batch_size, n_updates):
        import numpy as np

        from qi_ext.training.episode_counter import EpisodeCounter
        from qi_ext.utils.signals import Signals

        self.source, self.learner, self.batch_size = source, learner, batch_size
        self.n_steps = n_updates * batch_size
        self.counter, self.signals = EpisodeCounter(), Signals()
        self.measured = np.ones(source.n_envs, dtype=bool)
        self.ends = []

    def is_over(self):
        return self.counter.steps >= self.n_steps

    def is_checkpoint_due(self):
        return False

    def note(self, rollouts, diagnostics, seconds):
        self.ends.append(time.perf_counter())

    def save(self):
        pass

    def say_stopped(self):
        pass


if __name__ == "__main__":
    run_command("training.py", main)
