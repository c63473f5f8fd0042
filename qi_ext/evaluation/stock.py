"""The evaluation's second opinion: loco-mujoco's own `UnitreeA1`, unpatched, stepped by mushroom-rl's own `Core`."""

import contextlib
from importlib.metadata import version

import mujoco
import numpy as np
from loco_mujoco.environments import UnitreeA1
from mushroom_rl.core import Agent, Core
from mushroom_rl.policy import Policy

from qi_ext.demonstrations import InitialStates
from qi_ext.demonstrations.formats import loco_mujoco_trajectories
from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.envs import episode_seed
from qi_ext.utils.errors import SamplingError


class ActorPolicy(Policy):
    """mushroom-rl's interface to an `Actor`."""

    def __init__(self, actor, deterministic=True):
        super().__init__()
        self.actor = actor
        self.deterministic = deterministic
        self.generator = None

    def begin(self, environment, command, generator):
        """An episode is to start."""
        self.generator = generator

    def draw_action(self, state):
        """An action, (12,), float32, not clipped, for an observation, (37,)."""
        return self.actor.act(state, self.deterministic, self.generator)


class ExpertPolicy(Policy):
    """mushroom-rl's interface to the trot controller in closed loop, which reads the simulation's state."""

    def begin(self, environment, command, generator):
        """An episode is to start, of which the simulation does not know yet."""
        self._data = environment._data
        self._trot = TrotController(environment._model, command.direction, command.speed)
        self._begun = False

    def draw_action(self, state):
        """An action, (12,)."""
        if not self._begun:
            self._trot.reset(self._data)
            self._begun = True
        return self._trot.action(self._data)


def stock_environment(states, command):
    """loco-mujoco's `UnitreeA1`, as its `generate` builds `UnitreeA1.simple` and `UnitreeA1.hard`.

    The two differ only in their data set: `hard` draws a trajectory, which brings the direction, and then one of its samples.
    Here `states`, (n, 37), are the only trajectory, with `command` for its goal, so that `reset` draws one of them for this
    direction. They are handed over in the real format at 100 Hz, where loco-mujoco has nothing to resample: what its patches
    `first-velocity`, `arrow-unwrap`, `perfect-heading` and `perfect-goal-speed` mend does not arise, and none is needed.
    """
    environment = UnitreeA1(reward_type="velocity_vector", reward_params={})
    # Upstream takes x and y off at each reset.
    positions = np.concatenate([np.zeros((len(states), 2)), states[:, a1.POSITION]], axis=1)
    trajectories = loco_mujoco_trajectories(positions, states[:, a1.VELOCITY], [command], len(states))
    trajectory_parameters = {"traj_files": trajectories, "traj_dt": environment.dt, "control_dt": environment.dt}
    environment.load_trajectory(trajectory_parameters, warn=False)
    return environment


def evaluate_stock(policy, demonstrations, commands, episodes, seed, step=0, progress=lambda n: None):
    """Run `episodes` episodes for each of `commands` in the stock environment: none of our environment or sampling is used.

    policy: an `ActorPolicy` or `ExpertPolicy`. Episodes start from a state of `demonstrations` in the commanded direction, or
    in the nearest one demonstrated. Each is keyed by (seed, step, direction, episode), as those of `evaluate`; upstream draws
    its start from numpy's global generator, so it is another one, and that generator is left as it was. progress(n) is called
    as n episodes are done.
    Returns the dict of `evaluate`, without blow_ups, its directions read from the goals that were observed, and environment:
    the versions of what was used. Raises SamplingError where the simulation blows up, which ends upstream's loop.
    """
    starts = InitialStates(demonstrations)
    found = {}
    with _global_generator_restored():
        for command in commands:
            environment = stock_environment(starts.of(command), command)
            core = Core(Agent(environment.info, policy), environment)
            for episode in range(episodes):
                start, noise = episode_seed(seed, step, command, episode).spawn(2)
                environment.seed(int(start.generate_state(1)[0]))
                policy.begin(environment, command, np.random.default_rng(noise))
                try:
                    dataset = core.evaluate(n_episodes=1, quiet=True)
                except RuntimeError as error:
                    where = f"direction {command.direction_deg:g}, episode {episode}"
                    raise SamplingError(f"stock environment: {where}: {error}") from error
                direction_deg, figures = _measured(dataset)
                found.setdefault(direction_deg, []).append(figures)
                progress(1)
    directions = []
    for direction_deg, figures in found.items():
        returns, lengths, falls, errors = np.transpose(figures)
        directions.append(
            {
                "direction_deg": direction_deg,
                "episodes": len(figures),
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std()),
                "length_mean": float(lengths.mean()),
                "falls": int(falls.sum()),
                "velocity_error_mean": float(errors.sum() / lengths.sum()),
            }
        )
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
    """What the figures come from, in words."""
    loco_mujoco, mushroom_rl = version("loco-mujoco"), version("mushroom-rl")
    return f"stock UnitreeA1 of loco-mujoco {loco_mujoco}, Core of mushroom-rl {mushroom_rl}, MuJoCo {mujoco.__version__}"


def _measured(dataset):
    """The direction that was observed, degrees, and (return, length, fell, sum of velocity errors) of an episode of `Core`."""
    states, _, rewards, _, absorbing, _ = zip(*dataset, strict=True)
    cosine, sine, speed = states[0][a1.GOAL]
    observed = Command(round(float(np.degrees(np.arctan2(sine, cosine))), 6), float(speed))
    return observed.direction_deg, (sum(rewards), len(dataset), absorbing[-1], a1.velocity_error(np.array(states)).sum())


@contextlib.contextmanager
def _global_generator_restored():
    before = np.random.get_state()  # noqa: NPY002 (upstream draws from it)
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
