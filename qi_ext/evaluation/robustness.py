"""How an agent stands pushes and action noise, and commands that it was never trained on: directions between, other speeds."""

from dataclasses import dataclass

from qi_ext.evaluation.episodes import evaluate
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.sampling.disturbances import DisturbedController

PUSHES = (30.0, 60.0)  # N
NOISES = (0.05, 0.10)  # of the action
SPEEDS = (0.3, 0.7)  # m/s


@dataclass(frozen=True)
class Condition:
    """Under what an agent is evaluated. push, noise: as `DisturbedController` takes them."""

    name: str
    commands: tuple[Command, ...]
    push: float = 0.0
    noise: float = 0.0


def conditions(commands):
    """The `Condition`s of a task that draws from `commands`: each disturbance alone, and nothing at all first.

    Directions between those of the task are left out where it has one only.
    """
    found = [Condition("undisturbed", commands)]
    found += [Condition(f"pushes of {push:g} N", commands, push=push) for push in PUSHES]
    found += [Condition(f"action noise {noise:.2f}", commands, noise=noise) for noise in NOISES]
    if len(commands) > 1:
        turn = 180.0 / len(commands)
        turned = tuple(Command(command.direction_deg + turn, command.speed) for command in commands)
        found.append(Condition(f"directions turned by {turn:g} degrees", turned))
    for speed in SPEEDS:
        found.append(Condition(f"speed {speed:g} m/s", tuple(Command(command.direction_deg, speed) for command in commands)))
    return found


def compare_robustness(sampler, actor, episodes, seed, step=0, progress=lambda n: None, beside=None):
    """Evaluate `actor` deterministic, the trot controller (`expert`) and `beside`, another `Actor`, under all `conditions`.

    Returns a list of dicts, one a condition: condition (its name), and for each name the result of `evaluate`. Starts, and
    pushes, are the same for all; starts are those of the demonstrated direction nearest to the command. progress(n) is called
    as n of the |conditions| |names| episodes |directions| episodes are done.
    """
    controllers = {"deterministic": PolicyController(actor, deterministic=True)}
    if beside is not None:
        controllers["beside"] = PolicyController(beside, deterministic=True)
    controllers["expert"] = ExpertController()
    results = []
    for condition in conditions(sampler.environment.commands):
        row = {"condition": condition.name}
        for name, controller in controllers.items():
            disturbed = DisturbedController(controller, condition.push, condition.noise)
            row[name] = evaluate(sampler, disturbed, episodes, seed, step, progress, condition.commands)
        results.append(row)
    return results
