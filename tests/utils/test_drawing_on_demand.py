"""What does not draw runs whatever MUJOCO_GL says, and where OpenGL is missing or broken."""

import pytest

NO_DEVICE = {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}

# mujoco comes after qi_ext, as in every module of ours.
PHYSICS = """
import sys
import qi_ext, mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
mujoco.mj_step(model, mujoco.MjData(model))
sys.exit(any(name.split(".")[0] in ("OpenGL", "glfw") for name in sys.modules))
"""

ENVIRONMENT = """
import sys
from qi_ext.tasks import QuadrupedDirection
environment = QuadrupedDirection()
environment.reset()
environment.step([0.0] * 12)
sys.exit("OpenGL" in sys.modules)
"""

DRAWING = """
import qi_ext, mujoco
from dm_control import _render
renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 32)
print(renderer.render().shape, _render.BACKEND, _render.Renderer(16, 16) is not None)
"""


@pytest.fixture
def run_with(run_python, monkeypatch):
    """run_with(program, **variables): runs a program in a fresh Python with these environment variables."""

    def run(program, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return run_python(program)

    return run


@pytest.mark.parametrize("variables", [NO_DEVICE, {"MUJOCO_GL": "nonsense"}, {"MUJOCO_GL": ""}], ids=str)
def test_physics_loads_nothing_to_draw_with(run_with, variables):
    done = run_with(PHYSICS, **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.extensive
@pytest.mark.parametrize("variables", [NO_DEVICE, {"MUJOCO_GL": "nonsense"}], ids=str)
def test_an_environment_is_built_and_stepped_without_opengl(run_with, variables):
    done = run_with(ENVIRONMENT, **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.extensive
def test_what_draws_gets_what_mujoco_gl_names(run_with, drawing):
    done = run_with(DRAWING, MUJOCO_GL=drawing, PYOPENGL_PLATFORM=drawing)
    assert done.stdout == f"(16, 32, 3) {drawing} True\n", done.stderr


@pytest.mark.extensive
def test_what_has_drawn_can_make_an_optimizer(run_with, drawing):
    """torch then imports triton, whose LLVM ends the process where Mesa's was loaded first."""
    optimizer = "import torch; torch.optim.Adam([torch.zeros(1, requires_grad=True)])"
    done = run_with(f"{DRAWING}\n{optimizer}", MUJOCO_GL=drawing, PYOPENGL_PLATFORM=drawing)
    assert done.returncode == 0, done.stderr


def test_what_draws_all_the_same_is_told_what_is_wrong(run_with):
    done = run_with("import qi_ext, mujoco; mujoco.GLContext(16, 16)", MUJOCO_GL="nonsense")
    assert "invalid value for environment variable MUJOCO_GL: nonsense" in done.stderr
