"""The environment: loco-mujoco's Unitree A1, told to walk in a direction."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from loco_mujoco.environments import LocoEnv, UnitreeA1, ValidTaskConf
from mushroom_rl.utils.mujoco import MujocoViewer
from numpy.typing import ArrayLike

from qi_ext.demonstrations import Demonstrations, load_demonstrations
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.robot.courses import Course
from qi_ext.tasks.directions import TASKS, task_commands
from qi_ext.tasks.mushroom_parts import IndexedObservationHelper, Viewer, require_known
from qi_ext.tasks.task import Task
from qi_ext.utils.drawing import has_screen
from qi_ext.utils.errors import UserError
from qi_ext.utils.simulation_context import warnings_ignored

# The robot's joints are one island of constraints. Without looking for others, a step takes 4 % less time and gives the same
# numbers. MuJoCo 2.3.7 does not look for any.
_NO_ISLANDS = int(getattr(mujoco.mjtDisableBit, "mjDSBL_ISLAND", 0))


class QuadrupedDirection(UnitreeA1):
    """The Unitree A1, told at each episode start to walk in one direction, at one speed.

    Tasks: `simple` commands +x; `hard` commands one of `n_directions` directions (0, 45, ... 315 degrees for 8), drawn
    uniformly at each episode start. Physics, observation, reward, fall and horizon are those of loco-mujoco's `UnitreeA1`
    (environments/quadrupeds/unitreeA1.py): 100 Hz control in 10 substeps of 1 ms, 1000 steps an episode.

    Action, (12,): torques in [-1, 1] of 34 Nm, FR, FL, RR, RL x hip, thigh, calf; clipped outside.

    Reward: exp(-5 |v_xy - v_command|) of the state before the step; at most 1 a step, 1000 an episode.

    Absorbing: |roll| > 0.2793 rad, |pitch| > 0.192 rad (or `max_pitch`), or trunk height under -0.24 m (relative to 0.43 m). A
    simulation that blows up ends its episode as absorbing at its last finite observation, with one RuntimeWarning an
    environment.

    Observation, (37,), float64: positions without the trunk's x and y, velocities, and the command as cosine and sine of the
    direction and the speed. `qi_ext.robot.a1.observation_table` names each entry and its unit.
    """

    demonstrations: Any  # `Demonstrations`, or None
    obs_helper: Any
    _obs: np.ndarray | None
    _viewer: MujocoViewer | None
    valid_task_confs = ValidTaskConf(tasks=list(TASKS))

    def __init__(
        self,
        task: str | Task = "simple",
        n_directions: int = 8,
        speed: float = 0.5,
        speeds: Sequence[float] = (),
        courses: Iterable[str | Course] | None = None,
        stops: float | None = None,
        demonstrations: str | Path | Demonstrations | None = "trot",
        fit: bool = False,
        max_pitch: float = a1.MAX_PITCH,
        seed: int | np.random.SeedSequence | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the environment.

        task: `simple`, `hard`, or a `Task`. n_directions: of `hard`. speed: commanded, m/s, on both.
        speeds: of `hard`, m/s, of which each episode draws one, in place of `speed`. The embedded set has none but 0.5, so that
        `demonstrations` of these speeds are to be named, such as `make_demonstrations.py` records.
        courses: of `follow`, beside the drawn one, names, `Course`s or paths of YAML files; None for all that have names.
        stops: of `follow`, share of drawn targets that stop, 0 to 1; None is 1/8. A `Task` has its own.
        demonstrations: where episodes start, as `load_demonstrations` takes it: a name, a path, or `Demonstrations`.
        fit: mend them first, as `load_demonstrations` does.
        max_pitch: rad, in place of loco-mujoco's limit of a fall, for gaits that pitch more; a `Task` has its own.
        seed: of this environment's own generator; None takes it from the operating system.
        kwargs: of loco-mujoco's `LocoEnv`, such as `horizon`, `use_foot_forces`, `headless`. With
        `domain_randomization_config`, loco-mujoco itself draws the models, from numpy's global generator.
        Raises TypeError for an unknown keyword, ValueError for an unknown task, for keywords that are not for the task, and for
        values out of range, UserError for demonstrations that cannot be used.
        """
        # Upstream hands on what it does not know to a viewer that may never be made.
        require_known(kwargs, QuadrupedDirection, UnitreeA1, LocoEnv, MujocoViewer)
        commands = task.commands if isinstance(task, Task) else task_commands(task, n_directions, speed, speeds, courses)
        if stops is not None and task != "follow":
            raise ValueError("stops: only the task that is named follow takes it")
        max_pitch = task.max_pitch if isinstance(task, Task) else max_pitch
        self.demonstrations = load_demonstrations(demonstrations, commands, fit=fit, max_pitch=max_pitch)
        of_task = {} if stops is None else {"stops": stops}
        self.task = task if isinstance(task, Task) else TASKS[task](task, commands, self.demonstrations, **of_task)
        self.task.max_pitch = max_pitch
        self._rewarded_by_task = kwargs.setdefault("reward_type", "velocity_vector") == "velocity_vector"
        super().__init__(random_start=False, **kwargs)
        for model in self._models:
            model.opt.disableflags |= _NO_ISLANDS
        self.obs_helpers = [
            IndexedObservationHelper(self.obs_helper.observation_spec, model, data)
            for model, data in zip(self._models, self._datas, strict=True)
        ]
        self.obs_helper = self.obs_helpers[0]
        self._next_command: Command | Course | None = None
        self._described: Any = (None, None)  # a command's array, and the `Command` that it stands for
        self._blow_up_warned = False
        self._set_command(self.task.tell(self.commands[0])[0])
        self.seed(seed)

    @staticmethod
    def generate(task: str | Task = "simple", data_type: None = None, **kwargs: Any) -> "QuadrupedDirection":
        """Build the environment for `LocoEnv.make("QuadrupedDirection.simple", ...)`. Raises ValueError for a data type."""
        if data_type is not None:
            raise ValueError(
                f"QuadrupedDirection has no data type {data_type!r}; pass demonstrations= trot, loco-mujoco, minari:ID or path"
            )
        return QuadrupedDirection(task, **kwargs)

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled MuJoCo model."""
        return self._model

    @property
    def data(self) -> mujoco.MjData:
        """The simulation's state; derived quantities are those of the last substep's beginning."""
        return self._data

    @property
    def commands(self) -> tuple[Command | Course, ...]:
        """The `Command`s or `Course`s of the task, a tuple."""
        return self.task.commands

    @property
    def command(self) -> Command:
        """The present `Command`."""
        array, described = self._described
        if array is not self.command_array:  # one that changes is a new array; describing it anew at each step would cost
            array, described = self._described = self.command_array, self.task.describe(self.command_array)
        return described

    def seed(self, seed: int | np.random.SeedSequence | None) -> None:
        """Restart this environment's own generator from an int or a `numpy.random.SeedSequence`."""
        self._generator = np.random.default_rng(seed)

    def reset(self, obs: np.ndarray | None = None, command: Command | Course | float | None = None) -> np.ndarray:
        """Start an episode; return the first observation, (37,).

        obs: an observation to start from, (37,) or more, its goal features giving the command; else a demonstrated state.
        command: a `Command`, one of the task's courses, or degrees at the task's speed; else drawn.
        Raises ValueError when both are given, or one is not usable.
        """
        if command is not None and obs is not None:
            raise ValueError("reset: give an observation (it holds the command) or a command, not both")
        if command is not None and not isinstance(command, Command | Course):
            command = Command(command, self.task.speed)
        self._next_command = command
        return super().reset(obs)

    def setup(self, obs: np.ndarray | None) -> None:
        """Set the initial state, as upstream's `reset` asks; yaw is the demonstration's, x = y = 0."""
        self._reward_function.reset_state()
        if obs is not None:
            self._init_sim_from_obs(obs)
            return
        told = () if self._next_command is None else self.task.tell(self._next_command)
        command, state = self.task.start(self._generator, *told)
        self._set_command(command)
        self._set_joints(*np.split(state, 2))

    def step(self, action: ArrayLike) -> tuple[np.ndarray, float, bool, dict]:
        """Apply torques for 10 ms; return observation (37,), reward, absorbing, info.

        Raises ValueError where `action` is not 12 finite numbers; the state is then as before.
        """
        previous = self._obs
        if previous is None:
            raise ValueError("step: call reset first")
        # Upstream's handler raises inside MuJoCo, which aborts the process with MuJoCo 4.0.
        with warnings_ignored():
            result = super().step(action)
        if not np.any(self._data.warning.number):
            return result
        if not self._blow_up_warned:
            self._blow_up_warned = True
            warnings.warn(
                "the simulation blew up; its episode ends as absorbing at the last finite observation (said once)",
                RuntimeWarning,
                stacklevel=2,
            )
        self._obs = previous
        return self._modify_observation(previous), self.reward(previous, action, previous, True), True, {}

    def render(self, record: bool = False) -> np.ndarray | None:
        """Draw the scene, the arrow showing the command, in a window, or without one where `headless` was given.

        record: return the picture, uint8 (height, width, 3); without a screen it is drawn as with `headless`.
        Raises UserError where there is no screen for a window, or nothing draws without one.
        """
        # Positions only: mj_forward would overwrite the solver's warm start, and with it the next step.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self.show_command()
        if self._viewer is None:
            headless = self._viewer_params.get("headless", False)
            if not headless and not has_screen():
                if not record:
                    raise UserError(
                        "render: a window needs a screen, and none can be opened here; build the environment with headless=True"
                    )
                headless = True
            self._viewer = Viewer(self._model, self.dt, record=record, **self._viewer_params | {"headless": headless})
        return super().render(record)

    def show_command(self) -> None:
        """Turn the arrow, which is for pictures only, to the command."""
        command = self.command
        self._goal.set_goal(command.direction + command.heading + np.pi / 2, command.speed)
        super()._set_goal_arrow()

    def create_dataset(self, ignore_keys: None = None) -> dict[str, np.ndarray]:
        """Return the demonstrations' transitions in the form of upstream's `create_dataset`.

        A dict of states and next_states (n, 37), absorbing and last (n,), and actions (n, 12) where there are any.
        """
        if ignore_keys:
            raise ValueError("create_dataset: the observation's entries are fixed; ignore_keys must be None")
        if self.demonstrations is None:
            raise ValueError("create_dataset: the environment was built without demonstrations")
        return self.demonstrations.dataset()

    def _set_command(self, command: np.ndarray) -> None:
        """Set the command of an episode, (k,), as the task encodes it."""
        self.command_array, self._steps = command, 0

    def _set_joints(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Set positions and velocities, (18,) each, of `a1.JOINTS`."""
        self._data.qpos[self.obs_helper.addresses.qpos] = positions
        self._data.qvel[self.obs_helper.addresses.qvel] = velocities

    def _simulation_post_step(self) -> None:
        super()._simulation_post_step()
        self._steps += 1
        self.command_array = self.task.advance(self.command_array, self._steps, self._generator)

    def _init_sim_from_obs(self, obs: np.ndarray) -> None:
        obs = np.asarray(obs, dtype=np.float64)
        if obs.ndim != 1 or len(obs) < a1.N_OBSERVATIONS or not np.all(np.isfinite(obs)):
            raise ValueError(f"reset: an observation to start from is 37 finite numbers, not an array of shape {obs.shape}")
        cosine, sine, speed = obs[a1.GOAL]
        command, _ = self.task.tell(Command(np.degrees(np.arctan2(sine, cosine)), speed))
        if np.allclose(command[:3], obs[a1.GOAL], rtol=0.0, atol=1e-12):
            command[:3] = obs[a1.GOAL]  # to the last bit, which the angle does not keep on every processor
        self._set_command(command)
        self._set_joints(np.concatenate([[0.0, 0.0], obs[a1.POSITION]]), obs[a1.VELOCITY])

    def reward(self, state: np.ndarray, action: ArrayLike, next_state: np.ndarray, absorbing: bool) -> float:
        """Return the reward of a step: the task's own, or loco-mujoco's where another `reward_type` was given."""
        if self._rewarded_by_task:
            return float(self.task.reward(state[None], np.asarray(action)[None], next_state[None])[0])
        return super().reward(state, action, next_state, absorbing)

    def _preprocess_action(self, action: ArrayLike) -> np.ndarray:
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (a1.N_ACTIONS,):
            raise ValueError(f"step: action must have shape ({a1.N_ACTIONS},), not {action.shape}")
        if not np.all(np.isfinite(action)):
            raise ValueError(f"step: action must be finite, but entry {np.argmin(np.isfinite(action))} is not: {action}")
        return super()._preprocess_action(action)

    def _create_observation(self, obs: np.ndarray) -> np.ndarray:
        observation = np.empty(self.task.observation_size)
        self.task.observe(obs[:18], obs[18:36], self.command_array, observation)
        return np.concatenate([observation, self.mean_grf.mean / 1000.0]) if self._use_foot_forces else observation

    def _modify_observation(self, obs: np.ndarray) -> np.ndarray:
        return obs.copy()

    def _set_goal_arrow(self) -> None:
        """The arrow is for rendering only, so it is not turned at each step."""

    def _has_fallen(self, obs: np.ndarray, return_err_msg: bool = False) -> Any:
        fallen = bool(self.task.has_fallen(obs[: self.task.observation_size][None])[0])
        if not return_err_msg:
            return fallen
        roll, pitch, height = obs[a1.ROLL], obs[a1.PITCH], obs[a1.TRUNK_Z]
        return fallen, f"roll {roll:.3f} rad, pitch {pitch:.3f} rad, height {height:.3f} m\n" if fallen else ""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("an environment holds a live simulation and cannot be copied or pickled; build another instead")


QuadrupedDirection.register()
