"""Conventions that recordings come in other than ours, each as a function that turns such a recording into ours.

Positions and velocities have shape (..., 18), of `a1.JOINTS`.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from qi_ext.robot import a1
from qi_ext.robot.frames import wrapped

LEG_ORDERS = {
    "legs in the order FL, FR, RL, RR": (1, 0, 3, 2),
    "legs in the order RR, RL, FR, FL": (2, 3, 0, 1),
    "legs in the order RL, RR, FL, FR": (3, 2, 1, 0),
    "legs in the order FR, RR, FL, RL": (0, 2, 1, 3),
    "legs in the order FL, RL, FR, RR": (1, 3, 0, 2),
    "legs in the order FL, FR, RR, RL": (1, 0, 2, 3),
    "legs in the order FR, FL, RL, RR": (0, 1, 3, 2),
}
SIGNS = {
    "the hips' sign reversed": ("FR_hip_joint", "FL_hip_joint", "RR_hip_joint", "RL_hip_joint"),
    "the right hips' sign reversed": ("FR_hip_joint", "RR_hip_joint"),
    "the left hips' sign reversed": ("FL_hip_joint", "RL_hip_joint"),
    "roll's sign reversed": ("trunk_list",),
    "pitch's sign reversed": ("trunk_tilt",),
    "yaw's sign reversed": ("trunk_rotation",),
}
THIGH_EXCESS = (0.2, 0.4, 0.6, 0.9)  # rad, of either sign
_ANGLES = slice(3, 6)
_STEP = 1e-5  # s, of the central difference that turns rates


def joints_of(order):
    """Return the index of each of our 12 joints in a recording whose legs stand in `order`, our index of each."""
    return np.arange(a1.N_ACTIONS).reshape(4, 3)[np.argsort(order)].ravel()


def conventions():
    """Return {words: convert}; convert(positions, velocities) returns both in our convention."""
    found = {words: _legs(np.asarray(order)) for words, order in LEG_ORDERS.items()}
    found |= {words: _signs([a1.JOINTS.index(joint) for joint in joints]) for words, joints in SIGNS.items()}
    found |= {
        "the trunk's velocity in the trunk's frame": _velocity_of_the_trunks_frame,
        "the sideways velocity's sign reversed": _sideways,
        "the gyroscope's rates in place of those of the angles": _gyroscope,
        "rates about the world's axes in place of those of the angles": _world_rates,
        "velocities and rates in the trunk's frame": _all_in_the_trunks_frame,
        "roll and pitch exchanged": _roll_and_pitch,
    }
    for words, turn in (
        ("yaw-pitch-roll in place of intrinsic x-y-z angles", _from_yaw_pitch_roll),
        ("a quaternion taken as w, x, y, z that is x, y, z, w", lambda angles: _from_rolled_quaternion(angles, 1)),
        ("the inverse of the trunk's rotation", _from_inverse),
        ("a quaternion taken as x, y, z, w that is w, x, y, z", lambda angles: _from_rolled_quaternion(angles, -1)),
    ):
        found[words] = _angles(turn)
        found[f"{words} (the rates are right)"] = _angles(turn, _rates_kept)
        found[f"{words}, and the gyroscope's rates"] = _angles(turn, _gyroscope)
        found[f"{words}, and velocities and rates in the trunk's frame"] = _angles(turn, _all_in_the_trunks_frame)
    for excess in THIGH_EXCESS:
        found[f"thigh angles that count {excess:g} rad more than ours"] = _thighs(excess)
        found[f"thigh angles that count {excess:g} rad less than ours"] = _thighs(-excess)
    return found


def _legs(order):
    index = np.concatenate([np.arange(6), 6 + joints_of(order)])
    return lambda positions, velocities: (positions[..., index], velocities[..., index])


def _signs(joints):
    sign = np.ones(len(a1.JOINTS))
    sign[joints] = -1.0
    return lambda positions, velocities: (positions * sign, velocities * sign)


def _thighs(excess):
    offset = np.concatenate([np.zeros(6), np.tile([0.0, excess, 0.0], 4)])
    return lambda positions, velocities: (positions - offset, velocities)


def _velocity_of_the_trunks_frame(positions, velocities):
    return positions, _with(velocities, slice(0, 3), _turned(_rotation(positions), velocities[..., :3]))


def _roll_and_pitch(positions, velocities):
    index = [a1.JOINTS.index(joint) for joint in ("trunk_tilt", "trunk_list")]
    return tuple(_with(array, slice(3, 5), array[..., index]) for array in (positions, velocities))


def _sideways(positions, velocities):
    return positions, _with(velocities, 1, -velocities[..., 1])


def _gyroscope(positions, velocities):
    return positions, _with(velocities, _ANGLES, _rates(positions, velocities, lambda spin, now: now * spin))


def _world_rates(positions, velocities):
    return positions, _with(velocities, _ANGLES, _rates(positions, velocities, lambda spin, now: spin * now))


def _all_in_the_trunks_frame(positions, velocities):
    return _gyroscope(*_velocity_of_the_trunks_frame(positions, velocities))


def _rates_kept(positions, velocities):
    return positions, velocities


def _angles(turn, rates=None):
    """Convert angles by turn(angles); `rates` then converts the rates, which None takes to be those of the recorded angles."""

    def convert(positions, velocities):
        angles = positions[..., _ANGLES]
        converted = _with(positions, _ANGLES, turn(angles))
        if rates is not None:
            return rates(converted, velocities)
        change = _STEP * velocities[..., _ANGLES]
        turned = wrapped(turn(angles + change) - turn(angles - change)) / (2.0 * _STEP)
        return converted, _with(velocities, _ANGLES, turned)

    return convert


def _from_yaw_pitch_roll(angles):
    rotation = Rotation.from_euler("ZYX", angles[..., ::-1].reshape(-1, 3))
    return rotation.as_euler("XYZ").reshape(angles.shape)


def _from_inverse(angles):
    return Rotation.from_euler("XYZ", angles.reshape(-1, 3)).inv().as_euler("XYZ").reshape(angles.shape)


def _from_rolled_quaternion(angles, shift):
    quaternion = Rotation.from_euler("XYZ", angles.reshape(-1, 3)).as_quat()
    return Rotation.from_quat(np.roll(quaternion, shift, axis=-1)).as_euler("XYZ").reshape(angles.shape)


def _rates(positions, velocities, turn):
    """Rates of the angles, from angular velocities; turn(spin, now) turns the trunk by the small rotation `spin`."""
    now = _rotation(positions)
    spin = Rotation.from_rotvec(_STEP * velocities[..., _ANGLES].reshape(-1, 3))
    change = turn(spin, now).as_euler("XYZ") - turn(spin.inv(), now).as_euler("XYZ")
    return wrapped(change).reshape(*positions.shape[:-1], 3) / (2.0 * _STEP)


def _rotation(positions):
    return Rotation.from_euler("XYZ", positions[..., _ANGLES].reshape(-1, 3))


def _turned(rotation, vectors):
    return rotation.apply(vectors.reshape(-1, 3)).reshape(vectors.shape)


def _with(array, columns, values):
    array = array.copy()
    array[..., columns] = values
    return array
