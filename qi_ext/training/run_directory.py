"""The directory of one run: RESULTS_DIR/SEED, refused where something is in it already."""

import dataclasses
import json
from pathlib import Path

import yaml

from qi_ext.errors import UserError
from qi_ext.files import require_writable, write_atomically


class RunDirectory:
    """Where a run leaves config.yaml, progress.csv, TensorBoard events, agents, and at its very end result.json."""

    def __init__(self, config):
        """Name the directory and see whether it can be used; nothing is created. Raises UserError where it cannot."""
        self.path = Path(config.results_dir) / str(config.seed)
        try:
            existing = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
            occupied = existing == self.path and existing.is_dir() and any(self.path.iterdir())
        except OSError as error:
            raise UserError(f"--results_dir: {self.path} cannot be used ({error.strerror}); choose another") from None
        if not existing.is_dir():
            raise UserError(f"--results_dir: {existing} is not a directory; choose another")
        if occupied:
            raise UserError(f"--results_dir: {self.path} is not empty; choose another --results_dir or --seed, or move it away")
        require_writable(existing, "--results_dir")

    @property
    def agent(self):
        return self.path / "agent.safetensors"

    @property
    def result(self):
        return self.path / "result.json"

    def checkpoint_agent(self, step):
        """The agent's file as of `step`; its directory is made."""
        directory = self.path / "checkpoints" / str(step)
        directory.mkdir(parents=True, exist_ok=True)
        return directory / "agent.safetensors"

    def create(self, config):
        """Make the directory and write config.yaml."""
        self.path.mkdir(parents=True, exist_ok=True)
        with write_atomically(self.path / "config.yaml") as file:
            file.write(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).encode())

    def write_result(self, result):
        """Write result.json; its being there means that the run is finished."""
        write_json(self.result, result)


def write_json(path, value):
    """Write plain data as JSON, whole or not at all. Raises UserError where `path` cannot be written."""
    with write_atomically(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
