"""Measures of the gait: stride frequency, duty factor and clearance of each foot, and which legs swing together."""

import mujoco
import numpy as np
from scipy.ndimage import median_filter

from qi_ext.demonstrations.gait_measures import DIAGONAL, LATERAL, feet_ahead, measure_gait, pair_correlation
from qi_ext.evaluation.episodes import mean_over_rows
from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses

DEBOUNCE = 5  # samples of 10 ms
SEGMENTS = 200  # of demonstrations, at most, that are looked at


class Contacts:
    """Contact forces and heights of the feet, computed by MuJoCo from observations and actions."""

    def __init__(self, model):
        """model: `mujoco.MjModel` of the A1, its floor named `floor`."""
        self.model, self.data = model, mujoco.MjData(model)
        self._addresses = addresses(model)
        self._feet = np.array([model.geom(f"{leg}_foot").id for leg in a1.LEGS])
        self._floor = model.geom("floor").id
        self._leg_of_geom = np.full(model.ngeom, len(a1.LEGS))
        for leg, foot in enumerate(self._feet):
            self._leg_of_geom[model.geom_bodyid == model.geom_bodyid[foot]] = leg

    def __call__(self, observations, actions):
        """Return vertical forces of the floor on the four feet and heights of their centres, both (T, 4), in N and m.

        observations: (T, 37). actions: (T, 12), taken at those observations. A foot is the foot's sphere and the capsules of
        the calf: the sphere is so soft that the capsule in it bears most of the load.
        """
        data, at = self.data, self._addresses
        # The solver starts from the last state's forces; a sequence must not depend on the one before it.
        mujoco.mj_resetData(self.model, data)
        forces, heights = np.zeros((len(observations), len(a1.LEGS) + 1)), np.zeros((len(observations), len(a1.LEGS)))
        for t, (observation, action) in enumerate(zip(observations, actions, strict=True)):
            data.qpos[at.qpos[2:]] = observation[a1.POSITION]  # x and y are not observed
            data.qvel[at.qvel] = observation[a1.VELOCITY]
            data.ctrl[at.actuators] = action
            mujoco.mj_forward(self.model, data)
            contacts = data.contact
            # The floor belongs to no leg, so the smaller number is that of the other geom's leg.
            of_floor = ((contacts.geom1 == self._floor) | (contacts.geom2 == self._floor)) & (contacts.efc_address >= 0)
            legs = np.minimum(self._leg_of_geom[contacts.geom1], self._leg_of_geom[contacts.geom2])[of_floor]
            # The friction cone is elliptic: a contact's first row is the normal force.
            forces[t] = np.bincount(legs, data.efc_force[contacts.efc_address[of_floor]], minlength=forces.shape[1])
            heights[t] = data.geom_xpos[self._feet, 2]
        return forces[:, :-1], heights


def stances(forces):
    """Return True where a foot is in stance, (T, 4): it bears a load, by a median over 50 ms that drops phases under 30 ms.

    forces: (T, 4), N. Touching the floor is not enough: in lifting off, the foot's soft sphere stays in the floor for 20 to
    30 ms after it has ceased to push.
    """
    return median_filter(forces > 0.0, size=(DEBOUNCE, 1), mode="nearest")


def clearances(stance, heights):
    """Return the clearance of each whole swing of a foot, m: its greatest height above the mean of lift-off and touch-down.

    stance: (T,), bool. heights: (T,), m, of the foot's centre. A swing that the episode's start or end cuts off is left out.
    """
    change = np.diff(stance.astype(int))
    last_on, first_on = np.flatnonzero(change == -1), np.flatnonzero(change == 1) + 1
    first_on = first_on[first_on > last_on[0]] if len(last_on) else first_on[:0]
    return [
        heights[begin : end + 1].max() - (heights[begin] + heights[end]) / 2
        for begin, end in zip(last_on, first_on, strict=False)
    ]


def demonstrated_gait(demonstrations):
    """Return the measures of `Gait`, but of each foot, of demonstrations: the mean over segments, by `measure_gait`.

    None where commands change within segments. demonstrations: `Demonstrations`. They need no actions, so a duty factor is by
    how feet move, not by what they bear, and up to 0.1 higher.
    """
    if demonstrations.headings is not None:
        return None
    segments = [demonstrations.states[demonstrations.segment(i)] for i in range(min(demonstrations.n_segments, SEGMENTS))]
    return mean_over_rows(
        [
            {
                "stride_frequency": gait.frequency,
                "duty_factor": gait.duty_factor.mean(),
                "foot_clearance": gait.clearance.mean(),
                "lateral_pairs": gait.lateral,
                "diagonal_pairs": gait.diagonal,
            }
            for gait in map(measure_gait, segments)
        ]
    )


class Gait:
    """A measure for `evaluate`, by foot and as the mean over the four.

    stride_frequency: Hz, touch-downs over the duration of all episodes.
    duty_factor: share of the steps in stance, see `stances`.
    foot_clearance: m, mean of `clearances`; None where there was no whole swing, and left out of the mean over feet.
    feet: the same three for each of FR, FL, RR, RL.
    lateral_pairs, diagonal_pairs: mean over episodes of the `pair_correlation` of the legs of a side, and of diagonal ones.
    """

    def __init__(self, contacts, command, episodes):
        self._contacts = contacts
        self._sums = np.zeros((episodes, 5, len(a1.LEGS)))
        self._pairs = np.zeros((episodes, 2))

    def add(self, episode, rollouts):
        forces, heights = self._contacts(rollouts.observations[0], rollouts.actions[0])
        stance = stances(forces)
        swings = [clearances(*foot) for foot in zip(stance.T, heights.T, strict=True)]
        self._sums[episode] = (
            np.full(len(a1.LEGS), len(stance)),
            np.count_nonzero(~stance[:-1] & stance[1:], axis=0),
            np.count_nonzero(stance, axis=0),
            [len(foot) for foot in swings],
            [sum(foot) for foot in swings],
        )
        ahead = feet_ahead(rollouts.observations[0])
        self._pairs[episode] = [pair_correlation(ahead, pairs) for pairs in (LATERAL, DIAGONAL)]

    def result(self):
        feet = {}
        for leg, foot in zip(a1.LEGS, self._sums.sum(axis=0).T.tolist(), strict=True):
            steps, touchdowns, in_stance, swings, clearance = foot
            feet[leg] = {
                "stride_frequency": touchdowns / (steps * a1.CONTROL_DT),
                "duty_factor": in_stance / steps,
                "foot_clearance": clearance / swings if swings else None,
            }
        lateral, diagonal = self._pairs.mean(axis=0).tolist()
        return mean_over_rows(list(feet.values())) | {"lateral_pairs": lateral, "diagonal_pairs": diagonal, "feet": feet}
