"""Pictures drawn by MuJoCo; `make setup-video` installs the libraries for it."""

import pickle
from contextlib import closing

import numpy as np
import pytest

from qi_ext.report import rendering
from qi_ext.report.rendering import Renderer, Robot, View
from qi_ext.robot.commands import Command

VIEW = View((0.0, 0.0, 0.25), 1.4)
FAR_AWAY = 50.0  # m

pytestmark = pytest.mark.extensive


@pytest.fixture(scope="module")
def model(simple):
    return simple.model


@pytest.fixture(scope="module")
def renderer(model, drawing):
    with closing(Renderer(model, 320, 240)) as renderer:
        yield renderer


def pose(x=0.0, y=0.0):
    standing = np.zeros(18)
    standing[:3] = x, y, -0.16
    standing[6:] = np.tile([0.0, 0.8, -1.6], 4)
    return standing


def darkness(image):
    """Pixels of the robot, which is darker than the floor and its shadow."""
    return image.max(axis=2) < 60


def orange(image):
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    return (red > 150) & (green > 60) & (blue < 90) & (red > green + 40)


def test_the_robot_is_where_it_is_looked_at(renderer):
    image = renderer.draw([Robot(pose())], VIEW)
    assert image.shape == (240, 320, 3)
    assert image.dtype == np.uint8
    rows, columns = np.nonzero(darkness(image))
    assert len(rows) > 1500
    assert abs(rows.mean() - 120) < 30
    assert abs(columns.mean() - 160) < 20


@pytest.mark.parametrize(("direction", "axis", "sign"), [(0, 1, 1), (90, 0, -1)])
def test_the_arrow_points_where_the_command_does(renderer, direction, axis, sign):
    """Seen from above, also where the floor is another: 0 degrees is to the right, 90 is up."""
    above = View((FAR_AWAY, 0.0, 0.0), 4.0, elevation=-90.0)
    found = np.nonzero(orange(renderer.draw([Robot(pose(FAR_AWAY), Command(direction, 0.5))], above)))
    centre = (120, 160)
    assert len(found[0]) > 10
    assert sign * (found[axis].mean() - centre[axis]) > 15
    assert abs(found[1 - axis].mean() - centre[1 - axis]) < 5


@pytest.mark.parametrize("direction", [0, 90, 225])
def test_the_robot_never_hides_the_arrow(renderer, direction):
    assert orange(renderer.draw([Robot(pose(), Command(direction, 0.5))], VIEW)).sum() > 200


def test_a_picture_does_not_depend_on_those_before(renderer):
    first = renderer.draw([Robot(pose())], VIEW)
    renderer.draw([Robot(pose(0.3), Command(90.0), np.array([[0.0, 0.0], [1.0, 1.0]]))], View((1.0, 0.0, 0.0), 3.0))
    np.testing.assert_array_equal(renderer.draw([Robot(pose())], VIEW), first)


@pytest.mark.usefixtures("drawing")
def test_the_model_that_is_drawn_is_left_as_it_was(model):
    before = pickle.dumps(model)
    Renderer(model, 64, 48).close()
    assert pickle.dumps(model) == before


def test_meshes_are_simplified_to_within_a_cell(model):
    simple = rendering._simplified(model)
    assert simple.mesh_facenum.sum() < 0.25 * model.mesh_facenum.sum()
    for mesh in range(model.nmesh):
        boxes = []
        for each in (model, simple):
            first = each.mesh_faceadr[mesh]
            corners = np.unique(each.mesh_face[first : first + each.mesh_facenum[mesh]])
            vertices = each.mesh_vert[each.mesh_vertadr[mesh] + corners]
            boxes.append([vertices.min(axis=0), vertices.max(axis=0)])
        np.testing.assert_allclose(*boxes, atol=rendering.MESH_CELL)
