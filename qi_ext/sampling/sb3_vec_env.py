"""The vector environment behind Stable-Baselines3's interface. Needs stable-baselines3 (`pip install stable-baselines3`)."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from qi_ext.sampling.vector_env import COMMAND


class SB3VecEnv(VecEnv):
    """Gymnasium's vector environment as Stable-Baselines3's `VecEnv`: `PPO("MlpPolicy", SB3VecEnv(32, task="hard"))`.

    Infos: a dict for each env, of the vector environment's; at an episode's end also `terminal_observation`, its last, and
    `TimeLimit.truncated`, True where it did not fall. Episode statistics come with SB3's `VecMonitor` around it.
    """

    def __init__(self, num_envs: int = 1, **settings: Any) -> None:
        """settings: of `gymnasium.make_vec("qi_ext.tasks:QuadrupedDirection-v0", ...)`, but for `autoreset_mode`."""
        name = "qi_ext.tasks:QuadrupedDirection-v0"
        self.envs = gymnasium.make_vec(name, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
        self._actions: Any = None
        super().__init__(num_envs, self.envs.single_observation_space, self.envs.single_action_space)

    def reset(self) -> np.ndarray:
        """Start an episode in each env; returns observations, float64 (N, 37)."""
        names = {name for options in self._options for name in options}
        options = {name: [options[name] for options in self._options] for name in names}
        observations, infos = self.envs.reset(seed=self._seeds, options=options)
        self.reset_infos = [self._info(infos, env) for env in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Take actions, (N, 12), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict]]:
        """Step each env; returns observations, rewards, dones and a list of infos."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self._actions)
        dones = terminated | truncated
        told = [self._info(infos, env) for env in range(self.num_envs)]
        for env in np.flatnonzero(dones).tolist():
            told[env] = self._info(infos["final_info"], env) | {
                "terminal_observation": infos["final_obs"][env],
                "TimeLimit.truncated": bool(truncated[env] and not terminated[env]),
            }
        return observations, rewards.astype(np.float32), dones, told

    def close(self) -> None:
        """End the threads."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list:
        """An attribute of the vector environment, once for each env asked for."""
        return [getattr(self.envs.unwrapped, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Raise AttributeError."""
        raise AttributeError("set_attr: the envs are stepped together and have no attributes each; give SB3VecEnv the setting")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list:
        """Raise AttributeError."""
        raise AttributeError(
            "env_method: the envs are stepped together and have no methods each; "
            "use those of SB3VecEnv, such as set_options, or SB3's make_vec_env"
        )

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False for each env asked for."""
        return [False] * len(list(self._get_indices(indices)))

    @staticmethod
    def _info(infos: dict[str, Any], env: int) -> dict[str, Any]:
        return {name: float(infos[name][env]) for name in COMMAND}
