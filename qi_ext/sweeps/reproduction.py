"""Comparison of a published result with one that was made again: exact on the same machine, else within a tolerance."""

import statistics

TOLERANCE = 0.05  # of the published return
DEVIATIONS = 3.0
POLICIES = ("deterministic", "stochastic")


def same_machine(published, again):
    """Return whether both were made with the same processor, device and versions, so that they must be equal to the last bit.

    A hypervisor may give one name to processors whose vector units differ; results that were published before those were noted
    count as equal there.
    """
    machines = [
        (made["processor"], made["gpu"], result["device"], made["versions"])
        for result in (published, again)
        for made in result["made_with"]
    ]
    units = {made["vector_units"] for result in (published, again) for made in result["made_with"] if "vector_units" in made}
    return all(machine == machines[0] for machine in machines) and len(units) <= 1


def exact_differences(published, again):
    """Names of the figures that differ. Minutes, commits, commands and what is evaluated beside the agent are left out."""
    return list(_differences(_reproducible(published), _reproducible(again), ""))


def returns_out_of_tolerance(seeds, again):
    """Names of the mean returns that differ from the mean of the published `seeds` by more than 3 deviations and than 5 %."""
    found = []
    for policy in POLICIES:
        returns = [result["evaluation"][policy]["return_mean"] for result in seeds]
        mean = statistics.mean(returns)
        deviation = statistics.stdev(returns) if len(returns) > 1 else 0.0
        if abs(again["evaluation"][policy]["return_mean"] - mean) > max(DEVIATIONS * deviation, TOLERANCE * abs(mean)):
            found.append(f"evaluation.{policy}.return_mean")
    return found


def _reproducible(result):
    return {
        "steps": result["steps"],
        "return_reached": {level: value and value["steps"] for level, value in result["return_reached"].items()},
        "evaluation": {name: figures for name, figures in result["evaluation"].items() if name != "beside"},
        # The agent's metadata come in any order.
        "agent": {"tensors_sha256": result["agent"]["tensors_sha256"]},
        "demonstrations": result["demonstrations"],
    }


def _differences(one, two, name):
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            yield from _differences(one.get(key), two.get(key), f"{name}.{key}" if name else key)
    elif one != two:
        yield name
