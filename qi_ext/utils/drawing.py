"""What MuJoCo draws with where there is no screen."""

import functools
import importlib
import os
import subprocess
import sys
import warnings

from qi_ext.utils.drawing_on_demand import import_before_opengl
from qi_ext.utils.errors import UserError

# Tried in this order: egl draws on a GPU where there is one, osmesa in software.
BACKENDS = ("egl", "osmesa")
PROBE_SECONDS = 60.0
# GLFW's context only fails once it is used.
PROBE = (
    "import mujoco; context = mujoco.GLContext(16, 16); context.make_current(); "
    "mujoco.MjrContext(mujoco.MjModel.from_xml_string('<mujoco/>'), mujoco.mjtFontScale.mjFONTSCALE_100)"
)


@functools.cache
def rendering_backend():
    """Return the library that draws without a screen, egl or osmesa; the environment variable MUJOCO_GL chooses another.

    Each is tried in a process of its own, because one that fails stays loaded. Raises UserError where none works.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    tried = [asked] if asked else BACKENDS
    reasons = []
    for name in tried:
        command = [sys.executable, "-c", PROBE]
        environment = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
        try:
            probe = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            reasons.append(f"{name}: no answer within {PROBE_SECONDS:.0f} s")
            continue
        if probe.returncode == 0:
            return name
        reasons.append(f"{name}: {(probe.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    raise UserError(
        f"rendering: nothing here draws without a screen ({'; '.join(reasons)}); on Debian or Ubuntu `make setup-video`, or "
        "`sudo apt-get install libegl1 libgl1-mesa-dri`, installs what it needs; with a screen, MUJOCO_GL=glfw needs none of it"
    )


def drawing_context(width, height, backend=""):
    """Return a `GLContext` of MuJoCo for pictures of a size in pixels. backend: of `rendering_backend`, which it calls for "".

    Raises UserError where nothing draws.
    """
    backend = backend or rendering_backend()
    os.environ.setdefault("PYOPENGL_PLATFORM", backend)
    import_before_opengl()
    # Not mujoco.GLContext, which was chosen when mujoco was first imported.
    return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)


def has_screen():
    """Return whether a window can be opened; where none can, opening one by GLFW would end the process."""
    import glfw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        window = None
        if glfw.init():
            import_before_opengl()
            glfw.window_hint(glfw.VISIBLE, False)
            window = glfw.create_window(1, 1, "", None, None)
            glfw.default_window_hints()
    if window:
        glfw.destroy_window(window)
    return bool(window)
