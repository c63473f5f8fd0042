"""Patches of loco-mujoco's Gymnasium wrapper: seeds, ends of episodes, `unwrapped`, `spec`, and pictures."""

from types import SimpleNamespace

from patches.library import crash
from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.synthetic import REAL_SIMPLE, data_sets, quiet, real_set


def _check(environment):
    import warnings

    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return crash(check_env, environment, skip_render_check=True)


def _probe_interface():
    quiet()
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    with data_sets({REAL_SIMPLE: real_set()}):
        return _check(GymnasiumWrapper("UnitreeA1.simple"))


def _probe_horizon():
    quiet()
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    with data_sets({REAL_SIMPLE: real_set()}):
        environment = GymnasiumWrapper("UnitreeA1.simple", horizon=5)
    environment.reset()
    truncated = [environment.step(environment.action_space.sample())[3] for _ in range(5)]
    return "" if truncated == [False, False, False, False, True] else f"with a horizon of 5 steps, truncated was {truncated}"


def _probe_pictures():
    quiet()
    import numpy as np
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    drawn = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # (height, width, 3), as a viewer returns it
    wrapper = GymnasiumWrapper.__new__(GymnasiumWrapper)  # with a viewer's picture in place of a viewer: drawing needs OpenGL
    wrapper.render_mode, wrapper._env = "rgb_array", SimpleNamespace(render=lambda record: drawn)
    picture = wrapper.render()
    return "" if np.array_equal(picture, drawn) else f"a picture of shape {drawn.shape} comes as {picture.shape}"


@LIBRARY.patch(
    "gymnasium-interface",
    target="loco_mujoco.environments.gymnasium:GymnasiumWrapper.reset, unwrapped, spec",
    sees="reset(seed=3) gives another episode each time, env.unwrapped is not a gymnasium.Env and env.spec cannot make the "
    "environment again: check_env and tools that follow Gymnasium's interface fail",
    remedy="seeds reach the environment, unwrapped is the wrapper itself (which still finds the attributes of "
    "loco-mujoco's environment; that itself is unwrapped._env), and the spec makes it again",
    changes_results="reset(seed=s) decides the episodes, as it should",
    probe=_probe_interface,
)
def _install_interface(edits):
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.utils import seeding
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    @edits.wrap(GymnasiumWrapper, "__init__")
    def __init__(original, self, env_name, render_mode=None, **kwargs):
        original(self, env_name, render_mode, **kwargs)
        module = f"{GymnasiumWrapper.__module__}:{GymnasiumWrapper.__qualname__}"
        self.spec = EnvSpec(env_name, entry_point=module, kwargs={"env_name": env_name, "render_mode": render_mode, **kwargs})

    @edits.wrap(GymnasiumWrapper, "reset")
    def reset(original, self, *, seed=None, options=None):
        if seed is not None:
            # Gymnasium's seeds have no upper bound, those of numpy's global generator have.
            self._env.seed(int(seeding.np_random(seed)[0].integers(2**32)))
        return original(self, seed=seed, options=options)

    def __getattr__(self, name):
        if name == "_env" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self._env, name)

    edits.replace(GymnasiumWrapper, "unwrapped", property(lambda self: self))
    edits.replace(GymnasiumWrapper, "__getattr__", __getattr__)


@LIBRARY.patch(
    "gymnasium-horizon",
    target="loco_mujoco.environments.gymnasium:GymnasiumWrapper.step",
    sees="an episode in which the robot does not fall never ends: truncated is always False, whatever the horizon (1000 steps)",
    remedy="truncated is True from the horizon on, which gymnasium.make(..., horizon=...) sets",
    changes_results="episodes end after the horizon, as they do in mushroom-rl; a longer limit needs horizon= as well",
    probe=_probe_horizon,
)
def _install_horizon(edits):
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    @edits.wrap(GymnasiumWrapper, "reset")
    def reset(original, self, **keywords):
        self._steps = 0
        return original(self, **keywords)

    @edits.wrap(GymnasiumWrapper, "step")
    def step(original, self, action):
        observation, reward, terminated, truncated, info = original(self, action)
        self._steps = vars(self).get("_steps", 0) + 1
        return observation, reward, bool(terminated), truncated or self._steps >= self._env.info.horizon, info


@LIBRARY.patch(
    "gymnasium-pictures",
    target="loco_mujoco.environments.gymnasium:GymnasiumWrapper.render",
    sees='with render_mode="rgb_array" pictures lie on their side: (width, height, 3), mirrored at the diagonal',
    remedy="pictures are (height, width, 3), the sky above",
    probe=_probe_pictures,
)
def _install_pictures(edits):
    import numpy as np
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    @edits.wrap(GymnasiumWrapper, "render")
    def render(original, self):
        picture = original(self)
        return None if picture is None else np.ascontiguousarray(np.swapaxes(picture, 0, 1))
