"""Reads off a loco-mujoco A1 what a worker must know, so that nothing of the environment itself is sent."""

import numpy as np
from loco_mujoco.environments import UnitreeA1
from loco_mujoco.utils import NoReward
from loco_mujoco.utils.math import mat2angle_xy, transform_angle_2pi
from loco_mujoco.utils.reward import VelocityVectorReward

from qi_ext.robot import a1
from qi_ext.robot.commands import angle_between
from qi_ext.sampling.specification import Specification, Starts
from qi_ext.tasks import QuadrupedDirection


def why_not_batched(environment):
    """Why lanes of `environment` cannot be stepped as values, in words; None where they can."""
    if type(environment) not in (QuadrupedDirection, UnitreeA1):
        # Of a subclass nobody knows what it overrides.
        return f"{type(environment).__name__} is neither QuadrupedDirection nor loco-mujoco's UnitreeA1"
    if environment._use_foot_forces:
        return "foot forces are averaged over the substeps"
    if environment._domain_rand is not None:
        return "domain randomisation makes a model an episode"
    if type(environment._reward_function) not in (VelocityVectorReward, NoReward):
        return f"its reward is {type(environment._reward_function).__name__}"
    if environment.setup_random_rot:
        return "its start states are turned at random"
    if type(environment) is UnitreeA1 and environment.trajectories is None:
        return "it has no trajectories to start from"
    return None


def specification(environment):
    """The `Specification` of an environment that `why_not_batched` has nothing against.

    Raises ValueError where episodes have nothing to start from.
    """
    reason = why_not_batched(environment)
    if reason:
        raise ValueError(f"specification: {reason}")
    model = environment._model
    joints = [model.joint(name) for name in a1.JOINTS]
    qpos = np.array([joint.qposadr[0] for joint in joints])
    qvel = np.array([joint.dofadr[0] for joint in joints])
    starts = _own_starts(environment) if isinstance(environment, QuadrupedDirection) else _stock_starts(environment)
    return Specification(
        name=type(environment).__name__,
        model=model,
        position_index=qpos[2:],
        velocity_index=qvel,
        start_qpos=qpos,
        start_qvel=qvel,
        actuators=np.array(environment._action_indices),
        scale=environment.norm_act_delta.copy(),
        offset=environment.norm_act_mean.copy(),
        n_substeps=environment._n_substeps,
        horizon=environment.info.horizon,
        falls=environment._use_absorbing_states,
        rewarded=isinstance(environment._reward_function, VelocityVectorReward),
        starts=starts,
    )


def nearest_range(environment, command):
    """Which of the start ranges of a `QuadrupedDirection` episodes of `command` start from."""
    directions = np.array(list(environment.initial_states.states))
    return int(np.argmin(angle_between(directions, command.direction_deg)))


def _own_starts(environment):
    """By direction: the states that were demonstrated nearest to each command, at x = y = 0."""
    groups = environment.initial_states.states
    if not groups:
        raise ValueError("the environment has no demonstrations to start episodes from")
    states = np.concatenate(list(groups.values()))
    ends = np.cumsum([len(group) for group in groups.values()])
    rows = np.hstack([np.zeros((len(states), 2)), states[:, a1.POSITION], states[:, a1.VELOCITY]])
    return Starts(
        rows=rows,
        ranges=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
        range_of_goal=np.array([nearest_range(environment, command) for command in environment.commands]),
        goals=np.array([command.features for command in environment.commands]),
    )


def _stock_starts(environment):
    """As `UnitreeA1.setup` draws them: a trajectory, then one of its samples, the first, or the one that was asked for."""
    trajectories = environment.trajectories
    keys = trajectories.keys
    length, count = trajectories.trajectory_length, trajectories.number_of_trajectories
    columns = [trajectories.trajectories[i].reshape(count * length, -1) for i in range(len(keys))]
    values = np.hstack(columns[: len(a1.JOINTS) * 2])
    values[:, :2] = 0.0  # every start is put to x = y = 0
    angles = np.array([transform_angle_2pi(mat2angle_xy(row.reshape(3, 3))) for row in columns[keys.index("dir_arrow")]])
    angles -= np.pi / 2
    goals = np.column_stack([np.cos(angles), np.sin(angles), columns[keys.index("goal_speed")]])
    begins = np.arange(count) * length
    if environment._random_start:
        ranges = np.stack([begins, begins + length], axis=1)
    elif environment._init_step_no is not None:
        ranges = np.array([[environment._init_step_no, environment._init_step_no + 1]])
    else:
        ranges = np.stack([begins, begins + 1], axis=1)
    return Starts(values, ranges, np.arange(len(ranges)), goals, goal_of_row=True)
