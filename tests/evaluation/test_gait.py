"""The gait's measures, on the trot whose gait is known, and on made-up footfalls."""

from contextlib import closing
from functools import partial

import numpy as np
import pytest

from qi_ext.demonstrations.trot import Gait as TrotGait
from qi_ext.evaluation.episodes import evaluate, run_episodes
from qi_ext.evaluation.gait import Contacts, Gait, clearances, stances
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, RandomController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.tasks import QuadrupedDirection


@pytest.fixture(scope="module")
def contacts(source):
    return Contacts(source.environment.model)


@pytest.fixture(scope="module")
def long_source():
    """A source of the simple task, its episodes 10 periods of the trot long."""
    with closing(PoolSource(QuadrupedDirection("simple", horizon=400), pool="serial")) as source:
        yield source


@pytest.fixture(scope="module")
def trot(long_source):
    """One episode of the trot controller, `Rollouts`."""
    ((_, rollouts),) = run_episodes(long_source, ExpertController(), [Command(0.0)], [np.random.SeedSequence(0)])
    return rollouts


def test_the_trot_has_the_gait_that_its_controller_walks(contacts, trot):
    measure, gait = Gait(contacts, Command(0.0), episodes=1), TrotGait()
    measure.add(0, trot)
    result = measure.result()
    for numbers in (result, *result["feet"].values()):
        assert numbers["stride_frequency"] == pytest.approx(1.0 / gait.period, rel=0.03)
        assert numbers["duty_factor"] == pytest.approx(gait.duty, abs=0.03)
        assert numbers["foot_clearance"] == pytest.approx(gait.clearance, abs=0.004)
    assert result["diagonal_pairs"] > 0.9
    assert result["lateral_pairs"] < 0.0
    for name in ("stride_frequency", "duty_factor", "foot_clearance"):
        assert result[name] == pytest.approx(np.mean([foot[name] for foot in result["feet"].values()]))


def test_the_floor_bears_the_weight_of_a_robot_that_walks(contacts, trot):
    forces, _ = contacts(trot.observations[0], trot.actions[0])
    weight = contacts.model.body_subtreemass[0] * 9.81
    assert forces.sum(axis=1).mean() == pytest.approx(weight, rel=0.02)


def test_a_robot_in_the_air_has_no_contacts(contacts, trot):
    observations = trot.observations[0].copy()
    observations[:, a1.TRUNK_Z] += 0.2
    forces, heights = contacts(observations, trot.actions[0])
    assert not forces.any()
    np.testing.assert_allclose(heights, contacts(trot.observations[0], trot.actions[0])[1] + 0.2, atol=1e-9)


def test_contacts_do_not_depend_on_the_episode_before(source, contacts, trot):
    first = Contacts(source.environment.model)(trot.observations[0][:50], trot.actions[0][:50])
    contacts(trot.observations[0][100:], trot.actions[0][100:])
    again = contacts(trot.observations[0][:50], trot.actions[0][:50])
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def footfalls(text):
    """Forces, (T, 4), of one foot in each column: `#` is a load."""
    return np.tile([[50.0 * (letter == "#")] for letter in text], (1, 4))


def test_phases_under_30_ms_are_none():
    stance = stances(footfalls("######..######......##......###....."))
    assert "".join(".#"[int(on)] for on in stance[:, 0]) == "##############..............###....."


def test_clearance_is_above_the_ends_of_each_whole_swing():
    stance = np.array([letter == "#" for letter in "..##...##...#.."])
    heights = np.array([9.0, 9.0, 0.0, 0.0, 2.0, 5.0, 2.0, 1.0, 1.0, 3.0, 4.0, 3.0, 2.0, 9.0, 9.0])
    assert clearances(stance, heights) == [4.5, 2.5]


@pytest.mark.parametrize("text", ["#####", ".....", "##...", "...##", "..#.."])
def test_no_swing_is_whole_without_a_stance_on_either_side(text):
    assert clearances(np.array([letter == "#" for letter in text]), np.arange(5.0)) == []


def test_without_a_whole_swing_there_is_no_clearance(source, contacts):
    result = evaluate(source, RandomController(), episodes=1, seed=0, measures=[partial(Gait, contacts)])
    swings = [foot["foot_clearance"] for row in result["directions"] for foot in row["feet"].values()]
    assert None in swings
    assert result["mean"]["duty_factor"] < 1.0
