"""Evaluation in loco-mujoco's own `UnitreeA1`, unpatched, stepped by mushroom-rl's own `Core`: a second opinion."""

import contextlib
from importlib.metadata import version

import mujoco
import numpy as np
from loco_mujoco.environments import UnitreeA1
from mushroom_rl.core import Agent, Core
from mushroom_rl.policy import Policy

from qi_ext.demonstrations.loco_mujoco_formats import real_arrays
from qi_ext.demonstrations.trot import TrotController
from qi_ext.evaluation.episodes import summarize
from qi_ext.robot import a1
from qi_ext.robot.commands import Command, label_among, nearest_command
from qi_ext.robot.kinematics import joint_positions
from qi_ext.sampling.envs import episode_seed
from qi_ext.utils.errors import SamplingError
from qi_ext.utils.simulation_context import warnings_ignored


class ActorPolicy(Policy):
    """An `Actor` as a mushroom-rl policy."""

    def __init__(self, actor, deterministic=True):
        super().__init__()
        self.actor = actor
        self.deterministic = deterministic
        self.generator = None

    def begin(self, environment, command, generator):
        """Prepare for an episode. generator: a `numpy.random.Generator`, for the noise of its actions."""
        self.generator = generator

    def draw_action(self, state):
        """Return an action, (12,), float32, not clipped, for an observation, (37,)."""
        return self.actor.act(state, self.deterministic, self.generator)


class ExpertPolicy(Policy):
    """The trot controller in closed loop as a mushroom-rl policy; it reads the simulation's state."""

    def begin(self, environment, command, generator):
        """Prepare for an episode, before the simulation is reset."""
        self._data = environment._data
        self._trot = TrotController(environment._model, command.direction, command.speed)
        self._begun = False

    def draw_action(self, state):
        """Return an action, (12,)."""
        if not self._begun:
            self._trot.reset(self._data)
            self._begun = True
        return self._trot.action(self._data)


def stock_environment(states, command):
    """Build loco-mujoco's `UnitreeA1` as its `generate` builds `UnitreeA1.simple` and `UnitreeA1.hard`.

    The two differ only in their data set: `hard` draws a trajectory, which sets the direction, and then one of its samples.
    Here `states`, (n, 37), are the only trajectory and `command` is its goal, so `reset` draws one of these states. They are
    handed over in the format of real data at 100 Hz, which loco-mujoco does not resample; so the faults that the patches
    `first-velocity`, `arrow-unwrap`, `perfect-heading` and `perfect-goal-speed` mend do not arise, and no patch is needed.
    """
    environment = UnitreeA1(reward_type="velocity_vector", reward_params={})
    # Upstream takes x and y off at each reset.
    positions = joint_positions(states)
    trajectories = real_arrays(positions, states[:, a1.VELOCITY], [command], len(states))
    trajectory_parameters = {"traj_files": trajectories, "traj_dt": environment.dt, "control_dt": environment.dt}
    environment.load_trajectory(trajectory_parameters, warn=False)
    return environment


def evaluate_stock(policy, demonstrations, commands, episodes, seed, step=0, progress=lambda n: None):
    """Run `episodes` episodes for each of `commands` in the stock environment: none of our environment or sampling is used.

    policy: an `ActorPolicy` or `ExpertPolicy`. Episodes start from a state of `demonstrations` under the command, or
    under the nearest one demonstrated. Each is keyed by (seed, step, command, episode), as in `evaluate`, but starts elsewhere:
    upstream draws the start from numpy's global generator, whose state is put back afterwards. progress(n) is called as n
    episodes are done.
    Returns the dict of `evaluate` without blow_ups, its commands read from the observed goals, and environment: the versions
    of the libraries. Raises SamplingError where the simulation blows up.
    """
    states, measured = demonstrations.states_by_command(), {}
    demonstrated = list(states)
    with _global_generator_restored():
        for command in commands:
            nearest = demonstrated[nearest_command(command, demonstrated)]
            environment = stock_environment(states[nearest], command)
            core = Core(Agent(environment.info, policy), environment)
            for episode in range(episodes):
                start, noise = episode_seed(seed, step, command, episode, commands).spawn(2)
                environment.seed(int(start.generate_state(1)[0]))
                policy.begin(environment, command, np.random.default_rng(noise))
                with warnings_ignored():  # upstream's handler raises inside MuJoCo, which aborts the process with MuJoCo 4.0
                    dataset = core.evaluate(n_episodes=1, quiet=True)
                if np.any(environment._data.warning.number):
                    where = f"direction {label_among(command, commands)}, episode {episode}"
                    raise SamplingError(f"stock environment: {where}: the simulation blew up")
                observed, row = _measured(dataset)
                measured.setdefault(observed, []).append(row)
                progress(1)
    directions = [summarize(command, measured, *np.transpose(rows)) for command, rows in measured.items()]
    return {
        "return_mean": float(np.mean([row["return_mean"] for row in directions])),
        "directions": directions,
        "environment": stock_versions(),
    }


def compare_stock(actor, demonstrations, commands, episodes, seed, step=0, progress=lambda n: None):
    """Evaluate `actor` deterministic and stochastic and the trot controller (`expert`) in the stock environment.

    Returns {name: result of `evaluate_stock`}. progress(n) is called as n of the 3 episodes |commands| episodes are done.
    Raises SamplingError.
    """
    policies = {
        "deterministic": ActorPolicy(actor),
        "stochastic": ActorPolicy(actor, deterministic=False),
        "expert": ExpertPolicy(),
    }
    return {
        name: evaluate_stock(policy, demonstrations, commands, episodes, seed, step, progress)
        for name, policy in policies.items()
    }


def stock_versions():
    """Name the libraries that the numbers come from, with their versions."""
    loco_mujoco, mushroom_rl = version("loco-mujoco"), version("mushroom-rl")
    return f"stock UnitreeA1 of loco-mujoco {loco_mujoco}, Core of mushroom-rl {mushroom_rl}, MuJoCo {mujoco.__version__}"


def _measured(dataset):
    """Return the observed `Command` and (return, length, fell, sum of velocity errors) of an episode of `Core`."""
    states, _, rewards, _, absorbing, _ = zip(*dataset, strict=True)
    cosine, sine, speed = states[0][a1.GOAL]
    observed = Command(round(float(np.degrees(np.arctan2(sine, cosine))), 6), round(float(speed), 6))
    return observed, (sum(rewards), len(dataset), absorbing[-1], a1.velocity_error(np.array(states)).sum())


@contextlib.contextmanager
def _global_generator_restored():
    before = np.random.get_state()  # noqa: NPY002 (upstream draws from it)
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
