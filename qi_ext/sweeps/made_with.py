"""The code, libraries and machine that a published figure depends on."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from qi_ext.sampling.pool import available_cpus
from qi_ext.sweeps.schemas import MADE_WITH
from qi_ext.training.checkpoints import LIBRARIES
from qi_ext.training.run_directory import write_json
from qi_ext.utils.reading import read_json

ROOT = Path(__file__).parents[2]


def made_with():
    """Return the code, libraries and machine as they are now, as plain data. commit: None outside a repository."""
    import torch

    return {
        "commit": _git("rev-parse", "HEAD"),
        # Publishing itself changes results/.
        "clean": _git("status", "--porcelain", "--", ".", ":!results") == "",
        "processor": processor(),
        "cores": available_cpus(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    }


def note_made_with(path):
    """Add `made_with` to the JSON list at `path` unless it is there: a run may go on on another day."""
    records = read_json(path, MADE_WITH) if path.exists() else []
    now = made_with()
    if now not in records:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, [*records, now])


def processor():
    """Model of the processor."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return model


def _git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
