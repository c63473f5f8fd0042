"""Checkpoints of a run: {part: state}, written whole, the newest and the best kept, the newest sound one found again.

A part is anything with `state()`, which gives {name: numpy array or plain JSON}, and `load_state(state)`, which goes on from it
and raises KeyError, TypeError or ValueError where the state is of something else.
"""

import functools
import importlib.metadata
import itertools
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qi_ext.training.episode_counter import EpisodeCounter
from qi_ext.training.result import Count, Line, Name, Seconds
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import first_fault
from qi_ext.utils.settings import StoredSettings
from qi_ext.utils.tensor_file import read_tensors, write_tensors
from qi_ext.utils.words import in_one_line

FILE = "checkpoint.safetensors"
LEARNED = "agent"  # the part whose numbers must be finite
LARGEST = 1e18  # of float32, whose largest is 3e38
MOST_REASONS = 3  # of a refusal, for checkpoints that cannot be used
LIBRARIES = ("torch", "mujoco", "numpy", "loco-mujoco", "mushroom-rl")


class Checkpoint(BaseModel):
    """A run between two updates.

    step: env steps of training. score: mean return of recent episodes, None without any. config: settings of the run, flat.
    seconds: of training so far. demonstrations_hash: of their content. states: {part: {name: numpy array or plain JSON}}.
    """

    model_config = ConfigDict(strict=True)

    step: Count
    score: Annotated[float, Field(allow_inf_nan=False)] | None
    config: StoredSettings
    seconds: Seconds
    demonstrations_hash: Name
    states: dict[str, dict[str, Any]]
    versions: Line = ""

    @model_validator(mode="after")
    def _counter_is_of_this_step(self):
        counter, state = EpisodeCounter(), self.states.get("episodes")
        if state is not None:
            try:
                counter.load_state(state)
            except KeyError as error:
                raise ValueError(f"episodes have no {error.args[0]}") from None
            if counter.steps != self.step:
                raise ValueError(f"episodes have counted {counter.steps} steps")
        return self

    @classmethod
    def of(cls, parts, **about):
        """Collect the states of {name: part}; about: the other fields. Raises FloatingPointError if the learner diverged."""
        states = {name: part.state() for name, part in parts.items()}
        bad = _not_finite(states[LEARNED])
        if bad:
            raise FloatingPointError(f"training: {', '.join(bad)} not finite; the last checkpoint is good")
        return cls(states=states, versions=library_versions(), **about)

    def load_into(self, parts):
        """Make {name: part} what they were. Raises UserError where a state is missing, unknown, or of something else."""
        try:
            for name in self.states.keys() - parts.keys():
                raise ValueError(f"{name} is unknown")
            for name, part in parts.items():
                part.load_state(self.states[name])
        # A part finds what does not fit where it uses it.
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"--resume: the checkpoint of step {self.step} does not fit this program: {in_one_line(error)}"
            ) from None

    def require_demonstrations(self, name, content_hash):
        """Raise UserError where the demonstrations that --demonstrations names are not those that the run began with."""
        if self.demonstrations_hash != content_hash:
            raise UserError(
                f"--demonstrations: {name} has changed since the run began (content {content_hash}, "
                f"then {self.demonstrations_hash}); give the file that it began with"
            )


