"""Measures of a recording that need physics: rows in which nothing bears the robot, and how long inferred actions hold."""

import numpy as np

from qi_ext.demonstrations.inverse_dynamics import missed_velocities, steps_up
from qi_ext.demonstrations.measures import Measure
from qi_ext.demonstrations.mending import OPTION, lowest_foot
from qi_ext.robot import a1

# Right 0.00 to 0.03, with noise of 0.06 m/s in the trunk's velocity 0.20; a dog's clips put on the ground 0.27 to 0.63, as they
# are 0.88 to 1.00. A trot that is 2 mm too high 0.57, 3 mm 0.82, 10 mm 0.99.
FREE_FALL = (0.0, 0.8)
# M of the lowest foot, median, up to which free fall refuses nothing: loco-mujoco's own walk, at 0.0205, falls in all rows.
NEAR_GROUND = 0.025
ANY = (-np.inf, np.inf)
FALLEN_A_STEP = 9.81 * a1.CONTROL_DT  # m/s
SAMPLE = 60  # rows at most from which a step is simulated
STARTS, REPLAYED = 5, 100  # from which actions are replayed, and for how many steps
FEW_STEPS = 30  # right 100, where headings turn 51 to 60; a dog's clips, put on the ground or not, 7 to 20
REPLAY = f"steps that inferred actions keep it up, of {REPLAYED}"


def examine_dynamics(demonstrations, model):
    """Return `Measure`s, a list, and the fault in one line, or None. model: the task's compiled `mujoco.MjModel`.

    A row is in free fall where, with the best action, the simulated trunk falls against the recorded one by more than half of
    what free fall adds in a step. Replayed actions are not corrected, so that even right ones lead to a fall in the end: their
    number of steps, the median over starts, is for information.
    """
    share = _free_fall(demonstrations, model)
    near = np.median(lowest_foot(demonstrations.states)) <= NEAR_GROUND
    fall = Measure("share of rows in free fall", share, ANY if near else FREE_FALL)
    said = (
        f"nothing bears the robot in {share:.0%} of the rows, where it would fall freely: {OPTION} puts its feet on the ground"
    )
    replay = Measure(REPLAY, _steps_up(demonstrations, model), ANY)
    return [fall, replay], None if fall.right else said


def warning_of_inferred(measures):
    """Return a warning of cloning inferred actions, in one line, where replayed ones soon lead to a fall, or None.

    measures: of `examine_dynamics`, among others.
    """
    steps = next((measure.value for measure in measures if measure.name == REPLAY), REPLAYED)
    if steps >= FEW_STEPS:
        return None
    return (
        f"actions inferred from this recording keep the robot up for {steps:.0f} steps, and a policy that clones them "
        "will fall as soon; training from scratch (--warm_start 0) needs no actions"
    )


def _free_fall(demonstrations, model):
    first = np.delete(np.arange(len(demonstrations.states)), demonstrations.bounds[1:] - 1)
    rows = first[np.linspace(0, len(first) - 1, min(SAMPLE, len(first))).astype(int)]
    missed = missed_velocities(demonstrations, rows, model)[:, a1.JOINTS.index("trunk_tz")]
    return float(np.mean(missed > 0.5 * FALLEN_A_STEP))


def _steps_up(demonstrations, model):
    """Median over starts, spread evenly over the rows; those near the end of a segment are moved to where 100 rows follow."""
    steps = []
    for row in np.linspace(0, len(demonstrations.states) - 1, STARTS).astype(int):
        segment = int(np.searchsorted(demonstrations.bounds, row, side="right")) - 1
        begin, end = demonstrations.bounds[segment : segment + 2]
        begin = max(begin, min(row, end - 1 - REPLAYED))
        steps.append(steps_up(demonstrations.states[begin : min(end, begin + 1 + REPLAYED)], model))
    return float(np.median(steps))
