"""What the README says of the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qi_ext import a1

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_observation_table_is_that_of_the_task():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    assert [(int(index), *row) for index, *row in rows] == a1.observation_table()


def test_the_launchers_that_it_names_are_there():
    named = set(re.findall(r"launchers/\w+\.py", README))
    assert named
    assert all((Path(__file__).parents[1] / name).is_file() for name in named)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_its_python_parses(code):
    ast.parse(code)


def test_the_example_of_ones_own_agent_in_the_pool_runs(tmp_path):
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "ParallelCore" in code)
    script = tmp_path / "example.py"
    script.write_text(example + "    print(core.n_episodes, sum(sample[5] for sample in dataset))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    learned, evaluated = map(int, done.stdout.split())
    assert learned > 0
    assert evaluated == 10


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@[A-Z]+@", README)
