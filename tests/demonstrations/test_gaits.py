from dataclasses import replace

import numpy as np
import pytest

from qi_ext.demonstrations.fitting import fit_gait
from qi_ext.demonstrations.gait_measures import measure_gait
from qi_ext.demonstrations.gaits import GAITS, LEG_SIDE, Gait
from qi_ext.demonstrations.mending import RANGE_TOLERANCE, range_excess
from qi_ext.demonstrations.recording import record_segment
from qi_ext.demonstrations.trot import TrotController, walking_state
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks import QuadrupedDirection


def test_the_sway_is_that_of_an_inverted_pendulum_above_the_bearing_feet():
    gait = GAITS["pace"]
    phase = np.arange(256) / 256
    position, velocity, acceleration = gait.sway(phase)
    load = gait.load(gait.clock(phase)[0])
    centre = load @ LEG_SIDE[:, 1] * gait.foot_offset[1] / np.maximum(load.sum(axis=1), 1e-9)
    np.testing.assert_allclose(acceleration, gait.frequency**2 * (position - centre), atol=0.02)
    step = gait.period / 256
    np.testing.assert_allclose((np.roll(position, -1) - np.roll(position, 1)) / (2.0 * step), velocity, atol=1e-3)
    assert position.mean() == pytest.approx(0.0, abs=1e-9)


def test_a_trot_does_not_sway():
    assert GAITS["trot"] == Gait()
    assert not Gait().sways
    assert not Gait().sway(np.linspace(0.0, 1.0, 11)).any()


def walked(environment, gait, speed, rows):
    """The states, (rows, 37), of a walk ahead that begins in the gait's nominal walk."""
    command, velocity = Command(0.0, speed), np.array([speed, 0.0])
    qpos, qvel = walking_state(environment.model, gait, velocity, 0.3)
    observation = environment.reset(obs=np.concatenate([qpos[2:], qvel, command.features]))
    controller = TrotController(environment.model, 0.0, speed, gait=gait)
    controller.reset(environment.data, phase=0.3)
    observations = []
    for row in range(rows):
        observation, _, absorbing, _ = environment.step(controller.action(environment.data))
        assert not absorbing, row
        observations.append(observation)
    return np.array(observations)


@pytest.mark.parametrize(("name", "speed"), [("trot", 0.6), ("pace", 0.78), ("fast-trot", 1.2), ("walk", 0.4)])
def test_a_gait_walks_at_its_rate_with_its_legs_in_their_order(simple, name, speed):
    gait = GAITS[name]
    measured = measure_gait(walked(simple, gait, speed, 700)[200:])
    assert measured.speed == pytest.approx(speed, rel=0.03)
    assert measured.frequency == pytest.approx(1.0 / gait.period, rel=0.02)
    ahead = (measured.phases - np.array(gait.phases) + 0.5) % 1.0 - 0.5
    np.testing.assert_allclose(ahead, 0.0, atol=0.03)
    assert measured.clearance.mean() == pytest.approx(gait.clearance, abs=0.02)
    assert measured.trunk_height == pytest.approx(gait.trunk_height - gait.touchdown_height, abs=0.01)
    assert (measured.lateral > 0.8) == (name == "pace")
    assert (measured.diagonal > 0.8) == name.endswith("trot")


def test_the_nominal_walk_moves_its_feet_as_its_velocities_say(simple):
    gait, velocity, step = GAITS["pace"], np.array([0.5, 0.2]), 1e-5
    phase = np.linspace(0.0, 1.0, 37)
    (early, _), (places, rates), (late, _) = (
        gait.nominal_feet(phase + change / gait.period, velocity) for change in (-step, 0.0, step)
    )
    over_ground = (late - early) / (2.0 * step)
    over_ground[..., :2] += velocity
    np.testing.assert_allclose(over_ground, rates, atol=1e-3)
    standing = rates[..., 2] == 0.0
    assert not places[standing][:, 2].any()
    assert not rates[standing].any()


def test_a_recorded_gait_is_fitted_with_all_that_the_robot_can_walk_with(simple):
    recorded = replace(GAITS["pace"], period=0.66, trunk_height=0.27, clearance=0.06)
    states = walked(simple, recorded, 0.5, 500)[100:]
    states[:, a1.TRUNK_Z] += 0.08  # its trunk floats; its feet then do, too
    measured = measure_gait(states)
    environment = QuadrupedDirection("simple", speed=0.5, demonstrations=None, seed=0)
    fit = fit_gait(environment, measured, "a pace", seconds=3.0)
    fitted = measure_gait(fit.states)
    assert fit.gait.name == "pace fitted to a pace"
    assert fitted.frequency == pytest.approx(1.0 / recorded.period, rel=0.03)
    assert fitted.lateral > 0.8
    assert fitted.speed == pytest.approx(0.5, rel=0.05)
    assert fit.shares["trunk_height"] == fit.shares["clearance"] == 1.0
    assert fit.gait.trunk_height == pytest.approx(recorded.trunk_height, abs=0.01)
    np.testing.assert_allclose(fit.gait.clearance, recorded.clearance, atol=0.015)


def test_a_walk_that_no_reader_would_take_is_not_recorded(monkeypatch):
    environment = QuadrupedDirection("simple", speed=1.0, demonstrations=None)
    stretched = replace(GAITS["fast-trot"], trunk_height=0.33, foot_offset=(0.22, GAITS["fast-trot"].foot_offset[1]))

    def recorded():
        return record_segment(environment, environment.commands[0], "nominal", 200, np.random.default_rng(0), stretched)

    assert recorded() is None
    monkeypatch.setattr("qi_ext.demonstrations.recording.RANGE_TOLERANCE", np.inf)
    assert range_excess(recorded()["states"]).max() > RANGE_TOLERANCE  # it walks, with its knees past their range


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frequency": 0.0}, "swing at 0.00 Hz"),
        ({"phases": np.array([0.0, 0.2, 0.5, 0.3])}, "order of none"),
        ({"speed": 0.0}, "moves at 0.00 m/s"),
        ({"speed": 3.0}, "cannot walk a pace of 1.4. Hz at 3.00 m/s"),
    ],
)
def test_what_cannot_be_fitted_is_said(simple, change, said):
    measured = measure_gait(walked(simple, GAITS["pace"], 0.7, 200))
    with pytest.raises(ValueError, match=said):
        fit_gait(simple, replace(measured, **change), "x", seconds=0.5)
