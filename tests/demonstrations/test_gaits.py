import numpy as np
import pytest

from qi_ext.demonstrations.gaits import GAITS, LEG_SIDE, Gait
from qi_ext.demonstrations.trot import TrotController, standing_qpos
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.kinematics import feet

LATERAL, DIAGONAL = ((0, 2), (1, 3)), ((0, 3), (1, 2))


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


@pytest.mark.parametrize("name", GAITS)
def test_a_gait_walks_at_its_rate_with_its_legs_together(simple, name):
    gait, speed = GAITS[name], 0.7
    observation = simple.reset(obs=np.concatenate([standing_qpos(simple.model, gait)[2:], np.zeros(18), Command(0.0).features]))
    simple.data.qvel[1] = gait.sway(0.0)[1]
    controller = TrotController(simple.model, 0.0, 0.1, gait=gait)
    controller.reset(simple.data, phase=0.0)
    observations = []
    for row in range(600):
        controller.steer(0.0, min(speed, 0.1 + row / 150))
        observation, _, absorbing, _ = simple.step(controller.action(simple.data))
        assert not absorbing, row
        observations.append(observation)
    states = np.array(observations[200:])
    assert states[:, a1.TRUNK_VX].mean() == pytest.approx(speed, rel=0.02)
    height = feet(np.concatenate([np.zeros((400, 2)), states[:, a1.POSITION]], axis=1))[..., 2]
    together = np.corrcoef(height.T)
    same, other = (LATERAL, DIAGONAL) if name == "pace" else (DIAGONAL, LATERAL)
    assert min(together[pair] for pair in same) > 0.8
    assert max(together[pair] for pair in other) < 0.0
    stride = np.abs(np.fft.rfft(height - height.mean(0), axis=0)).sum(axis=1).argmax() / 4.0
    assert stride == pytest.approx(1.0 / gait.period, abs=0.25)
