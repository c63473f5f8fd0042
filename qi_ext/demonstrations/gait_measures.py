"""Measures of how a robot walks that need its states alone, so that a recorded animal and a robot can be compared."""

from dataclasses import dataclass

import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.kinematics import TRUNK_HEIGHT, feet, feet_velocities, joint_positions

LATERAL, DIAGONAL = ((0, 2), (1, 3)), ((0, 3), (1, 2))  # pairs of `a1.LEGS`
SLOWEST = 0.5  # Hz; what is slower is drift, not a stride
RESOLUTION = 0.005  # Hz, to which frequencies are told apart
STILL = 0.005  # m, standard deviation of its place, under which a foot is taken not to swing
RESTS = 0.5  # share of the trunk's speed under which a foot is taken to stand


@dataclass(frozen=True)
class MeasuredGait:
    """How a robot walks. Legs are ordered FR, FL, RR, RL.

    speed: m/s, along the command. frequency: Hz, of strides. lateral, diagonal: `pair_correlation` of these pairs of legs.
    phases: (4,), by how much of a stride a foot is ahead of FR, in [0, 1). duty_factor: (4,), share of the time in which a foot
    stands: it moves at less than half the trunk's speed. clearance: (4,), m, height of a swing over the stance. trunk_height:
    m, mean, above the centre of the lowest foot. stance: (4, 2), m, median place of a foot that stands, ahead and to the left
    of the trunk.
    """

    speed: float
    frequency: float
    lateral: float
    diagonal: float
    phases: np.ndarray
    duty_factor: np.ndarray
    clearance: np.ndarray
    trunk_height: float
    stance: np.ndarray


def measure_gait(states: np.ndarray) -> MeasuredGait:
    """Measure the gait of a stretch of walking under one command, of two strides or more. states: (T, 37)."""
    positions = joint_positions(states)
    velocities, along = states[:, a1.VELOCITY], states[0, a1.GOAL][:2]
    speed = float((velocities[:, :2] @ along).mean())
    places = feet(positions)
    ahead = places[..., :2] @ along
    stands = feet_velocities(positions, velocities)[..., :2] @ along < RESTS * speed
    stance = np.array([np.median(places[on, leg], axis=0) if on.any() else np.zeros(3) for leg, on in enumerate(stands.T)])
    frequency, phases = _stride(ahead)
    return MeasuredGait(
        speed=speed,
        frequency=frequency,
        lateral=pair_correlation(ahead, LATERAL),
        diagonal=pair_correlation(ahead, DIAGONAL),
        phases=phases,
        duty_factor=stands.mean(axis=0),
        # A high percentile, because the stretch may begin or end within a swing.
        clearance=np.percentile(places[..., 2], 98.0, axis=0) - stance[:, 2],
        trunk_height=float(positions[:, 2].mean() + TRUNK_HEIGHT - np.median(places[..., 2].min(axis=1))),
        stance=stance[:, :2],
    )


def feet_ahead(states: np.ndarray) -> np.ndarray:
    """Return how far the feet are ahead of the trunk along their command, (T, 4), m. states: (T, 37)."""
    return np.sum(feet(joint_positions(states))[..., :2] * states[:, None, a1.GOAL][..., :2], axis=-1)


def pair_correlation(ahead: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> float:
    """Return how much the legs of `pairs` swing together: the mean correlation of their `feet_ahead`, in [-1, 1].

    0 where a foot stands still. Of a pace the lateral one is near 1, of a trot the diagonal one. ahead: (T, 4), m.
    """
    if len(ahead) < 2 or ahead.std(axis=0).min() < STILL:
        return 0.0
    table = np.corrcoef(ahead.T)
    return float(np.mean([table[pair] for pair in pairs]))


def _stride(ahead):
    """Return frequency and phases, as `MeasuredGait` has them: of the largest peak in the common spectrum of `feet_ahead`."""
    if ahead.std(axis=0).max() < STILL:
        return 0.0, np.zeros(len(a1.LEGS))
    n = max(len(ahead), round(1.0 / (RESOLUTION * a1.CONTROL_DT)))
    spectrum = np.fft.rfft((ahead - ahead.mean(axis=0)) * np.hanning(len(ahead))[:, None], n, axis=0)
    frequencies = np.fft.rfftfreq(n, a1.CONTROL_DT)
    peak = int((np.sum(np.abs(spectrum) ** 2, axis=1) * (frequencies >= SLOWEST)).argmax())
    phases = np.angle(spectrum[peak]) / (2.0 * np.pi)
    return float(frequencies[peak]), (phases - phases[0]) % 1.0
