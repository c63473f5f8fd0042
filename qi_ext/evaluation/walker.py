"""Whose walking is looked at: an agent's, or the trot controller's, and the environment that it belongs in."""

from dataclasses import dataclass

from qi_ext import load_agent
from qi_ext.agents.acting import Actor
from qi_ext.robot import a1
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.training.settings import Sampling
from qi_ext.utils.errors import UserError

EXPERT = "expert"


@dataclass(frozen=True)
class Subject:
    """An agent with what its file says of the run that it comes from.

    name: as it was asked for. actor: None for the trot controller. settings: task, n_directions and speed, as
    `QuadrupedDirection` takes them. seed, step: of the run, which key its evaluation.
    """

    name: str
    actor: Actor | None
    settings: dict
    lanes_per_block: int = Sampling().lanes_per_block
    seed: int = 0
    step: int = 0

    @property
    def metadata(self):
        return {} if self.actor is None else self.actor.metadata

    @property
    def title(self):
        """What it is, in words."""
        if self.actor is None:
            return f"trot controller on {self.settings['task']}"
        known = "step" in self.metadata
        trained = f"seed {self.seed}, {self.step:,} steps" if known else self.metadata.get("origin", "of unknown origin")
        return f"{self.metadata.get('algorithm', '?')} on {self.settings['task']}, {trained}"

    def controller(self, deterministic=True):
        return ExpertController() if self.actor is None else PolicyController(self.actor, deterministic)

    def environment(self, demonstrations=""):
        """The `QuadrupedDirection` it was trained in, its episodes starting from its own demonstrations or from others.

        Raises UserError where they cannot be used.
        """
        from qi_ext.tasks import QuadrupedDirection  # loco_mujoco, which takes a second

        name = demonstrations or self.metadata.get("demonstrations", "trot")
        try:
            return QuadrupedDirection(**self.settings, demonstrations=name)
        except UserError as error:
            if demonstrations:
                raise
            raise UserError(
                f"{error}; the agent was trained on it: choose others with --demonstrations, such as trot"
            ) from None

    def notes(self, environment, demonstrations=""):
        """What is to be said about the demonstrations, in words: a list."""
        found = environment.demonstrations.content_hash()
        if demonstrations or self.metadata.get("demonstrations_hash") in (None, found):
            return []
        return [f"note: {self.metadata['demonstrations']} has changed since the agent was trained on it"]


def load_subject(name, expert_on=""):
    """The `Subject` in a file, or of pretrained/simple or pretrained/hard. Raises UserError where there is none of the A1.

    expert_on: a task; with it, `expert` names the trot controller.
    """
    if expert_on and name == EXPERT:
        return Subject(name, None, {"task": expert_on})
    actor = load_agent(name)
    shape = (actor.observation_mean.shape[0], actor.std.shape[0])
    if shape != (a1.N_OBSERVATIONS, a1.N_ACTIONS):
        raise UserError(
            f"agent: {name}: it takes {shape[0]} numbers and gives {shape[1]}; the task's are {a1.N_OBSERVATIONS} "
            f"and {a1.N_ACTIONS}"
        )
    metadata = actor.metadata
    try:
        settings = {
            "task": metadata["task"],
            "n_directions": int(metadata.get("n_directions", 8)),
            "speed": float(metadata.get("speed", 0.5)),
        }
        # mushroom-rl's `save` knows of no run.
        numbers = {key: int(metadata[key]) for key in ("lanes_per_block", "seed", "step") if key in metadata}
    except (KeyError, ValueError):
        raise UserError(f"agent: {name}: the metadata do not say which task it was trained on") from None
    return Subject(name, actor, settings, **numbers)
