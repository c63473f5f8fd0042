"""Pictures of the robot, drawn by MuJoCo without a screen."""

import copy
from dataclasses import dataclass

import mujoco
import numpy as np

from qi_ext.robot.addresses import addresses
from qi_ext.robot.kinematics import TRUNK_HEIGHT
from qi_ext.utils.drawing import drawing_context

ARROW_COLOUR = (0.98, 0.55, 0.10, 1.0)
ARROW_ABOVE = 0.15  # m, over the middle of the trunk
ARROW_WIDTH, ARROW_THICKNESS = 0.035, 0.018  # m, half of each; flat, so that it is an arrow from behind, too
TRAIL_COLOUR = (0.10, 0.35, 0.75, 1.0)
LOOKED_AT = 0.25  # m, the height at which cameras look
MESH_CELL = 0.004  # m, side of the cubes whose vertices are merged
PATH_COLOUR = (0.98, 0.55, 0.10, 1.0)
# m, radius of a line and height of its top: sunk into the floor, a path is broad and flat, and a trail on it hides its middle.
TRAIL_SHAPE, PATH_SHAPE = (0.02, 0.025), (0.05, 0.012)
MAX_GEOMS = 40_000  # 360 robots, each of 50 with an arrow and the trail of 10 s
SUN = (-0.7, -0.9, 3.0)  # m, from the point that the camera looks at


@dataclass(frozen=True)
class Robot:
    """One robot in a picture. pose: (18,), as in `RecordedEpisode.poses`. command: a `Command`, or None for no arrow.

    trail: (n, 2), m, where it has been. path: (n, 2), m, where its commands lead.
    """

    pose: np.ndarray
    command: object = None
    trail: np.ndarray | None = None
    path: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """A camera: the point it looks at, m; distance, m; azimuth and elevation, degrees (azimuth 90 looks along +y).

    shadows: whether there are any; they end, by MuJoCo 4.0 in stripes on the floor, 3 m from that point.
    """

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float = 90.0
    elevation: float = -32.0
    shadows: bool = True


class Renderer:
    """Draw robots of one model, in pictures of one size."""

    def __init__(self, model, width, height, backend=""):
        """model: `mujoco.MjModel` of the A1, not changed. width, height: pixels. backend: of `rendering_backend`, or "".

        Raises UserError where nothing draws.
        """
        self.model = _simplified(model)
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = width, height
        self.model.geom("floor").rgba[:] = 1.0
        _lighten(self.model, "texplane")
        self.model.mat_reflectance[:] = 0.0  # a mirror in the floor costs a second picture, and hides the feet
        self.model.vis.quality.shadowsize = 2048
        self.model.vis.quality.offsamples = 0  # antialiasing doubles the time without a GPU and is hardly visible in a film
        self.model.stat.extent = 3.0  # m, the region of shadows; the floor's half kilometre would blur them
        self.data = mujoco.MjData(self.model)
        self._qpos = addresses(self.model).qpos
        self._options = mujoco.MjvOption()
        _entries(self._options.sitegroup)[:] = 0  # upstream's own arrow
        self._nothing = mujoco.MjvPerturb()
        self._scene = mujoco.MjvScene(self.model, maxgeom=MAX_GEOMS)
        self._gl = drawing_context(width, height, backend)
        self._gl.make_current()
        self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._area = mujoco.MjrRect(0, 0, width, height)
        self._image = np.empty((height, width, 3), dtype=np.uint8)

    def draw(self, robots, view):
        """Draw `Robot`s together: a picture, (height, width, 3), uint8."""
        camera = mujoco.MjvCamera()
        _entries(camera.lookat)[:], camera.distance = view.lookat, view.distance
        camera.azimuth, camera.elevation = view.azimuth, view.elevation
        for i, robot in enumerate(robots):
            self.data.qpos[self._qpos] = robot.pose
            mujoco.mj_kinematics(self.model, self.data)
            if i == 0:
                categories = mujoco.mjtCatBit.mjCAT_ALL
                mujoco.mjv_updateScene(self.model, self.data, self._options, self._nothing, camera, categories, self._scene)
            else:
                dynamic = mujoco.mjtCatBit.mjCAT_DYNAMIC
                mujoco.mjv_addGeoms(self.model, self.data, self._options, self._nothing, dynamic, self._scene)
        self._light(view)
        for robot in robots:
            if robot.path is not None:
                self._add_line(robot.path, *PATH_SHAPE, PATH_COLOUR)
            if robot.trail is not None:
                self._add_line(robot.trail, *TRAIL_SHAPE, TRAIL_COLOUR)
            if robot.command is not None and robot.command.speed:
                self._add_arrow(robot.pose[:3], robot.command)
        mujoco.mjr_render(self._area, self._scene, self._context)
        mujoco.mjr_readPixels(self._image, None, self._area, self._context)
        return self._image[::-1].copy()  # the first row is the lowest

    def close(self):
        self._context.free()
        self._gl.free()

    def _light(self, view):
        """Replace the model's lights, which cast no shadow or do not follow the camera, by a sun."""
        self._scene.nlight = 2
        light = self._scene.lights[1]  # the first one is at the camera
        light.headlight, light.castshadow = 0, int(view.shadows)
        if hasattr(light, "type"):
            light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        else:
            light.directional = 1  # as older MuJoCo names it
        _entries(light.pos)[:] = np.add(view.lookat, SUN)
        _entries(light.dir)[:] = -np.array(SUN) / np.linalg.norm(SUN)
        _entries(light.ambient)[:], _entries(light.diffuse)[:], _entries(light.specular)[:] = 0.1, 0.7, 0.3

    def _add_arrow(self, position, command):
        """Add an arrow above the robot, where nothing hides it; its length is the way commanded for one second."""
        ahead = command.ahead
        begin = position + (*(0.1 * ahead), TRUNK_HEIGHT + ARROW_ABOVE)
        size = (ARROW_WIDTH, ARROW_THICKNESS, 2.0 * command.speed)  # an arrow is half as long as that
        self._add(mujoco.mjtGeom.mjGEOM_ARROW, size, begin, ahead, ARROW_COLOUR)

    def _add_line(self, points, radius, top, colour):
        """Add a line on the floor through points, (n, 2), m."""
        for begin, end in zip(points[:-1], points[1:], strict=True):
            length = np.linalg.norm(end - begin)
            if not length:
                continue
            middle = np.array([*(begin + end) / 2.0, top - radius])
            self._add(mujoco.mjtGeom.mjGEOM_CAPSULE, (radius, radius, length / 2.0), middle, (end - begin) / length, colour)

    def _add(self, kind, size, position, along, colour):
        """Add a horizontal shape whose own z axis is along a unit vector, (2,)."""
        x, y = along
        turn = np.array([[-y, 0.0, x], [x, 0.0, y], [0.0, 1.0, 0.0]])
        geom = self._scene.geoms[self._scene.ngeom]
        mujoco.mjv_initGeom(geom, kind, np.array(size), position, turn.flatten(), np.array(colour, dtype=np.float32))
        geom.emission = 0.4
        self._scene.ngeom += 1


