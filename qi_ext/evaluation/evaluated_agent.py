"""An agent that is evaluated, or the trot controller, with the environment that it belongs in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qi_ext import load_agent
from qi_ext.agents.acting import Actor
from qi_ext.robot import a1
from qi_ext.sampling.controllers import Controller, ExpertController, PolicyController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.training.settings import Run, Sampling, Task
from qi_ext.utils.errors import UserError

if TYPE_CHECKING:
    from qi_ext.tasks.quadruped import QuadrupedDirection  # loco_mujoco, which takes a second

__all__ = ["EvaluatedAgent", "load_evaluated_agent"]

EXPERT = "expert"


@dataclass(frozen=True)
class EvaluatedAgent:
    """An agent, with what its file says about the run that it comes from.

    name: as the user gave it. actor: None for the trot controller. settings: those of its environment, as
    `QuadrupedDirection` takes them. lanes_per_block: envs whose actions are computed together. seed, step: of the run; they
    key the episodes of its evaluation.
    """

    name: str
    actor: Actor | None
    settings: dict
    lanes_per_block: int = 4
    seed: int = 0
    step: int = 0

    @property
    def metadata(self) -> dict[str, str]:
        return {} if self.actor is None else self.actor.metadata

    @property
    def title(self) -> str:
        """Algorithm, task and origin, in words."""
        if self.actor is None:
            return f"trot controller on {self.settings['task']}"
        known = "step" in self.metadata
        trained = f"seed {self.seed}, {self.step:,} steps" if known else self.metadata.get("origin", "of unknown origin")
        return f"{self.metadata.get('algorithm', '?')} on {self.settings['task']}, {trained}"

    def controller(self, deterministic: bool = True) -> Controller:
        """The controller, of `qi_ext.sampling.controllers`, that acts as this agent."""
        return ExpertController() if self.actor is None else PolicyController(self.actor, deterministic)

    def environment(self, demonstrations: str = "", courses: Sequence[str] = ()) -> "QuadrupedDirection":
        """The `QuadrupedDirection` that the agent was trained in.

        courses: that it can be told, names or YAML files; all that have names where it is empty.
        demonstrations: where episodes start, as --demonstrations names it; the agent's own where it is empty.
        Raises UserError where they cannot be used.
        """
        from qi_ext.tasks import QuadrupedDirection  # loco_mujoco, which takes a second

        task = self.settings["task"]
        if courses and task != "follow":
            raise UserError(f"--courses: {self.name} was trained on {task}, where commands stay; leave it out")
        # What takes their place is mended as they were: it may be the same recording in another place.
        settings = self.settings | ({"demonstrations": demonstrations} if demonstrations else {})
        try:
            return QuadrupedDirection(**settings, courses=courses or None)
        except UserError as error:
            if demonstrations:
                raise
            raise UserError(
                f"{error}; the agent was trained on it: choose others with --demonstrations, such as trot"
            ) from None

    def source(
        self, environment: "QuadrupedDirection", pool: str = "loky", n_workers: int | str = "auto", scheduler: str = ""
    ) -> PoolSource:
        """The source of episodes in `environment`, in blocks of as many envs as in training; to be closed.

        pool, n_workers, scheduler: as `PoolSource` takes them.
        """
        return PoolSource(
            environment, lanes_per_block=self.lanes_per_block, pool=pool, n_workers=n_workers, scheduler=scheduler
        )

    def notes(self, environment: "QuadrupedDirection", demonstrations: str = "") -> list[str]:
        """Remarks for the user about the demonstrations, a list of lines. demonstrations: as `environment` took it."""
        content_hash = environment.demonstrations.content_hash()
        if demonstrations or self.metadata.get("demonstrations_hash") in (None, content_hash):
            return []
        return [f"note: {self.metadata['demonstrations']} has changed since the agent was trained on it"]


def load_evaluated_agent(name: str, expert_on: str = "") -> EvaluatedAgent:
    """The `EvaluatedAgent` in the file `name`, or pretrained/simple, hard or follow.

    expert_on: a task; where it is given, the name `expert` stands for the trot controller on it.
    Raises UserError where there is no such agent, or it is not an agent of the A1.
    """
    if expert_on and name == EXPERT:
        return EvaluatedAgent(name, None, {"task": expert_on})
    actor = load_agent(name)
    shape = (actor.observation_mean.shape[0], actor.std.shape[0])
    if shape != (a1.N_OBSERVATIONS, a1.N_ACTIONS):
        raise UserError(
            f"agent: {name}: it takes {shape[0]} numbers and gives {shape[1]}; the task's are {a1.N_OBSERVATIONS} "
            f"and {a1.N_ACTIONS}"
        )
    metadata = actor.metadata
    if "task" not in metadata:
        raise UserError(f"agent: {name}: its metadata do not say which task it was trained on")
    try:
        task = Task(**_known(metadata, "task", "n_directions", "speed", "speeds", "demonstrations", "fit", "max_pitch"))
        # An agent saved by mushroom-rl's `save` belongs to no run.
        lanes = Sampling(**_known(metadata, "lanes_per_block")).lanes_per_block
        seed = Run(**_known(metadata, "seed")).seed
        steps: Any = metadata.get("step", 0)
        step = Run(n_steps=steps).n_steps
    except UserError as error:
        said = str(error).removeprefix("--").replace("n_steps", "step", 1)
        raise UserError(f"agent: {name}: in its metadata, {said}; it is damaged, or no agent of ours") from None
    return EvaluatedAgent(name, actor, task.of_environment, lanes, seed, step)


def _known(metadata: Mapping[str, str], *names: str) -> dict[str, Any]:
    return {name: metadata[name] for name in names if name in metadata}
