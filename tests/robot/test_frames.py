import numpy as np
import torch

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.frames import in_command_frame, velocity_in_command_frame

X, Y = np.random.default_rng(0).normal(size=(2, 100))


def test_a_command_along_x_changes_nothing_bit_for_bit():
    along, across = in_command_frame(X, Y, 1.0, 0.0)
    np.testing.assert_array_equal(along, X)
    np.testing.assert_array_equal(across, Y)


def test_a_command_along_y_swaps_the_axes():
    along, across = in_command_frame(X, Y, 0.0, 1.0)
    np.testing.assert_array_equal(along, Y)
    np.testing.assert_array_equal(across, -X)


def test_the_commanded_velocity_lies_along_the_command():
    observations = np.zeros((3, a1.N_OBSERVATIONS))
    for observation, command in zip(observations, (Command(30.0, 0.5), Command(180.0, 0.2), Command(-75.0, 0.7)), strict=True):
        observation[[a1.TRUNK_VX, a1.TRUNK_VY]], observation[a1.GOAL] = command.velocity, command.features
    along, across = velocity_in_command_frame(observations)
    np.testing.assert_allclose(along, [0.5, 0.2, 0.7], atol=1e-15)
    np.testing.assert_allclose(across, 0.0, atol=1e-15)


def test_numpy_and_torch_agree():
    observations = np.random.default_rng(1).normal(size=(4, 5, a1.N_OBSERVATIONS))
    for expected, found in zip(
        velocity_in_command_frame(observations), velocity_in_command_frame(torch.from_numpy(observations)), strict=True
    ):
        assert found.shape == (4, 5)
        np.testing.assert_array_equal(found, expected)
