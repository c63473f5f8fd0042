"""A block of envs, stepped together in a worker of the pool: numpy and MuJoCo, neither torch nor loco_mujoco."""

from contextlib import ExitStack
from functools import partial

import mujoco
import numpy as np

from qi_ext.sampling.env_spec import STATE
from qi_ext.sampling.envs import EnvError, Envs
from qi_ext.sampling.rollouts import EPISODE, Rollouts
from qi_ext.tasks.task import DRAWN
from qi_ext.utils.generators import pack_generator, unpack_generator
from qi_ext.utils.simulation_context import simulation_context

_specs = {}
_worker_context = ExitStack()


def install(key, spec):
    """Make an `EnvSpec` known by `key`, in a process that does nothing but work for a pool."""
    if not _specs:
        _worker_context.enter_context(simulation_context())
    install_here(key, spec)


def install_here(key, spec):
    """Make an `EnvSpec` known by `key`, in a process that calls the functions below in its own `simulation_context`."""
    _specs[key] = spec


def uninstall(key):
    """Forget an `EnvSpec`."""
    _specs.pop(key, None)


def step_fragment(key, envs, rows, controller, n_steps):
    """Step `envs` on by `n_steps` steps, starting episodes as they end; returns the envs as they are then, and `Rollouts`.

    rows: of the arrays that `controller` sees, at least as many as there are envs, so that its arithmetic does not depend on
    how many there are. Raises EnvError where an action is not finite or MuJoCo gives up.
    """
    block = Block(_specs[key], envs, rows)
    for time in range(n_steps):
        for env in np.flatnonzero(~block.running):
            block.start(env, controller)
        block.step(time, controller, range(block.n))
    return block.envs(), block.rollouts(n_steps)


def run_episodes(key, envs, rows, controller):
    """Run one episode to its end in each of `envs`, from its start; returns `Rollouts` of as many steps as the longest.

    They hold the commands, too. The rows of an env after its episode's end mean nothing. Raises as `step_fragment` does.
    """
    block = Block(_specs[key], envs, rows)
    for env in np.flatnonzero(~block.running):
        block.start(env, controller)
    commands = []
    while block.running.any():
        commands.append(block.command.copy())
        block.step(len(commands) - 1, controller, np.flatnonzero(block.running))
    rollouts = block.rollouts(len(commands))
    rollouts.commands = np.stack(commands, axis=1)
    return rollouts


def _in_turn(step_env, envs):
    for env in envs:
        step_env(env)


