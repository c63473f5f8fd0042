"""Gaits of the A1 as values: when feet are on the ground, where, and how the trunk moves above them.

SI units and radians throughout. Legs are ordered FR, FL, RR, RL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

GRAVITY = 9.81  # m/s^2
LEG_SIDE = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0]])
_SAMPLES = 256  # of a cycle


def quintic(s):
    """Minimum-jerk step from 0 to 1 over s in [0, 1]: value, first and second derivative."""
    return s**3 * (10 + s * (6 * s - 15)), 30 * s**2 * (1 - s) ** 2, 60 * s * (1 - s) * (1 - 2 * s)


@dataclass(frozen=True)
class Gait:
    """A gait, by default the trot. Gains give desired accelerations: position gains in 1/s^2, velocity gains in 1/s."""

    name: str = "trot"
    max_speed: float = 0.7  # m/s, up to which it is recorded straight on
    steadiness: float = 1.0  # share of the pushes and noise of recordings that it is recorded under
    from_stand: bool = True  # whether it can begin where the robot stands; else it is recorded from its nominal walk on
    sways: bool = False  # True where feet bear the trunk on one side more than on the other
    phases: tuple[float, ...] = (0.0, 0.5, 0.5, 0.0)  # of FR, FL, RR, RL in the cycle; a foot touches down at 0
    period: float = 0.40  # s, of a full cycle
    duty: float = 0.60  # share of the cycle that a foot spends on the ground
    clearance: float | tuple[float, ...] = 0.07  # m, of all feet, or of each: height of the swing above its ends
    trunk_height: float = 0.264  # m, of the trunk's origin above the ground
    com_depth: float = 0.019  # m, of the robot's centre of mass below the trunk's origin, when it stands
    com_offset: tuple[float, float] = (-0.011, 0.002)  # m, (x, y) of the robot's centre of mass in the trunk's frame
    foot_offset: tuple[float, float] = (0.183, 0.135)  # m, (|x|, |y|) of the neutral feet from that centre
    foot_radius: float = 0.01  # m; the foot's 0.02 m sphere is so soft that the calf's capsule in it bears the load
    touchdown_height: float = 0.012  # m, of the foot's centre at the end of a swing
    velocity_feedback: float = 0.10  # s, shift of the touch-down per unit of velocity error
    freeze: float = 0.2  # last share of the swing, in which the touch-down target stays
    position_gains: tuple[float, ...] = (20.0, 20.0, 150.0, 150.0, 150.0, 60.0)  # trunk: x, y, z, roll, pitch, yaw
    velocity_gains: tuple[float, ...] = (40.0, 40.0, 20.0, 20.0, 20.0, 14.0)
    swing_gains: tuple[float, float] = (400.0, 30.0)  # of a foot's position and velocity
    max_position_error: float = 0.1  # m, from the trunk to its desired position
    max_acceleration: float = 3.0  # m/s^2, norm of the desired horizontal acceleration
    wrench_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 20.0, 20.0, 20.0)  # of the trunk's force and moment residuals
    swaying_weight: float = 0.01  # of the lateral force in place of that, where the gait sways: feet are placed to right it
    force_weight: float = 1e-3  # of squared contact forces beside those residuals
    load_ramp: float = 0.03  # s, in which a foot takes up or gives away its load
    force_range: tuple[float, float] = (2.0, 180.0)  # N, vertical, of a foot on the ground
    friction: float = 0.6  # coefficient of Coulomb friction at the feet
    friction_speed: float = 0.2  # rad/s, over which the feed-forward of dry joint friction changes sign

    @property
    def stance_time(self) -> float:
        return self.duty * self.period

    @property
    def swing_time(self) -> float:
        return (1.0 - self.duty) * self.period

    @cached_property
    def clearances(self) -> np.ndarray:
        """`clearance` of each foot, (4,), m."""
        return np.broadcast_to(self.clearance, len(LEG_SIDE))

    @property
    def neutral_feet(self) -> np.ndarray:
        """Centres of the feet from the trunk's origin when standing level, (4, 3), m."""
        xy = np.array(self.com_offset) + LEG_SIDE * np.array(self.foot_offset)
        return np.column_stack([xy, np.full(4, self.touchdown_height - self.trunk_height)])

    @property
    def frequency(self) -> float:
        """1/s, at which the robot, an inverted pendulum, falls away from a foot."""
        return math.sqrt(GRAVITY / (self.trunk_height - self.com_depth))

    def clock(self, phase: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the time since touch-down, s, and the share of the swing that is done, negative in stance; (..., 4) each."""
        # The shift keeps rounding from moving a tick that falls on lift-off or touch-down to the tick after.
        leg = (np.asarray(phase)[..., None] + self.phases + 1e-9) % 1.0
        return leg * self.period, (leg - self.duty) / (1.0 - self.duty)

    def nominal_feet(self, phase: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where feet are from their neutral places under a trunk that moves on evenly, and their velocities.

        phase: (...). velocity: of the trunk, (2,), m/s. Both results: (..., 4, 3), in m and m/s, in the world's frame. A foot
        stays, then takes a stride of a full period's way.
        """
        leg = (phase[..., None] + self.phases) % 1.0
        s = np.clip((leg - self.duty) / (1.0 - self.duty), 0.0, 1.0)
        way, rate, _ = quintic(s)
        ahead, places = (way + self.duty / 2 - leg) * self.period, np.empty((*leg.shape, 3))
        rates = np.empty_like(places)
        places[..., :2] = ahead[..., None] * velocity
        places[..., 2] = self.clearances * np.sin(np.pi * s) ** 2
        rates[..., :2] = (rate * self.period / self.swing_time)[..., None] * velocity
        rates[..., 2] = self.clearances * np.pi * np.sin(2 * np.pi * s) / self.swing_time
        return places, rates

    def load(self, stance_time: np.ndarray) -> np.ndarray:
        """Share of its load that a foot bears, in [0, 1], by its time since touch-down, s."""
        return np.clip(np.minimum(stance_time, self.stance_time - stance_time) / self.load_ramp, 0.0, 1.0)

    def sway(self, phase: float | np.ndarray) -> np.ndarray:
        """Return how the trunk sways to its left at a phase: position, m, velocity, m/s, and acceleration, m/s^2, (3, ...).

        The periodic motion of an inverted pendulum, y'' = w^2 (y - c), above the centre c(t) of the feet that bear it: a
        Fourier series whose coefficients are those of c, divided by 1 + (2 pi k / (w T))^2. Zero for a gait that does not sway.
        Source: Kajita et al., The 3D Linear Inverted Pendulum Mode (2001).
        """
        if not self.sways:
            return np.zeros((3, *np.shape(phase)))
        samples = np.arange(_SAMPLES + 1) / _SAMPLES
        return np.stack([np.interp(np.asarray(phase) % 1.0, samples, each) for each in self._cycle])

    @cached_property
    def _cycle(self) -> np.ndarray:
        """`sway` over a cycle, its first sample again at the end, (3, _SAMPLES + 1)."""
        load = self.load(self.clock(np.arange(_SAMPLES) / _SAMPLES)[0])
        centre = load @ (LEG_SIDE[:, 1] * self.foot_offset[1]) / np.maximum(load.sum(axis=1), 1e-9)
        rate = 2.0 * np.pi / self.period * np.arange(_SAMPLES // 2 + 1)
        position = np.fft.rfft(centre) / (1.0 + (rate / self.frequency) ** 2)
        cycle = np.fft.irfft(np.stack([position, 1j * rate * position, -(rate**2) * position]), _SAMPLES)
        return np.concatenate([cycle, cycle[:, :1]], axis=1)


_GAITS = (
    Gait(),
    # A dog's stride at 0.78 m/s. With feet near the middle the trunk sways less; they must land where it is caught, and soon.
    Gait(
        name="pace",
        max_speed=0.8,
        steadiness=0.4,
        from_stand=False,
        sways=True,
        phases=(0.0, 0.5, 0.0, 0.5),
        period=0.70,
        duty=0.55,
        clearance=0.05,
        trunk_height=0.28,
        foot_offset=(0.183, 0.04),
        swing_gains=(900.0, 50.0),
    ),
    Gait(
        name="fast-trot",
        max_speed=1.25,
        steadiness=0.7,
        from_stand=False,
        period=0.62,
        trunk_height=0.29,
        velocity_feedback=0.13,
        swing_gains=(900.0, 50.0),
    ),
    # Four footfalls a stride: RL, FL, RR, FR.
    Gait(
        name="walk",
        max_speed=0.5,
        steadiness=0.4,
        from_stand=False,
        sways=True,
        phases=(0.0, 0.5, 0.25, 0.75),
        period=0.60,
        duty=0.75,
        clearance=0.05,
        trunk_height=0.27,
        foot_offset=(0.183, 0.06),
    ),
)
GAITS = {gait.name: gait for gait in _GAITS}
