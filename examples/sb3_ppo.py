"""Stable-Baselines3's PPO on the vector environment: python examples/sb3_ppo.py --steps 2000000"""

import argparse
from contextlib import closing

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from qi_ext.sampling.sb3_vec_env import SB3VecEnv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000_000, help="env steps, of all envs together [2000000]")
    parser.add_argument("--envs", type=int, default=32, help="[32]")
    parser.add_argument("--task", default="hard", help="simple or hard [hard]")
    parser.add_argument("--n_steps", type=int, default=128, help="steps of each env between updates [128]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more do not help networks this small, and get in the way of those that step the envs
    with closing(VecMonitor(SB3VecEnv(options.envs, task=options.task))) as envs:
        envs.seed(options.seed)
        # Small steps and little noise, because a robot that shakes falls at once.
        settings = {"learning_rate": 1e-4, "gamma": 0.98, "policy_kwargs": {"log_std_init": -1.5}}
        model = PPO(
            "MlpPolicy", envs, n_steps=options.n_steps, batch_size=512, seed=options.seed, device="cpu", verbose=1, **settings
        )
        model.learn(options.steps)
        model.save("sb3_ppo")


if __name__ == "__main__":
    main()
