"""The evaluation of an agent under pushes, action noise, and commands that it was never trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from qi_ext.agents.acting import Actor
from qi_ext.evaluation.comparison import controllers
from qi_ext.evaluation.episodes import evaluate
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import Course
from qi_ext.sampling.controllers import Controller
from qi_ext.sampling.disturbances import DisturbedController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.display import Display

__all__ = ["compare_robustness", "conditions", "evaluate_robustness"]

PUSHES = (30.0, 60.0)  # N
NOISES = (0.05, 0.10)  # of the action
SPEEDS = (0.3, 0.7)  # m/s, where one is commanded


@dataclass(frozen=True)
class Condition:
    """One condition of an evaluation.

    push, noise: as `DisturbedController` takes them. share: its commands for each one of the undisturbed condition; each is
    walked in that fraction of the episodes.
    """

    name: str
    commands: Sequence[Command | Course]
    push: float = 0.0
    noise: float = 0.0
    share: int = 1

    def episodes(self, episodes: int) -> int:
        """Return the episodes of each command, where the undisturbed condition has `episodes` of each."""
        return max(1, episodes // self.share)


def conditions(commands: Sequence[Command | Course]) -> list[Condition]:
    """Return the `Condition`s for a task's `commands`: undisturbed first, then each disturbance alone.

    A task of one direction has no directions between, so that condition is left out. Of several speeds, other ones are those
    halfway between two. Of courses, the first is disturbed, and straight walks are beside it.
    """
    courses = [command for command in commands if isinstance(command, Course)]
    plain = [command for command in commands if isinstance(command, Command)]
    told: Sequence[Command | Course] = tuple(courses[:1] or plain)
    found = [Condition("undisturbed", told)]
    found += [Condition(f"pushes of {push:g} N", told, push=push) for push in PUSHES]
    found += [Condition(f"action noise {noise:.2f}", told, noise=noise) for noise in NOISES]
    if courses:
        straight = [(speed, task_commands("hard", speed=speed)) for speed in (SPEEDS[0], 0.5, SPEEDS[1])]
        return found + [Condition(f"straight at {speed:g} m/s, 8 directions", walks, share=8) for speed, walks in straight]
    directions = list(dict.fromkeys(command.direction_deg for command in plain))
    if len(directions) > 1:
        turn = 180.0 / len(directions)
        turned = tuple(Command(command.direction_deg + turn, command.speed) for command in plain)
        found.append(Condition(f"directions turned by {turn:g} degrees", turned))
    speeds = sorted({command.speed for command in plain})
    for speed in [(slower + faster) / 2.0 for slower, faster in pairwise(speeds)] or SPEEDS:
        found.append(Condition(f"speed {speed:g} m/s", tuple(Command(direction, speed) for direction in directions)))
    return found


def evaluate_robustness(
    source: PoolSource, actor: Actor, episodes: int, seed: int, step: int = 0, beside: Actor | None = None
) -> list[dict]:
    """Run `compare_robustness` with its progress shown; arguments as in `evaluate_agent`."""
    commands = source.environment.commands
    n_per_policy = sum(len(condition.commands) * condition.episodes(episodes) for condition in conditions(commands))
    n_episodes = n_per_policy * len(_controllers(actor, beside))
    with Display("evaluating robustness", n_episodes, "episodes") as display:
        return compare_robustness(source, actor, episodes, seed, step, display.advance, beside)


def compare_robustness(
    source: PoolSource,
    actor: Actor,
    episodes: int,
    seed: int,
    step: int = 0,
    progress: Callable[[int], Any] = lambda n: None,
    beside: Actor | None = None,
) -> list[dict]:
    """Evaluate `actor` deterministic, the trot controller (`expert`) and `beside`, another `Actor`, under all `conditions`.

    Arguments as in `evaluate`; straight walks beside a course are in 8 directions, with an eighth of `episodes` each. Returns a
    list of dicts, one a condition: condition (its name), and for each policy's name the result of `evaluate`. Starts and pushes
    are the same for all policies; starts are those of the demonstrated command nearest to the one told. Raises SamplingError.
    """
    results = []
    for condition in conditions(source.environment.commands):
        row: dict[str, Any] = {"condition": condition.name}
        for name, controller in _controllers(actor, beside).items():
            disturbed = DisturbedController(controller, condition.push, condition.noise)
            row[name] = evaluate(source, disturbed, condition.episodes(episodes), seed, step, progress, condition.commands)
        results.append(row)
    return results


def _controllers(actor: Actor, beside: Actor | None) -> dict[str, Controller]:
    """The policies of `controllers` that draw nothing at random themselves."""
    return {name: each for name, each in controllers(actor, beside).items() if name not in ("stochastic", "random")}