class Block:
    """Live simulations of some envs, for the time of one task of the pool.

    Controllers read: spec, n, datas ([mujoco.MjData]), generators, number (N,), command (N, k), running (N,), observation
    (rows, 37), length (N,), in steps of the present episode; and set cut (N,), bool: this step ends the env's episode, as if by
    its time limit.
    """

    def __init__(self, spec, envs, rows, for_each=_in_turn):
        """for_each: function (step_env, envs) that calls step_env(env) for each env, in any order and thread."""
        self.spec = spec
        self._for_each = for_each
        self.n = len(envs)
        self.datas = [mujoco.MjData(spec.model) for _ in range(self.n)]
        # Views, because looking them up at every step costs more than reading them.
        self._qpos = [data.qpos for data in self.datas]
        self._qvel = [data.qvel for data in self.datas]
        self._ctrl = [data.ctrl for data in self.datas]
        self._warnings = [data.warning.number for data in self.datas]
        self.generators = [unpack_generator(words) for words in envs.generator]
        self.number, self.command, self.running = envs.number, envs.command.copy(), envs.running.copy()
        self._start_group = envs.start_group
        self.length, self._return = envs.step.copy(), envs.episode_return.copy()
        self.cut = np.zeros(self.n, dtype=bool)
        self.observation = np.zeros((rows, spec.task.observation_size))
        self._history = []
        self._episodes = []
        for env in np.flatnonzero(self.running):
            mujoco.mj_setState(spec.model, self.datas[env], envs.state[env], STATE)
            self._observe(env)

    def start(self, env, controller, told=None, group=DRAWN):
        """Start an episode in an env, from a drawn state.

        told, group: of this episode alone, as `Task.tell` gives them; else as the env is told.
        """
        spec = self.spec
        mujoco.mj_resetData(spec.model, self.datas[env])
        if told is None:
            group = self._start_group[env]
            told = None if group == DRAWN else self.command[env]
        self.command[env], state = spec.task.start(self.generators[env], told, group)
        self._qpos[env][spec.addresses.qpos], self._qvel[env][spec.addresses.qvel] = np.split(state, 2)
        self.length[env], self._return[env], self.running[env] = 0, 0.0, True
        self._observe(env)
        controller.begin(self, env)

    def step(self, time, controller, envs):
        """Step `envs` by one control step; what happened goes to the history."""
        spec = self.spec
        observation = self.observation[: self.n].copy()
        actions = controller.actions(self, self.observation, envs)[: self.n]
        if not np.isfinite(actions).all():
            env = int(np.argmin(np.isfinite(actions).all(axis=1)))
            raise EnvError(f"the policy's action is not finite: {actions[env]}", env)
        controls = actions * spec.scale + spec.offset
        blown_up = np.zeros(self.n, dtype=bool)
        self._for_each(partial(self._step_env, controls, blown_up), envs)
        self._finish(time, observation, actions, blown_up, envs)

    def _step_env(self, controls, blown_up, env):
        spec = self.spec
        self._ctrl[env][spec.addresses.actuators] = controls[env]
        try:
            mujoco.mj_step(spec.model, self.datas[env], spec.n_substeps)
        except mujoco.FatalError as error:
            raise EnvError(f"MuJoCo gave up: {error}", int(env)) from error
        if self._warnings[env].any():
            # MuJoCo has reset the state by itself; the last finite observation stands.
            blown_up[env] = True
        else:
            self.command[env] = spec.task.advance(self.command[env], self.length[env] + 1, self.generators[env])
            self._observe(env)

    def _finish(self, time, observation, actions, blown_up, envs):
        spec = self.spec
        next_observation = self.observation[: self.n].copy()
        rewards = spec.task.reward(observation, actions, next_observation) if spec.rewarded else np.zeros(self.n)
        absorbing = blown_up | spec.task.has_fallen(next_observation) if spec.falls else blown_up
        self.length[envs] += 1
        self._return[envs] += rewards[envs]
        truncated = ((self.length >= spec.horizon) | self.cut) & ~absorbing
        self.cut[:] = False
        ended = absorbing | truncated
        if ended.any():
            for env in envs:
                if ended[env]:
                    self.running[env] = False
                    episode = (time, env, self._return[env], self.length[env], absorbing[env], blown_up[env])
                    self._episodes.append(episode)
        self._history.append((observation, actions, rewards, next_observation, absorbing, truncated))

    def take_step(self):
        """Return the last step as arrays [env, ...], and forget it; `Rollouts` names them, from observations to truncated."""
        self._episodes.clear()
        return self._history.pop()

    def envs(self):
        """The envs as values, as they are now."""
        state = np.zeros((self.n, self.spec.state_size))
        for env in np.flatnonzero(self.running):
            mujoco.mj_getState(self.spec.model, self.datas[env], state[env], STATE)
        return Envs(
            number=self.number,
            state=state,
            command=self.command,
            start_group=self._start_group,
            running=self.running,
            step=self.length,
            episode_return=self._return,
            generator=np.array([pack_generator(generator) for generator in self.generators]),
        )

    def rollouts(self, n_steps):
        """The history as arrays [env, time, ...]."""
        observations, actions, rewards, next_observations, absorbing, truncated = (
            np.ascontiguousarray(np.swapaxes(np.stack(column), 0, 1)) for column in zip(*self._history, strict=True)
        )
        last = absorbing | truncated
        last[:, n_steps - 1] = True
        episodes = np.array(self._episodes, dtype=EPISODE)
        return Rollouts(observations, actions, rewards, next_observations, absorbing, truncated, last, episodes)

    def _observe(self, env):
        addresses = self.spec.addresses
        positions, velocities = self._qpos[env][addresses.qpos], self._qvel[env][addresses.qvel]
        self.spec.task.observe(positions, velocities, self.command[env], self.observation[env])
