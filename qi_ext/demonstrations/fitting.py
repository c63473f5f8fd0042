"""A gait that the robot can walk, fitted to a recorded one: what it cannot have of it is scaled towards a gait of ours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qi_ext.demonstrations.gait_measures import MeasuredGait, measure_gait
from qi_ext.demonstrations.gaits import GAITS, Gait
from qi_ext.demonstrations.loading import read_recording
from qi_ext.demonstrations.recording import record_segment
from qi_ext.robot import a1
from qi_ext.utils.errors import UserError

SHARES = (1.0, 0.5, 0.25)  # of the way from our gait's value to the recorded one, the first that can be walked
SAME_PHASE = 0.15  # of a cycle, to which a leg's phase is that of a gait of ours
SECONDS = 10.0  # that a gait is tried for
SPEED_ERROR = 0.05  # of the speed
TRIALS = 1 + 5 * len(SHARES)  # of `fit_gait`, at most
LIMITS = {"trunk_height": (0.22, 0.32), "duty": (0.35, 0.9), "clearance": (0.03, 0.15), "foot_offset": (0.03, 0.25)}
SLOWEST = 0.1  # m/s
FREQUENCIES = (0.8, 4.0)  # Hz
STANCE_BIAS = 0.08  # by which the measured duty factor is above that of a `Gait`, because a swing begins and ends slowly


def recorded_walk(name: str, **how: Any) -> np.ndarray:
    """Return the states, (T, 37), of the longest segment of a recording, by path or name as `load_demonstrations` takes it.

    how: `fit` and `max_pitch` of that. It need not be a walk that the robot can walk, so feet may float. Raises UserError where
    it cannot be read, or does not walk ahead.
    """
    try:
        demonstrations, _ = read_recording(name, **how)
    except UserError as error:
        raise UserError(f"--from: {str(error).removeprefix('demonstrations: ')}") from None
    longest = int(np.argmax(np.diff(demonstrations.bounds)))
    rows, command = demonstrations.segment(longest), demonstrations.commands[longest]
    if demonstrations.headings is not None and np.any(demonstrations.headings[rows][:, 1]):
        raise UserError(f"--from: {name}: turns, and gaits are fitted to walks straight on; take another clip")
    if command.direction_deg != 0.0:
        raise UserError(f"--from: {name}: walks at {command.direction_deg:g} degrees, and gaits are fitted to walks ahead")
    return demonstrations.states[rows]


@dataclass(frozen=True)
class Fit:
    """A gait fitted to a recorded one. shares: {what: share of the recorded value in it}. states: (T, 37), of its walk."""

    gait: Gait
    shares: dict[str, float]
    states: np.ndarray


def fit_gait(
    environment: Any,
    measured: MeasuredGait,
    name: str,
    progress: Callable[[int], Any] = lambda n: None,
    seconds: float = SECONDS,
) -> Fit:
    """Fit a gait to a measured one, at its speed and stride frequency.

    It begins with the gait of ours in whose order the recorded feet fall, and takes over one recorded value after the other:
    the whole of it, a half, a quarter, or none, whichever is the first with which the robot walks `seconds`, also with noise at
    the torques, without a fall, within the joints' range, and at a speed within 5 %. The feet's distance to the side is not
    taken over. environment: a `QuadrupedDirection` of one command, the recorded one. name: of the recording. progress(n) is
    called as n more trials are done. Raises ValueError, saying why, where the legs are in no order of ours, or the robot cannot
    walk so.
    """
    if not FREQUENCIES[0] <= measured.frequency <= FREQUENCIES[1]:
        low, high = FREQUENCIES
        raise ValueError(
            f"its legs swing at {measured.frequency:.2f} Hz, and gaits are fitted to strides of {low:g} to {high:g}"
        )
    if measured.speed < SLOWEST:
        raise ValueError(f"moves at {measured.speed:.2f} m/s, and gaits are fitted to walks of {SLOWEST:g} or more")
    preset = _preset(measured)
    gait = replace(preset, name=f"{preset.name} fitted to {name}", period=1.0 / measured.frequency)
    states = _try(environment, gait, measured, seconds)
    if states is None:
        raise ValueError(f"the robot cannot walk a {preset.name} of {measured.frequency:.2f} Hz at {measured.speed:.2f} m/s")
    progress(1)
    shares = {}
    for what, recorded in _recorded(measured, preset).items():
        ours, shares[what] = getattr(preset, what), 0.0
        for share in SHARES:
            candidate = replace(gait, **{what: _between(ours, recorded, share)})
            walked = _try(environment, candidate, measured, seconds)
            progress(1)
            if walked is not None:
                gait, shares[what], states = candidate, share, walked
                break
    return Fit(gait, shares, states)


def _preset(measured):
    """The gait of ours with the same order of legs that is nearest in its frequency."""
    found = [gait for gait in GAITS.values() if np.abs(_phase_errors(measured, gait)).max() < SAME_PHASE]
    if not found:
        phases = ", ".join(f"{phase:.2f}" for phase in measured.phases)
        raise ValueError(
            f"its feet fall in the order of none of {', '.join(GAITS)}: FR, FL, RR, RL are at {phases} of a stride"
        )
    return min(found, key=lambda gait: abs(gait.period - 1.0 / measured.frequency))


def _phase_errors(measured, gait):
    errors = measured.phases - np.array(gait.phases)
    errors = (errors + 0.5) % 1.0 - 0.5
    return errors - errors.mean()


def _recorded(measured, preset):
    """The recorded values of what is taken over, by the names of `Gait`, within `LIMITS`."""
    recorded = {
        "trunk_height": measured.trunk_height + preset.touchdown_height,
        "duty": float(measured.duty_factor.mean()) - STANCE_BIAS,
        "clearance": tuple(measured.clearance.tolist()),
        "phases": tuple((np.array(preset.phases) + _phase_errors(measured, preset)).tolist()),
        # Not their width: of a pace as wide as a dog's, the trunk would sway at 1 m/s.
        "foot_offset": (float(np.abs(measured.stance[:, 0]).mean()), preset.foot_offset[1]),
    }
    for what, limits in LIMITS.items():
        bounded = np.clip(recorded[what], *limits)
        recorded[what] = tuple(bounded.tolist()) if bounded.ndim else float(bounded)
    return recorded


def _between(ours, recorded, share):
    if isinstance(recorded, float):
        return ours + share * (recorded - ours)
    ours = np.broadcast_to(ours, len(recorded))
    return tuple((ours + share * (np.array(recorded) - ours)).tolist())


def _try(environment, gait, measured, seconds):
    """Return the states of an undisturbed walk, (T, 37), or None where it, or one with noise, is not as it must be."""
    (command,) = environment.commands
    rows = round(seconds / a1.CONTROL_DT)
    nominal, noisy = (
        record_segment(environment, command, kind, rows, np.random.default_rng(0), gait) for kind in ("nominal", "noise")
    )
    if nominal is None or noisy is None:
        return None
    speed = measure_gait(nominal["states"]).speed
    return nominal["states"] if abs(speed / measured.speed - 1.0) < SPEED_ERROR else None
