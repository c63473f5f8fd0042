"""Steering by hand: keys and sticks that change what a command moves towards, at the limits and rates of a course."""

import math

import numpy as np

from qi_ext.robot import courses

# Codes of keys, as MuJoCo's viewer gives them (GLFW's). It takes most letters itself, and the digits from 0 to 5.
UP, DOWN, LEFT, RIGHT = 265, 264, 263, 262
SEVEN, EIGHT, NINE, ENTER = (55, 327), (56, 328), (57, 329), (257, 335)  # in the row of digits or among letters; on the keypad
HELP = (
    "up and down arrow: faster, slower; left and right arrow: turn; 7 and 9: direction to the left and right; "
    "8: straight ahead; Enter: stop"
)

FASTEST = courses.SPEEDS[1]  # m/s
SPEED_STEP = 0.1  # m/s a key press
DIRECTION_STEP = math.radians(45.0)
TURN_STEP = math.radians(15.0)  # rad/s
DEAD = 0.15  # of a stick's way, in which it counts as let go


class Steering:
    """A target of speed, m/s, direction, rad from the heading, and turn rate, rad/s, that a person sets."""

    def __init__(self) -> None:
        self.speed = self.direction = self.turn_rate = 0.0

    def key(self, code: int) -> None:
        """Change the target as a key that was pressed says; other keys change nothing. code: of GLFW."""
        if code in (UP, DOWN):
            self.speed += SPEED_STEP if code == UP else -SPEED_STEP
        elif code in (LEFT, RIGHT):
            self.turn_rate += TURN_STEP if code == LEFT else -TURN_STEP
        elif code in SEVEN + NINE:
            self.direction += DIRECTION_STEP if code in SEVEN else -DIRECTION_STEP
        elif code in EIGHT:
            self.direction = 0.0
        elif code in ENTER:
            self.stop()
        self.speed = min(max(self.speed, 0.0), FASTEST)
        self.turn_rate = min(max(self.turn_rate, -courses.TURN_RATE), courses.TURN_RATE)
        self.direction = math.remainder(self.direction, 2.0 * math.pi)

    def sticks(self, forward: float, left: float, turn: float) -> None:
        """Set the target by the sticks of a gamepad, each in [-1, 1]; turn: counter-clockwise."""
        far = min(math.hypot(forward, left), 1.0)
        self.speed = FASTEST * far if far > DEAD else 0.0
        if self.speed:  # else the last one, which costs no turn when the stick is let go
            self.direction = math.atan2(left, forward)
        self.turn_rate = courses.TURN_RATE * min(max(turn, -1.0), 1.0) if abs(turn) > DEAD else 0.0

    def stop(self) -> None:
        """Set the target to standing."""
        self.speed = self.turn_rate = 0.0

    def command(self, command: np.ndarray) -> np.ndarray:
        """Return a command, (COMMAND_SIZE,), that is `command` and next moves on to the target, as along a course."""
        command = command.copy()
        command[courses.TARGET] = self.speed, self.direction, self.turn_rate
        command[courses.STEPS_LEFT] = 1.0  # this one
        return command
