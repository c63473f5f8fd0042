"""Directory of one run, RESULTS_DIR/SEED: its files, and the lock that keeps other processes from it."""

import json
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from qi_ext.training.checkpoints import Checkpoints
from qi_ext.training.result import Result
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import locked, require_name, require_writable, write_whole
from qi_ext.utils.reading import NoSuchFile, read_json, read_yaml
from qi_ext.utils.settings import StoredSettings

# Files of a sweep in the directory of a run: what was printed, and how it ended.
TRIAL_LOG, TRIAL_RECORD = "trial.log", "trial.json"
SWEEP_FILES = (TRIAL_LOG, TRIAL_RECORD, f".{TRIAL_RECORD}.")

# Prefixes of files whose writing was not finished.
TEMPORARY = (".config.yaml.", ".progress.csv.", ".agent.safetensors.", ".result.json.", ".report.html.", ".wandb_id.")

MAX_RESULT = 2**22  # bytes of a result.json
_SETTINGS, _RESULT = TypeAdapter(StoredSettings), TypeAdapter(Result)


class RunDirectory:
    """Directory of config.yaml, progress.csv, TensorBoard events, agents, checkpoints, and at the very end result.json.

    occupied: whether anything is in it but files of a sweep, or of a run that was killed in its very first file.
    """

    def __init__(self, path, option="--results_dir", to_write=True):
        """Check that the directory can be used, and create nothing.

        option: that it was named with, for messages. to_write: whether files will be written. Raises UserError.
        """
        require_name(path, option)
        self.path = Path(path)
        try:
            existing = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
            # A kill in the very first file leaves a temporary one.
            names = [path.name for path in self.path.iterdir()] if existing == self.path and existing.is_dir() else []
            self.occupied = any(not name.startswith(TEMPORARY + SWEEP_FILES) for name in names)
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
        """Settings of the run that was started here, {name: value}, none checked yet; empty where they cannot be read."""
        return dict(self._stored[0])

    def config_fault(self):
        """Why config.yaml cannot be read, in words; "" where it can, or there is none."""
        return self._stored[1]

    @cached_property
    def _stored(self):
        """Settings, and why they cannot be read; read once, because `create` alone writes them."""
        try:
            return read_yaml(self.path / "config.yaml", _SETTINGS), ""
        except NoSuchFile:
            return {}, ""
        except UserError as error:
            return {}, str(error)

    @contextmanager
    def lock(self):
        """Make the directory, and keep it from other processes for the block; an empty one is removed again.

        Raises UserError where another process has it, or had it since this object was made.
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
        """Write config.yaml; remove an older result, and files that a kill left half written."""
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob(".*.*"):
            if left.name.startswith(TEMPORARY):
                left.unlink(missing_ok=True)
        write_whole(self.path / "config.yaml", yaml.safe_dump(config.settings(), sort_keys=False))
        vars(self).pop("_stored", None)
        self.result.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)

    def write_result(self, result):
        """Write result.json, which says that the run is finished."""
        write_json(self.result, result)

    def read_result(self):
        """Content of result.json, as `Result` has it, or None where there is none that can be read."""
        try:
            return read_json(self.result, _RESULT, MAX_RESULT)
        except UserError:
            return None


def write_json(path, value):
    """Write plain data as JSON, whole or not at all. Raises UserError where `path` cannot be written."""
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
