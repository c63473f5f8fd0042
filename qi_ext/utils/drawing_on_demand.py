"""Import mujoco and dm_control without OpenGL, which both load on import although most programs never draw.

A library of OpenGL that is missing or broken, or a MUJOCO_GL that names none, then fails where something is drawn, not before.
"""

import contextlib
import functools
import importlib
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

# The modules that choose a library as MUJOCO_GL says, and what each chooses; mujoco 2.3.7 has its own in another place.
CHOSEN = {
    "mujoco.gl_context": "GLContext",
    "mujoco.rendering.classic.gl_context": "GLContext",
    "dm_control._render": "Renderer",
}
OFF = ("disable", "disabled", "off", "false", "0")  # values of MUJOCO_GL with which mujoco defines no GLContext


def import_before_opengl():
    """Import triton, where it is installed, as anything must do that is about to load OpenGL.

    torch imports it with the first optimizer of a process. It has an LLVM of its own, and so has Mesa; loaded after Mesa's, it
    ends the process with a segmentation fault (torch 2.13.0, Mesa 22.3.6).
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")


class _Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        spec = PathFinder.find_spec(name, path, target) if name in CHOSEN else None
        if spec is not None:
            spec.loader.exec_module = functools.partial(_put_off, spec.loader.exec_module)
        return spec


def _put_off(load, module):
    """Define in `module` the class that it would choose, as a function whose first call loads the module."""
    name = CHOSEN[module.__name__]
    if name == "GLContext" and os.environ.get("MUJOCO_GL", "").lower().strip() in OFF:
        load(module)
        return

    @functools.cache
    def chosen():
        import_before_opengl()
        for stand_in in (name, "__getattr__"):
            vars(module).pop(stand_in, None)
        load(module)
        return getattr(module, name)

    def other_attribute(attribute):
        if not attribute.startswith("__"):  # which importing asks for
            chosen()
        return object.__getattribute__(module, attribute)

    setattr(module, name, lambda *arguments, **keywords: chosen()(*arguments, **keywords))
    module.__getattr__ = other_attribute


def install():
    """Put the choice of a drawing library off until something is drawn, in this process; what is imported already stays."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
