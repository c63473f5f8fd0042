import mujoco
import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses
from qi_ext.robot.kinematics import CALF_LENGTH, THIGH_LENGTH, feet, feet_velocities


def test_feet_and_their_velocities_are_mujocos(simple):
    model, data = simple.model, mujoco.MjData(simple.model)
    found, generator = addresses(model), np.random.default_rng(0)
    positions, velocities = generator.uniform(-1.5, 1.5, (20, 18)), generator.uniform(-5.0, 5.0, (20, 18))
    geoms = [model.geom(f"{leg}_foot").id for leg in a1.LEGS]
    for position, velocity in zip(positions, velocities, strict=True):
        data.qpos[found.qpos], data.qvel[found.qvel] = position, velocity
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(feet(position), data.geom_xpos[geoms], atol=1e-12)
        for leg, geom in enumerate(geoms):
            jacobian = np.empty((3, model.nv))
            mujoco.mj_jacGeom(model, data, jacobian, None, geom)
            np.testing.assert_allclose(feet_velocities(position, velocity)[leg], jacobian @ data.qvel, atol=1e-6)


def test_straight_legs_are_under_the_thighs():
    straight = np.zeros((2, 18))
    assert feet(straight).shape == (2, 4, 3)
    np.testing.assert_allclose(feet(straight)[..., 2], 0.43 - THIGH_LENGTH - CALF_LENGTH)
    np.testing.assert_allclose(feet(straight)[0, 0, :2], (0.183, -0.13205))
