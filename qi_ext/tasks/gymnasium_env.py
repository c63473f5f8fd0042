"""The task behind Gymnasium's interface."""

import gymnasium
import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.quadruped import QuadrupedDirection


class QuadrupedDirectionEnv(gymnasium.Env):
    """`QuadrupedDirection` for Gymnasium: `gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", task="hard")`.

    Observation: float64 (37,), unbounded but for the goal's cosine and sine; see `qi_ext.robot.a1.observation_table`.
    Action: float64 (12,), [-1, 1] of 34 Nm. Terminated: the robot fell. Truncated: `horizon` steps are over.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": round(1 / a1.CONTROL_DT)}

    def __init__(self, task="simple", render_mode=None, horizon=a1.HORIZON, **kwargs):
        """task, horizon, kwargs: as `QuadrupedDirection` takes them. render_mode: None, "human" or "rgb_array"."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: unknown mode {render_mode!r}; choose one of {self.metadata['render_modes']}")
        self.render_mode = render_mode
        self._env = QuadrupedDirection(task, horizon=horizon, headless=render_mode != "human", **kwargs)
        low = np.full(self._env.info.observation_space.shape, -np.inf)
        high = -low
        low[a1.GOAL.start : a1.GOAL.start + 2], high[a1.GOAL.start : a1.GOAL.start + 2] = -1.0, 1.0
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (a1.N_ACTIONS,), np.float64)
        self._steps = 0

    @property
    def quadruped(self):
        """The `QuadrupedDirection` inside."""
        return self._env

    def reset(self, *, seed=None, options=None):
        """Start an episode; `options={"direction_deg": 90.0, "speed": 0.5}` commands a direction instead of drawing it."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.seed(seed)
        options = dict(options or {})
        command = None
        if "direction_deg" in options:
            command = Command(options.pop("direction_deg"), options.pop("speed", self._env.commands[0].speed))
        if options:
            raise ValueError(f"reset: unknown options {sorted(options)}; known are direction_deg and, with it, speed")
        self._steps = 0
        return self._env.reset(command=command), self._info()

    def step(self, action):
        """Returns observation, reward, terminated, truncated, info; info holds `direction_deg` and `speed` of the command."""
        observation, reward, absorbing, _ = self._env.step(action)
        self._steps += 1
        truncated = self._steps >= self._env.info.horizon and not absorbing
        if self.render_mode == "human":
            self.render()
        return observation, float(reward), bool(absorbing), truncated, self._info()

    def render(self):
        """An RGB picture, (height, width, 3), with render_mode "rgb_array"; draws to the window with "human"."""
        if self.render_mode == "rgb_array":
            return np.swapaxes(self._env.render(record=True), 0, 1)
        if self.render_mode == "human":
            self._env.render()
        return None

    def close(self):
        """Close the viewer, if there is one."""
        self._env.stop()

    def _info(self):
        return {"direction_deg": self._env.command.direction_deg, "speed": self._env.command.speed}
