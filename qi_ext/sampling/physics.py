"""A block of lanes, stepped in a worker of the pool: numpy and MuJoCo, neither torch nor loco_mujoco."""

import functools
from contextlib import ExitStack, contextmanager

import mujoco
import numpy as np
from threadpoolctl import ThreadpoolController

from qi_ext.robot import a1
from qi_ext.sampling.envs import LaneError, Lanes
from qi_ext.sampling.rollouts import EPISODE, Rollouts
from qi_ext.sampling.specification import STATE
from qi_ext.utils.generators import pack_generator, unpack_generator

_specifications = {}
_for_good = ExitStack()


# Looking for them takes milliseconds; numpy's, the one that counts, has been there since its import.
_thread_pools = functools.cache(ThreadpoolController)


@contextmanager
def settled():
    """One BLAS thread, because matrix products depend on their number; and no log file of MuJoCo's for a blow-up."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        with _thread_pools().limit(limits=1, user_api="blas"):
            yield
    finally:
        mujoco.set_mju_user_warning(handler)


def install(key, specification):
    """Make `specification` known by `key`, in a process that does nothing but work for a pool."""
    if not _specifications:
        _for_good.enter_context(settled())
    install_here(key, specification)


def install_here(key, specification):
    """The same in a process that does other things too: it calls within `settled`."""
    _specifications[key] = specification


def uninstall(key):
    """Forget a specification."""
    _specifications.pop(key, None)


def fragment(key, lanes, rows, controller, n_steps):
    """Step `lanes` on by `n_steps` steps, starting episodes as they end; returns the lanes as they are then, and `Rollouts`.

    rows: of the arrays that `controller` sees, at least as many as there are lanes, so that its arithmetic does not depend on
    how many there are. Raises LaneError where an action is not finite or MuJoCo gives up.
    """
    block = _Block(_specifications[key], lanes, rows)
    for time in range(n_steps):
        for lane in np.flatnonzero(~block.running):
            block.start(lane, controller)
        block.step(time, controller, range(block.n))
    return block.lanes(), block.rollouts(n_steps)


def episodes(key, lanes, rows, controller):
    """Run one episode to its end in each of `lanes`, from its start; returns `Rollouts` of as many steps as the longest.

    What stands in a lane after its end means nothing. Raises as `fragment` does.
    """
    block = _Block(_specifications[key], lanes, rows)
    for lane in np.flatnonzero(~block.running):
        block.start(lane, controller)
    time = 0
    while block.running.any():
        block.step(time, controller, np.flatnonzero(block.running))
        time += 1
    return block.rollouts(time)


class _Block:
    """Live simulations of a block of lanes, for the time of one task."""

    def __init__(self, specification, lanes, rows):
        self.specification = specification
        self.n = len(lanes)
        self.datas = [mujoco.MjData(specification.model) for _ in range(self.n)]
        # Views, because looking them up at every step costs more than reading them.
        self._qpos = [data.qpos for data in self.datas]
        self._qvel = [data.qvel for data in self.datas]
        self._ctrl = [data.ctrl for data in self.datas]
        self._warnings = [data.warning.number for data in self.datas]
        self.generators = [unpack_generator(words) for words in lanes.generator]
        self.number, self.goal, self.running = lanes.number, lanes.goal.copy(), lanes.running.copy()
        self._start_range = lanes.start_range
        self._length, self._return = lanes.step.copy(), lanes.episode_return.copy()
        self.cut = np.zeros(self.n, dtype=bool)  # for controllers: this step ends the episode, as if by its time limit
        self._observation = np.zeros((rows, a1.N_OBSERVATIONS))
        self._history = []
        self._episodes = []
        for lane in np.flatnonzero(self.running):
            mujoco.mj_setState(specification.model, self.datas[lane], lanes.state[lane], STATE)
            self._observe(lane)

    def start(self, lane, controller):
        """Start an episode in a lane, from a drawn state."""
        specification = self.specification
        mujoco.mj_resetData(specification.model, self.datas[lane])
        row, self.goal[lane] = specification.starts.draw(
            self.generators[lane], self._start_range[lane], self.goal[lane] if self._start_range[lane] >= 0 else None
        )
        n_positions = len(specification.start_qpos)
        self._qpos[lane][specification.start_qpos] = row[:n_positions]
        self._qvel[lane][specification.start_qvel] = row[n_positions:]
        self._length[lane], self._return[lane], self.running[lane] = 0, 0.0, True
        self._observe(lane)
        controller.begin(self, lane)

    def step(self, time, controller, lanes):
        """One control step of `lanes`; what happened goes to the history."""
        specification = self.specification
        observation = self._observation[: self.n].copy()
        actions = controller.actions(self, self._observation, lanes)[: self.n]
        if not np.isfinite(actions).all():
            lane = int(np.argmin(np.isfinite(actions).all(axis=1)))
            raise LaneError(f"the policy's action is not finite: {actions[lane]}", lane)
        controls = actions * specification.scale + specification.offset
        blown_up = None
        for lane in lanes:
            self._ctrl[lane][specification.actuators] = controls[lane]
            try:
                mujoco.mj_step(specification.model, self.datas[lane], specification.n_substeps)
            except mujoco.FatalError as error:
                raise LaneError(f"MuJoCo gave up: {error}", int(lane)) from error
            if self._warnings[lane].any():
                # MuJoCo has reset the state by itself; the last finite observation stands.
                blown_up = np.zeros(self.n, dtype=bool) if blown_up is None else blown_up
                blown_up[lane] = True
            else:
                self._observe(lane)
        self._finish(time, observation, actions, blown_up, lanes)

    def _finish(self, time, observation, actions, blown_up, lanes):
        specification = self.specification
        next_observation = self._observation[: self.n].copy()
        rewards = a1.environment_reward(observation) if specification.rewarded else np.zeros(self.n)
        absorbing = a1.has_fallen(next_observation) if specification.falls else np.zeros(self.n, dtype=bool)
        if blown_up is not None:
            absorbing |= blown_up
        self._length[lanes] += 1
        self._return[lanes] += rewards[lanes]
        truncated = ((self._length >= specification.horizon) | self.cut) & ~absorbing
        self.cut[:] = False
        ended = absorbing | truncated
        if ended.any():
            for lane in lanes:
                if ended[lane]:
                    self.running[lane] = False
                    blew_up = blown_up is not None and blown_up[lane]
                    episode = (time, lane, self._return[lane], self._length[lane], absorbing[lane], blew_up)
                    self._episodes.append(episode)
        self._history.append((observation, actions, rewards, next_observation, absorbing, truncated))

    def lanes(self):
        """The lanes as values, as they are now."""
        state = np.zeros((self.n, self.specification.state_size))
        for lane in np.flatnonzero(self.running):
            mujoco.mj_getState(self.specification.model, self.datas[lane], state[lane], STATE)
        return Lanes(
            number=self.number,
            state=state,
            goal=self.goal,
            start_range=self._start_range,
            running=self.running,
            step=self._length,
            episode_return=self._return,
            generator=np.array([pack_generator(generator) for generator in self.generators]),
        )

    def rollouts(self, n_steps):
        """The history as arrays [lane, time, ...]."""
        observations, actions, rewards, next_observations, absorbing, truncated = (
            np.ascontiguousarray(np.swapaxes(np.stack(column), 0, 1)) for column in zip(*self._history, strict=True)
        )
        last = absorbing | truncated
        last[:, n_steps - 1] = True
        episodes = np.array(self._episodes, dtype=EPISODE)
        return Rollouts(observations, actions, rewards, next_observations, absorbing, truncated, last, episodes)

    def _observe(self, lane):
        row, specification = self._observation[lane], self.specification
        row[a1.POSITION] = self._qpos[lane][specification.position_index]
        row[a1.VELOCITY] = self._qvel[lane][specification.velocity_index]
        row[a1.GOAL] = self.goal[lane]