class Checkpoints:
    """`checkpoints/STEP/` in a run directory; each holds a checkpoint, and the agent as of then."""

    def __init__(self, directory):
        self.path = Path(directory) / "checkpoints"
        self._scores = {}  # of those saved or loaded

    def steps(self):
        """Steps of all that are there, oldest first, sound or not."""
        return sorted(int(path.name) for path in self.path.glob("*") if path.name.isdecimal() and path.is_dir())

    def any_complete(self):
        """Return whether one was ever written to its end, sound by now or not."""
        return any((self.directory(step) / FILE).exists() for step in self.steps())

    def directory(self, step):
        return self.path / str(step)

    def save(self, checkpoint, save_agent, keep):
        """Write it and save_agent(path of the agent's file), then remove all but the newest `keep` and the best."""
        directory = self.directory(checkpoint.step)
        directory.mkdir(parents=True, exist_ok=True)
        save_agent(directory / "agent.safetensors")
        # Last, because a step is complete once it has this.
        write_tensors(directory / FILE, "checkpoint", *_to_file(checkpoint))
        self._scores[checkpoint.step] = checkpoint.score
        kept = set(self.steps()[-keep:]) | {self.best()}
        for step in self.steps():
            if step not in kept:
                shutil.rmtree(self.directory(step), ignore_errors=True)

    def best(self):
        """The step of the best one saved or loaded, or None where none has a score."""
        scored = {step: score for step, score in self._scores.items() if score is not None}
        return max(scored, key=lambda step: (scored[step], step)) if scored else None

    def load(self, step):
        """The `Checkpoint` of a step. Raises UserError, in one line, where it is not sound."""
        path = self.directory(step) / FILE
        arrays, data = read_tensors(path, "checkpoint")
        try:
            checkpoint = _from_file(arrays, data)
        except (ValidationError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not a checkpoint of ours: {_reason(error)}") from None
        if checkpoint.step != step:
            raise UserError(f"{path}: is of step {checkpoint.step}, not {step}")
        bad = _not_finite(checkpoint.states.get(LEARNED, {}))
        if bad:
            raise UserError(f"{path}: {bad[0]:.100} is not finite")
        return checkpoint

    def load_newest(self, foreign=lambda config: None, say=print, check=lambda checkpoint: None):
        """The newest sound `Checkpoint`; say(text) is told of those that are passed over, and why.

        foreign(config): why a checkpoint with that config is not of this run, or None. check(checkpoint) raises UserError for
        one that cannot be gone on from. Raises UserError where none is sound.
        """
        reasons, found = [], None
        for step in reversed(self.steps()):
            try:
                checkpoint = self.load(step)
                check(checkpoint)
                reason = foreign(checkpoint.config)
                if reason is not None:
                    raise UserError(f"{self.directory(step) / FILE}: of another run: {reason}")
            except UserError as error:
                if found is None:
                    reasons.append(str(error))
                continue
            self._scores[step] = checkpoint.score
            found = found or checkpoint
        if found is None:
            more = [f"and {len(reasons) - MOST_REASONS} older ones"] if len(reasons) > MOST_REASONS else []
            why = "; ".join(reasons[:MOST_REASONS] + more) or f"{self.path} holds none"
            raise UserError(f"--resume: no checkpoint to go on from: {why}")
        for reason in reasons:
            say(f"passed over: {reason}")
        return found

    def rename_after(self, step):
        """Rename those of later steps, which `load_newest` passed over, so that they are not taken for ones to come.

        Those that were not written to their end are removed.
        """
        for later in (each for each in self.steps() if each > step):
            if not (self.directory(later) / FILE).exists():
                shutil.rmtree(self.directory(later), ignore_errors=True)
                continue
            names = (f"{later}.passed_over{number or ''}" for number in itertools.count())
            os.rename(self.directory(later), next(self.path / name for name in names if not (self.path / name).exists()))


@functools.cache
def library_versions():
    """The libraries that a run's numbers depend on, and their versions, in one line."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)


def _not_finite(state):
    """Names of the arrays in a state that hold a NaN, or a number so large that its sums and squares are not finite."""
    arrays = {name: array for name, array in _arrays(state).items() if array.dtype.kind == "f"}
    # Adam's second moments are squares already.
    largest = {name: LARGEST**2 if name.endswith("exp_avg_sq") else LARGEST for name in arrays}
    return [name for name, array in arrays.items() if not (np.abs(array) <= largest[name]).all()]


def _arrays(state):
    return {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


def _to_file(checkpoint):
    """Arrays, {"part/name": array}, and plain JSON."""
    states = checkpoint.states
    arrays = {f"{part}/{name}": array for part, state in states.items() for name, array in _arrays(state).items()}
    rest = {
        part: {name: value for name, value in state.items() if f"{part}/{name}" not in arrays} for part, state in states.items()
    }
    return arrays, checkpoint.model_dump(exclude={"states"}) | {"parts": rest}


def _from_file(arrays, data):
    """The `Checkpoint` that `_to_file` gave. Raises ValidationError, TypeError or AttributeError for anything else."""
    rest = data.pop("parts", None)
    if rest is None:  # a file from before there were parts
        rest = {"episodes": data.pop("counts", {})}
        data.pop("n_episodes", None)
    states = {part: dict(values) for part, values in rest.items()}
    for name, array in arrays.items():
        part, _, key = name.partition("/")
        states.setdefault(part, {})[key] = array
    return Checkpoint(**data, states=states)


def _reason(error):
    if not isinstance(error, ValidationError):
        return "it does not say of which run it is"
    return first_fault(error)
