"""One update of our learner beside one of mushroom-rl's own TRPO with the same discriminator, in one run.

    python benchmarks/learner.py --json FILE

10,240 samples, 37-512-256-12, 20 conjugate-gradient steps, 5 critic epochs, discriminator included, on both sides. Prints a
table, medians over rounds of each round's ratio, and writes the medians as one flat JSON object. benchmarks/README.md says how
to read it.
"""

import time

from tables import Measure, machine, make_parser, parse, print_table, say, take_rounds, write_medians

from qi_ext.utils.command_line import run_command

ROUNDS = 7
PACKAGES = ("torch", "numpy", "mushroom-rl")
# symmetry none, because the stock learner's policy has none.
SETTINGS = {"batch_size": 10_240, "cg_iterations": 20, "critic_epochs": 5, "symmetry": "none"}
MEASURES = {
    "update_speedup": Measure("stock TRPO / ours", "{:.2f}", 6.0),
    "update_speedup_exact": Measure("stock TRPO / ours without approximation", "{:.2f}", 2.5),
    "stock_seconds": Measure("stock TRPO, s", "{:.2f}"),
    "ours_seconds": Measure("ours, s", "{:.3f}"),
    "exact_seconds": Measure("ours without approximation, s", "{:.3f}"),
    "share_policy": Measure("ours: policy step", "{:.0%}"),
    "share_critic": Measure("ours: critic", "{:.0%}"),
    "share_discriminator": Measure("ours: discriminator's reward and fit", "{:.0%}"),
    "share_saved": Measure("of the time without approximation, saved by the Fisher products' subsample", "{:.0%}"),
}


def main(arguments=None):
    """Parse, measure, print, write. Raises UserError for the user's mistakes, before anything is measured."""
    parser = make_parser("learner.py", __doc__, ROUNDS)
    parser.add_argument("--threads", type=int, default=2, help="torch's, of both sides [2]", metavar="N")
    parser.add_argument("--device", type=str, default="cpu", help="where ours learns: cpu, cuda or cuda:N [cpu]", metavar="X")
    options = parse(parser, arguments, ROUNDS)

    from qi_ext.training.config import make_config

    config = make_config("hard", **(SETTINGS | ({"batch_size": 512} if options.quick else {})))
    values = _measure(config, options)
    print(f"{options.threads} threads, {options.rounds} rounds, ours on {options.device}, on {machine(PACKAGES)}")
    print(f"approximation: Fisher products on {config.trpo.cg_fraction:.0%} of the states (--cg_fraction); nothing else")
    print_table(MEASURES, values, {"an update": ""}, judged=options.threads == 2 and options.device == "cpu")
    facts = {name: getattr(options, name) for name in ("threads", "rounds", "device")}
    facts["cg_fraction"] = config.trpo.cg_fraction
    write_medians(options.json, values, facts)


def _measure(config, options):
    """Return {name: [value of each round]}."""
    from contextlib import closing

    import numpy as np
    import torch
    from stock_learner import StockImitation

    from qi_ext.learning.device import choose_device
    from qi_ext.sampling import PoolSource
    from qi_ext.tasks import QuadrupedDirection
    from qi_ext.training.learner import make_learner

    device, _ = choose_device(options.device)
    environment = QuadrupedDirection("hard", seed=0)

    def build(settings, device="cpu"):
        seed = np.random.SeedSequence(0)
        return make_learner(settings, environment.info, environment.demonstrations, seed, device)

    ours, exact = build(config, device), build(config.replace(cg_fraction=1.0), device)
    stock = StockImitation(build(config))
    say("gathering a batch")
    with closing(PoolSource(environment, **dict(config.sampling) | {"pool": "serial"}, seed=1)) as source:
        source.start(ours, n_steps=config.trpo.batch_size)
        rollouts = source.collect()
    dataset = rollouts.dataset()
    torch.set_num_threads(options.threads)
    begun, weights = ours.state(), stock.policy.get_weights()

    def timed(learner, experience):
        """Return the seconds of an update from the same weights."""
        if learner is stock:
            learner.policy.set_weights(weights)
        else:
            learner.load_state(begun)
        began = time.perf_counter()
        learner.fit(experience)
        return time.perf_counter() - began

    def seconds_of_phases():
        """Return the seconds of each part of an update of its own, because a GPU is waited for after each part."""
        ours.load_state(begun)
        took, since = {}, time.perf_counter()

        def note(name, result=None):
            nonlocal since
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            took[name], since = took.get(name, 0.0) + now - since, now
            return result

        batch = note("rest", ours.batch(rollouts))
        rewards = note("discriminator", ours.rewards(batch))
        advantages, targets = note("rest", ours.advantages(batch, rewards))
        note("policy", ours.policy_step(batch, advantages))
        note("critic", ours.fit_critic(batch, targets))
        note("discriminator", ours.fit_discriminator(batch))
        note("rest", ours.diagnostics())
        return took

    def take_round():
        of_stock, of_ours, of_exact = timed(stock, dataset), timed(ours, rollouts), timed(exact, rollouts)
        parts = seconds_of_phases()
        return {
            "update_speedup": of_stock / of_ours,
            "update_speedup_exact": of_stock / of_exact,
            "stock_seconds": of_stock,
            "ours_seconds": of_ours,
            "exact_seconds": of_exact,
            "share_saved": 1.0 - of_ours / of_exact,
        } | {f"share_{name}": parts[name] / sum(parts.values()) for name in ("policy", "critic", "discriminator")}

    return take_rounds(options.rounds, take_round, warm_up=True)


if __name__ == "__main__":
    run_command("learner.py", main)
