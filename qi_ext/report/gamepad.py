"""A gamepad, read by pygame."""

import os

from qi_ext.utils.errors import UserError


class Gamepad:
    """The first gamepad that is connected."""

    def __init__(self):
        """Raises UserError without pygame, or without a gamepad."""
        # Neither a greeting nor a second window, and events while MuJoCo's window is in front.
        names = {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_VIDEODRIVER": "dummy", "SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS": "1"}
        for name, value in names.items():
            os.environ.setdefault(name, value)
        try:
            import pygame
            from pygame._sdl2 import controller
        except ImportError:
            raise UserError("--gamepad: pygame reads it, which is not installed: pip install pygame") from None
        pygame.display.init()
        controller.init()
        found = next(filter(controller.is_controller, range(controller.get_count())), None)
        if found is None:
            raise UserError("--gamepad: none is connected that SDL knows; steer with --keyboard")
        self._pygame, self._controller = pygame, controller.Controller(found)

    def sticks(self):
        """Return how far the left stick is forward and to the left, and the right one to the left, each in [-1, 1]."""
        self._pygame.event.pump()
        axes = (self._pygame.CONTROLLER_AXIS_LEFTY, self._pygame.CONTROLLER_AXIS_LEFTX, self._pygame.CONTROLLER_AXIS_RIGHTX)
        return tuple(-self._controller.get_axis(axis) / 32768.0 for axis in axes)
