"""Whether a published result comes out again: exactly on the same machine, within a tolerance on another."""

import statistics

TOLERANCE = 0.05  # of the published return
DEVIATIONS = 3.0
POLICIES = ("deterministic", "stochastic")


def same_machine(published, again):
    """Whether both were made with the same processor, device and versions, so that they must be the same to the last bit.

    A hypervisor may give one name to processors whose vector units differ; a result that was published before those were noted
    does not count there.
    """

    def machines(result):
        return [(made["processor"], made["gpu"], result["device"], made["versions"]) for made in result["made_with"]]

    first, *others = machines(published) + machines(again)
    units = {made["vector_units"] for result in (published, again) for made in result["made_with"] if "vector_units" in made}
    return all(machine == first for machine in others) and len(units) <= 1


def exact_differences(published, again):
    """Names of the figures that are not equal. Minutes, commits and commands may differ, and what is only evaluated once."""
    return list(_differences(_exact(published), _exact(again), ""))


def far_off(seeds, again):
    """Names of the mean returns further from the published ones, of all `seeds`, than 3 deviations over seeds, and than 5 %."""
    found = []
    for policy in POLICIES:
        returns = [result["evaluation"][policy]["return_mean"] for result in seeds]
        mean = statistics.mean(returns)
        deviation = statistics.stdev(returns) if len(returns) > 1 else 0.0
        if abs(again["evaluation"][policy]["return_mean"] - mean) > max(DEVIATIONS * deviation, TOLERANCE * abs(mean)):
            found.append(f"evaluation.{policy}.return_mean")
    return found


def _exact(result):
    reached = {level: value and value["steps"] for level, value in result["return_reached"].items()}
    evaluation = {name: figures for name, figures in result["evaluation"].items() if name != "beside"}
    # Of the agent the tensors alone, because its metadata come in any order.
    agent = {"tensors_sha256": result["agent"]["tensors_sha256"]}
    demonstrations = result["demonstrations"]
    return {
        "steps": result["steps"],
        "return_reached": reached,
        "evaluation": evaluation,
        "agent": agent,
        "demonstrations": demonstrations,
    }


def _differences(one, two, name):
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            yield from _differences(one.get(key), two.get(key), f"{name}.{key}" if name else key)
    elif one != two:
        yield name
