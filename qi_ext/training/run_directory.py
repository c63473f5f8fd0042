"""The directory of one run: RESULTS_DIR/SEED, refused where something is in it already and is not to be gone on with."""

import json
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from qi_ext.training.checkpoints import Checkpoints
from qi_ext.training.config import given_settings
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import locked, require_writable, write_atomically

# What a sweep leaves in the directory of a run: what was printed, and how it ended.
TRIAL_LOG, TRIAL_RECORD = "trial.log", "trial.json"
NOT_THE_RUNS = (TRIAL_LOG, TRIAL_RECORD, f".{TRIAL_RECORD}.")

# Of files that `write_atomically` had not finished.
TEMPORARY = (".config.yaml.", ".progress.csv.", ".agent.safetensors.", ".result.json.", ".report.html.", ".wandb_id.")


class RunDirectory:
    """Where a run leaves config.yaml, progress.csv, TensorBoard events, agents, and at its very end result.json."""

    def __init__(self, path, option="--results_dir", to_write=True):
        """Name the directory and see whether it can be used; nothing is created. option: what named it, for messages.
        to_write: whether it must be one that can be written to.

        Raises UserError where it cannot.
        """
        self.path = Path(path)
        try:
            existing = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
            # What a kill leaves of the very first file is nothing.
            names = [path.name for path in self.path.iterdir()] if existing == self.path and existing.is_dir() else []
            self.occupied = any(not name.startswith(TEMPORARY + NOT_THE_RUNS) for name in names)
        except OSError as error:
            raise UserError(f"{option}: {self.path} cannot be used ({error.strerror}); choose another") from None
        if not existing.is_dir():
            raise UserError(f"{option}: {existing} is not a directory; choose another")
        if to_write:
            require_writable(existing, option)
        self._option = option
        self.checkpoints = Checkpoints(self.path)
        self._steps = self.checkpoints.steps()

    @property
    def agent(self):
        return self.path / "agent.safetensors"

    @property
    def result(self):
        return self.path / "result.json"

    @property
    def report(self):
        return self.path / "report.html"

    def config(self):
        """The settings of the run that was started here, {name: value}; empty where they cannot be read."""
        try:
            settings = yaml.safe_load((self.path / "config.yaml").read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return settings if isinstance(settings, dict) else {}

    @contextmanager
    def taken(self):
        """Make the directory, and keep it from other processes meanwhile; an empty one is removed again.

        Raises UserError where another process has it, or has had it since this object was made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.path, f"{self._option}: the run in {self.path} is running in another process"):
                if self.checkpoints.steps() != self._steps:
                    raise UserError(f"{self._option}: the run in {self.path} has gone on in another process; try again")
                yield
        finally:
            with suppress(OSError):
                self.path.rmdir()

    def create(self, config):
        """Write config.yaml; a result that is there is no longer the run's, and what a kill left half written goes."""
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob(".*.*"):
            if left.name.startswith(TEMPORARY):
                left.unlink(missing_ok=True)
        with write_atomically(self.path / "config.yaml") as file:
            file.write(yaml.safe_dump(given_settings(config), sort_keys=False).encode())
        self.result.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)

    def write_result(self, result):
        """Write result.json; its being there means that the run is finished."""
        write_json(self.result, result)

    def read_result(self):
        """What result.json holds, or None where there is none that can be read."""
        try:
            return json.loads(self.result.read_text())
        except (OSError, ValueError):
            return None


def write_json(path, value):
    """Write plain data as JSON, whole or not at all. Raises UserError where `path` cannot be written."""
    with write_atomically(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
