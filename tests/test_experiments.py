"""The experiments, run as a user runs them. They take minutes each, so only `make test-slow` runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(results_dir, *options):
    """Run `run_gail.py` with these options and return its result.json."""
    command = [sys.executable, ROOT / "launchers" / "run_gail.py", "--results_dir", results_dir, *map(str, options)]
    subprocess.run(command, check=True)
    return json.loads((Path(results_dir) / "0" / "result.json").read_text())


def test_a_warm_start_walks_all_eight_directions(tmp_path):
    result = run(tmp_path, "--task", "hard", "--warm_start", 60, "--n_steps", 20_000, "--evaluation_episodes", 4)
    directions = result["evaluation"]["deterministic"]["directions"]
    assert [row["direction_deg"] for row in directions] == [45.0 * i for i in range(8)]
    assert min(row["return_mean"] for row in directions) >= 800.0


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
@pytest.mark.parametrize("task", ["simple", "hard"])
def test_from_scratch_episodes_become_longer(tmp_path, task, algorithm):
    options = ("--task", task, "--algorithm", algorithm, "--n_steps", 300_000, "--evaluation_episodes", 0)
    result = run(tmp_path, *options)
    assert result["episode_length_last_20000"] >= 1.5 * result["episode_length_first_20000"]
