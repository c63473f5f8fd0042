"""The `EnvSpec` of an environment of loco-mujoco's A1, ours or the stock one."""

import numpy as np
from loco_mujoco.environments import UnitreeA1
from loco_mujoco.utils import NoReward
from loco_mujoco.utils.math import mat2angle_xy, transform_angle_2pi
from loco_mujoco.utils.reward import VelocityVectorReward

from qi_ext.robot import a1
from qi_ext.robot.addresses import addresses
from qi_ext.sampling.env_spec import EnvSpec
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.task import Starts, Task


def why_not_as_values(environment):
    """Reason why envs like `environment` cannot be stepped as values, in words; None where they can."""
    if type(environment) not in (QuadrupedDirection, UnitreeA1):
        # A subclass may override anything.
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


def read_environment(environment):
    """Return the `EnvSpec` of an environment.

    Raises ValueError where `why_not_as_values` gives a reason, or where episodes have nothing to start from.
    """
    reason = why_not_as_values(environment)
    if reason:
        raise ValueError(f"read_environment: {reason}")
    if isinstance(environment, QuadrupedDirection):
        task = environment.task
        if task.starts is None:
            raise ValueError("the environment has no demonstrations to start episodes from")
    else:
        task = _StockTask(_stock_starts(environment))
    return EnvSpec(
        task=task,
        model=environment._model,
        addresses=addresses(environment._model),
        scale=environment.norm_act_delta.copy(),
        offset=environment.norm_act_mean.copy(),
        n_substeps=environment._n_substeps,
        horizon=environment.info.horizon,
        falls=environment._use_absorbing_states,
        rewarded=isinstance(environment._reward_function, VelocityVectorReward),
    )


class _StockTask(Task):
    """loco-mujoco's own `UnitreeA1`, whose commands come with its start states."""

    name = "UnitreeA1"
    commands = ()
    torch_task = "qi_ext.tasks.on_device:TaskOnDevice"

    def __init__(self, starts):
        self.starts = starts

    def tell(self, command):
        raise ValueError("the stock UnitreeA1 cannot be told a command: it comes with the start state")


def _stock_starts(environment):
    """`Starts` as `UnitreeA1.setup` draws them: a trajectory, then one of its samples, the first, or the one asked for."""
    trajectories = environment.trajectories
    keys = trajectories.keys
    length, count = trajectories.trajectory_length, trajectories.number_of_trajectories
    columns = [trajectories.trajectories[i].reshape(count * length, -1) for i in range(len(keys))]
    states = np.hstack(columns[: len(a1.JOINTS) * 2])
    states[:, :2] = 0.0  # upstream puts every start to x = y = 0
    angles = np.array([transform_angle_2pi(mat2angle_xy(row.reshape(3, 3))) for row in columns[keys.index("dir_arrow")]])
    angles -= np.pi / 2
    commands = np.column_stack([np.cos(angles), np.sin(angles), columns[keys.index("goal_speed")]])
    begins = np.arange(count) * length
    if environment._random_start:
        groups = np.stack([begins, begins + length], axis=1)
    elif environment._init_step_no is not None:
        groups = np.array([[environment._init_step_no, environment._init_step_no + 1]])
    else:
        groups = np.stack([begins, begins + 1], axis=1)
    return Starts(states, groups, np.arange(len(groups)), commands, command_of_row=True)
