"""Stable-Baselines3's view of the vector environment."""

from contextlib import closing

import numpy as np
import pytest

from qi_ext.sampling.vector_env import QuadrupedDirectionVectorEnv

stable_baselines3 = pytest.importorskip("stable_baselines3", reason="pip install stable-baselines3")


def test_envs_and_ends_are_told_as_stable_baselines3_asks():
    from qi_ext.sampling.sb3_vec_env import SB3VecEnv

    settings = {"task": "hard", "n_workers": 1, "max_episode_steps": 10}
    random = np.random.default_rng(0)
    with closing(SB3VecEnv(4, **settings)) as envs, closing(QuadrupedDirectionVectorEnv(4, **settings)) as plain:
        envs.seed(3)
        np.testing.assert_array_equal(envs.reset(), plain.reset(seed=3)[0])
        running, kinds = np.ones(4, dtype=bool), set()
        for _ in range(10):
            actions = random.uniform(-1.0, 1.0, (4, 12))
            _, rewards, dones, infos = envs.step(actions)
            observations, expected, terminated, truncated, _ = plain.step(actions)
            np.testing.assert_array_equal(rewards[running], expected.astype(np.float32)[running])
            for env in np.flatnonzero(dones & running):
                np.testing.assert_array_equal(infos[env]["terminal_observation"], observations[env])
                assert infos[env]["TimeLimit.truncated"] == (truncated[env] and not terminated[env])
                kinds.add(infos[env]["TimeLimit.truncated"])
            running &= ~dones  # the plain environment spends a step on each reset
        assert kinds == {True, False}


def test_options_command_a_direction():
    from qi_ext.sampling.sb3_vec_env import SB3VecEnv

    with closing(SB3VecEnv(2, task="hard", n_workers=1)) as envs:
        envs.set_options({"direction_deg": 90.0})
        envs.reset()
        assert [info["direction_deg"] for info in envs.reset_infos] == [90.0, 90.0]


@pytest.mark.extensive
def test_ppo_learns_on_it():
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    from qi_ext.sampling.sb3_vec_env import SB3VecEnv

    with closing(VecMonitor(SB3VecEnv(4, n_workers=2))) as envs:
        model = PPO("MlpPolicy", envs, n_steps=16, batch_size=32, n_epochs=1, device="cpu").learn(128)
    assert model.num_timesteps == 128 and len(model.ep_info_buffer)
