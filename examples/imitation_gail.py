"""Our demonstrations handed to `imitation`'s GAIL: python examples/imitation_gail.py --steps 1000000"""

import argparse
from contextlib import closing

import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Transitions
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from qi_ext.demonstrations import load_demonstrations
from qi_ext.sampling.sb3_vec_env import SB3VecEnv
from qi_ext.tasks.directions import task_commands


def transitions(task):
    """Return the task's demonstrations as `imitation`'s `Transitions`."""
    dataset = load_demonstrations("trot", task_commands(task)).dataset()
    return Transitions(
        obs=dataset["states"],
        acts=dataset["actions"].astype(np.float64),
        infos=np.array([{}] * len(dataset["states"])),
        next_obs=dataset["next_states"],
        dones=dataset["absorbing"].astype(bool),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="env steps, of all envs together [1000000]")
    parser.add_argument("--envs", type=int, default=32, help="[32]")
    parser.add_argument("--task", default="simple", help="simple or hard [simple]")
    parser.add_argument("--n_steps", type=int, default=128, help="steps of each env between updates [128]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more do not help networks this small, and get in the way of those that step the envs
    with closing(VecMonitor(SB3VecEnv(options.envs, task=options.task))) as envs:
        envs.seed(options.seed)
        settings = {"learning_rate": 1e-4, "gamma": 0.97, "policy_kwargs": {"log_std_init": -1.2}}
        learner = PPO("MlpPolicy", envs, n_steps=options.n_steps, batch_size=512, seed=options.seed, device="cpu", **settings)
        # Episodes end where a robot falls, which tells the discriminator something about length.
        trainer = GAIL(
            demonstrations=transitions(options.task),
            demo_batch_size=min(1024, options.envs * options.n_steps),
            venv=envs,
            gen_algo=learner,
            reward_net=BasicRewardNet(envs.observation_space, envs.action_space, normalize_input_layer=RunningNorm),
            allow_variable_horizon=True,
        )
        trainer.train(options.steps)
        learner.save("imitation_gail")


if __name__ == "__main__":
    main()