def _entries(array):
    """Return a small array, (n,), of a MuJoCo structure as one that can be written to.

    In MuJoCo 2.3.7 with numpy 2, all n entries have the address of the first.
    """
    return np.lib.stride_tricks.as_strided(array, strides=(array.itemsize,))


def _lighten(model, name):
    """Make a texture lighter, because the robot is as dark as loco-mujoco's floor."""
    texture = model.texture(name)
    begin, n = texture.adr[0], texture.height[0] * texture.width[0] * 3
    pixels = model.tex_rgb[begin : begin + n] if hasattr(model, "tex_rgb") else model.tex_data[begin : begin + n]
    pixels[:] = np.minimum(95.0 + 1.2 * pixels, 255.0).astype(np.uint8)


def _simplified(model):
    """Return a copy of the model in whose meshes the vertices within each cell of `MESH_CELL` are merged.

    The A1 has 240,000 triangles, most smaller than a pixel; without a GPU the time of a picture grows with their number.
    """
    model = copy.copy(model)
    for mesh in range(model.nmesh):
        first, n = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        faces = slice(first, first + n)
        begin = model.mesh_vertadr[mesh]
        cells = np.floor(model.mesh_vert[begin : begin + model.mesh_vertnum[mesh]] / MESH_CELL).astype(int)
        _, one_of_cell, cell = np.unique(_numbered(cells), return_index=True, return_inverse=True)
        corners = one_of_cell[cell][model.mesh_face[faces]]
        in_order = np.sort(corners, axis=1)
        kept = np.unique(_numbered(in_order), return_index=True)[1]
        kept = np.sort(kept[(np.diff(in_order[kept], axis=1) > 0).all(axis=1)])
        model.mesh_face[first : first + len(kept)] = corners[kept]
        for name in ("mesh_facenormal", "mesh_facetexcoord"):
            of_faces = getattr(model, name)
            if len(of_faces) == len(model.mesh_face):
                of_faces[first : first + len(kept)] = of_faces[faces][kept]
        model.mesh_facenum[mesh] = len(kept)
    return model


def _numbered(rows):
    """Return a number for each row of whole numbers, (n, k), equal where rows are: `np.unique` sorts it five times as fast."""
    rows = rows - rows.min(axis=0)
    return np.ravel_multi_index(rows.T, rows.max(axis=0) + 1)
