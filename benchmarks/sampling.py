"""Steps per second of the pool beside bare physics, the stock ways to sample, and itself with one worker; one run.

    python benchmarks/sampling.py --json FILE --workers 2
    python benchmarks/sampling.py --json FILE --vector     # pool and vector environment beside Gymnasium's and SB3's, instead

All walk: a policy cloned from the demonstrations acts, and bare physics replays what it did. Prints a table, medians over
rounds of each round's ratio, and writes the medians as one flat JSON object. benchmarks/README.md says how to read it.
"""

from tables import Measure, machine, make_parser, parse, print_table, write_medians

from qi_ext.utils.command_line import run_command
from qi_ext.utils.errors import UserError

ROUNDS = 7
PACKAGES = ("mujoco", "numpy", "joblib", "gymnasium", "mushroom-rl", "loco-mujoco", "torch")
COLUMNS = {"8 envs": "_8", "32 envs": "", "128 envs": "_128"}
MEASURES = {
    "physics": Measure("pool / bare mj_step", "{:.3f}", 0.90),
    "stock_core": Measure("pool / stock Core", "{:.2f}", 4.5),
    "async_vector_env": Measure("pool / AsyncVectorEnv", "{:.2f}"),
    "scaling": Measure("pool / one worker", "{:.3f}", 1.85),
    "pool_steps_per_second": Measure("pool, steps/s", "{:.0f}"),
    "bare_steps_per_second": Measure("bare mj_step, steps/s", "{:.0f}"),
    "stock_steps_per_second": Measure("stock Core, steps/s", "{:.0f}"),
    "vector_steps_per_second": Measure("AsyncVectorEnv, steps/s", "{:.0f}"),
    "one_worker_steps_per_second": Measure("one worker, steps/s", "{:.0f}"),
    "bytes_sent_per_step": Measure("bytes sent a step", "{:.0f}"),
    "bytes_received_per_step": Measure("bytes received a step", "{:.0f}"),
    "worker_rss_mb": Measure("memory of a worker, MB", "{:.0f}"),
    "share_policy": Measure("time: policy", "{:.1%}"),
    "share_observation": Measure("time: observation, reward, bookkeeping", "{:.1%}"),
    "share_physics": Measure("time: physics", "{:.1%}"),
    "share_transport": Measure("time: transport and waiting", "{:.1%}"),
}
VECTOR_MEASURES = {
    "pool_own_async": Measure("pool / AsyncVectorEnv", "{:.2f}"),
    "pool_own_subproc": Measure("pool / SubprocVecEnv", "{:.2f}"),
    "vector_env_own_async": Measure("vector env / AsyncVectorEnv", "{:.2f}", 2.0),
    "vector_env_own_subproc": Measure("vector env / SubprocVecEnv", "{:.2f}", 1.0),
    "pool_own_async_processor": Measure("by processor time: pool / AsyncVectorEnv", "{:.2f}"),
    "pool_own_subproc_processor": Measure("by processor time: pool / SubprocVecEnv", "{:.2f}"),
    "vector_env_own_async_processor": Measure("by processor time: vector env / AsyncVectorEnv", "{:.2f}"),
    "vector_env_own_subproc_processor": Measure("by processor time: vector env / SubprocVecEnv", "{:.2f}"),
    "pool_steps_per_second": Measure("pool, steps/s", "{:.0f}"),
    "vector_env_steps_per_second": Measure("vector env, steps/s", "{:.0f}"),
    "own_async_steps_per_second": Measure("AsyncVectorEnv, steps/s", "{:.0f}"),
    "own_subproc_steps_per_second": Measure("SubprocVecEnv, steps/s", "{:.0f}"),
}


def main(arguments=None):
    """Parse, measure, print, write. Raises UserError for the user's mistakes, before anything is measured."""
    parser = make_parser("sampling.py", __doc__, ROUNDS)
    parser.add_argument("--workers", type=str, default="2", help="processes, or auto: all available [2]", metavar="N")
    parser.add_argument("--vector", action="store_true", help="ways to step 32 envs of our own environment, instead")
    options = parse(parser, arguments, ROUNDS)
    n_workers = _workers(options.workers)

    # Here, because every process of every contender imports this file, and few need torch.
    if options.vector:
        from vector_contenders import measure
    else:
        from sampling_rounds import measure

    values, walks = measure(n_workers, options.rounds, options.quick)
    print(f"{n_workers} workers, {options.rounds} rounds, on {machine(PACKAGES)}")
    # Targets are for 32 envs, with 2 workers.
    if options.vector:
        print_table(VECTOR_MEASURES, values, {"32 envs": ""}, judged=n_workers == 2)
    else:
        print_table(MEASURES, values, COLUMNS, judged=n_workers == 2)
    print()
    for name, walk in walks.items():
        reward = walk.reward / walk.steps
        print(f"{name}: {walk.falls} falls in {walk.steps:,} steps, mean reward {reward:.3f} a step (at most 1)")
    write_medians(options.json, values, {"workers": n_workers, "rounds": options.rounds})


def _workers(text):
    from qi_ext.sampling.pool import available_cpus

    if text == "auto":
        return available_cpus()
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers: must be auto or a whole number of at least 1, not {text!r}")
    return int(text)


if __name__ == "__main__":
    run_command("sampling.py", main)
