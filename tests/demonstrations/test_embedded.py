"""The sets that come with the package."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from qi_ext.demonstrations import load_demonstrations
from qi_ext.demonstrations.formats import read
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.demonstrations.recording import summary
from qi_ext.robot import a1
from qi_ext.tasks.directions import task_commands

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["simple", "hard"])
def task(request):
    return request.param


@pytest.fixture(scope="module")
def embedded(task):
    return read(embedded_path(task))


def kinds_where(demonstrations, marked):
    """Kinds of the segments of which a row is marked; marked: (N,), bool."""
    return {kind for i, kind in enumerate(demonstrations.kind) if marked[demonstrations.segment(i)].any()}


def test_every_command_of_the_task_has_the_same_segments_of_equal_lengths(embedded, task):
    kinds = {
        command: Counter(k for c, k in zip(embedded.commands, embedded.kind, strict=True) if c == command)
        for command in set(embedded.commands)
    }
    first = next(iter(kinds.values()))
    assert set(kinds) == set(task_commands(task))
    assert all(counts == first for counts in kinds.values())
    assert len(set(np.diff(embedded.bounds))) == 1


def test_all_kinds_of_segments_are_present_and_most_are_nominal(embedded):
    assert set(embedded.kind) == {"nominal", "start", "push", "noise"}
    assert embedded.kind.count("nominal") > embedded.n_segments / 2


def test_the_nominal_walk_keeps_speed_and_heading_and_earns_the_reward(embedded):
    for row in summary(embedded):
        assert row["speed"] == pytest.approx(0.5, rel=0.02)
        assert row["yaw"] < 0.05
        assert row["reward"] >= 0.90


def test_no_state_is_fallen(embedded):
    assert not a1.has_fallen(embedded.states).any()


def test_only_noise_makes_executed_actions_differ_from_the_experts(embedded):
    assert kinds_where(embedded, np.any(embedded.actions != embedded.executed_actions, axis=1)) == {"noise"}


def test_only_push_segments_are_pushed_by_up_to_60_newtons(embedded):
    size = np.linalg.norm(embedded.external_force, axis=1)
    assert kinds_where(embedded, size > 0.0) == {"push"}
    assert 30.0 < size.max() <= 60.0 + 1e-3


def test_trot_is_the_embedded_set_of_the_task_with_nothing_to_mend_and_called_synthetic(task, embedded):
    loaded = load_demonstrations("trot", task_commands(task))
    assert loaded.content_hash() == embedded.content_hash()
    assert loaded.notes == ()
    assert loaded.synthetic
    assert "synthetic" in loaded.source


def test_the_documented_table_is_that_of_the_set():
    pages = "\n".join(page.read_text() for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))))
    number = r"([\d.]+)"
    documented = re.findall(
        rf"^\| (\d+) \| {number} m/s \| {number} \| {number} rad \| {number} rad \| {number} rad \|$", pages, re.MULTILINE
    )
    expected = [
        (row["command"], f"{row['speed']:.4f}", f"{row['reward']:.4f}")
        + tuple(f"{row[name]:.3f}" for name in ("roll", "pitch", "yaw"))
        for row in summary(read(embedded_path("hard")))
    ]
    assert documented == expected


def test_the_sets_take_at_most_16_megabytes():
    assert sum(path.stat().st_size for path in embedded_path("simple").parent.iterdir()) <= 16_000_000
