"""The checkpoints of a run: written whole, the newest and the best kept, the newest that is sound found again."""

import itertools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from qi_ext.utils.errors import UserError
from qi_ext.utils.tensor_file import read_tensors, write_tensors

FILE = "checkpoint.safetensors"
NAMED = 3  # of those that cannot be gone on from


@dataclass
class Checkpoint:
    """What a run goes on from. arrays: {name: numpy array}. data: plain JSON, with the run's config among it."""

    step: int
    arrays: dict
    data: dict

    @property
    def config(self):
        """The settings of the run, {name: value}."""
        return self.data["config"]


class Checkpoints:
    """`checkpoints/STEP/` in a run directory; each holds a checkpoint, and the agent as of then."""

    def __init__(self, directory):
        self.path = Path(directory) / "checkpoints"
        self._scores = {}  # of those written or read: how good the agent was then

    def steps(self):
        """Of all that are there, oldest first, whether they are sound or not."""
        return sorted(int(path.name) for path in self.path.glob("*") if path.name.isdecimal() and path.is_dir())

    def any_written(self):
        """Whether one was ever written to its end, be it sound by now or not."""
        return any((self.directory(step) / FILE).exists() for step in self.steps())

    def directory(self, step):
        return self.path / str(step)

    def write(self, checkpoint, save_agent, keep):
        """Write it and save_agent(path of the agent's file), then remove all but the newest `keep` and the best."""
        directory = self.directory(checkpoint.step)
        directory.mkdir(parents=True, exist_ok=True)
        save_agent(directory / "agent.safetensors")
        # Last, because a step is sound once it has this.
        write_tensors(directory / FILE, "checkpoint", checkpoint.arrays, checkpoint.data)
        self._scores[checkpoint.step] = checkpoint.data["score"]
        kept = set(self.steps()[-keep:]) | {self.best()}
        for step in self.steps():
            if step not in kept:
                shutil.rmtree(self.directory(step), ignore_errors=True)

    def best(self):
        """The step of the best one written or read, or None where none has a score."""
        scored = {step: score for step, score in self._scores.items() if score is not None}
        return max(scored, key=lambda step: (scored[step], step)) if scored else None

    def newest(self, foreign=lambda config: None, say=print):
        """The newest sound `Checkpoint`; those that are passed over are named, and said why.

        foreign(config): why a checkpoint with that config is not of this run, or None. Raises UserError where none is sound.
        """
        reasons, found = [], None
        for step in reversed(self.steps()):
            try:
                checkpoint = self.read(step)
                reason = foreign(checkpoint.config)
                if reason is not None:
                    raise UserError(f"{self.directory(step) / FILE}: of another run: {reason}")
            except UserError as error:
                if found is None:
                    reasons.append(str(error))
                continue
            self._scores[step] = checkpoint.data["score"]
            found = found or checkpoint
        if found is None:
            more = [f"and {len(reasons) - NAMED} older ones"] if len(reasons) > NAMED else []
            why = "; ".join(reasons[:NAMED] + more) or f"{self.path} holds none"
            raise UserError(f"--resume: no checkpoint to go on from: {why}")
        for reason in reasons:
            say(f"passed over: {reason}")
        return found

    def read(self, step):
        """The `Checkpoint` of a step. Raises UserError, in one line, where it is not sound."""
        path = self.directory(step) / FILE
        arrays, data = read_tensors(path, "checkpoint")
        score = data.get("score", "") if isinstance(data, dict) else ""
        if not isinstance(score, float | None) or not isinstance(data.get("config"), dict):
            raise UserError(f"{path}: not a checkpoint of ours: it does not say of which run it is")
        if data.get("step") != step:
            raise UserError(f"{path}: is of step {data.get('step')}, not {step}")
        return Checkpoint(step, arrays, data)

    def set_aside(self, after):
        """Rename those of later steps than `after`, which `newest` passed over, so that they are not taken for what comes.

        Those that were not written to their end are removed.
        """
        for step in self.steps():
            if step > after and not (self.directory(step) / FILE).exists():
                shutil.rmtree(self.directory(step), ignore_errors=True)
            elif step > after:
                names = (f"{step}.passed_over{number or ''}" for number in itertools.count())
                os.rename(self.directory(step), next(self.path / name for name in names if not (self.path / name).exists()))
