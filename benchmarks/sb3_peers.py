"""Train a learner of imitation, or PPO of Stable-Baselines3, on our environment, and leave its policies as agents of ours.

    PYTHONPATH=. python benchmarks/sb3_peers.py --learner gail --settings tuned --seed 0 --minutes 20 --directory DIR

Needs benchmarks/requirements-peers.txt. About every 15 seconds DIR/agents/NUMBER.safetensors is left, with step and
minutes of training in its metadata, without the start of the program and of the processes.
"""

import argparse
import multiprocessing
import time
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import torch
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.gail import GAIL
from imitation.algorithms.bc import BC
from imitation.policies.base import NormalizeFeaturesExtractor
from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet, NormalizedRewardNet
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor

from examples.imitation_gail import transitions
from qi_ext.agents.acting import Actor, save_agent

TASK = "simple"
TUNED = {
    "batch": 4096,
    "ppo": {},
    "adversarial": {"demo_batch_size": 2048, "n_disc_updates_per_round": 4, "gen_replay_buffer_capacity": 4096},
}
EVERY = 15.0  # s between agents

# library: those that imitation was tuned to on seals/HalfCheetah-v1 (imitation/scripts/config/tuned_hps), 8 envs as its scripts
# have. tuned: the values of our own learner, where theirs have them.
SETTINGS = {
    "library": {
        "n_envs": 8,
        "hidden": (32, 32),
        "log_std_init": 0.0,
        "ppo": {"batch_size": 64, "clip_range": 0.1, "n_epochs": 5, "gamma": 0.95, "max_grad_norm": 0.8, "vf_coef": 0.115},
        "gail": {
            "batch": 4096,
            "ppo": {"learning_rate": 2.625e-4, "ent_coef": 4e-6},
            "adversarial": {"demo_batch_size": 8192, "n_disc_updates_per_round": 8, "gen_replay_buffer_capacity": 512},
        },
        "airl": {
            "batch": 8192,
            "ppo": {"learning_rate": 4.725e-4, "ent_coef": 5.54e-4},
            "adversarial": {"demo_batch_size": 2048, "n_disc_updates_per_round": 16, "gen_replay_buffer_capacity": 512},
        },
    },
    "tuned": {
        "n_envs": 32,
        "hidden": (512, 256),
        "log_std_init": -1.2,
        "ppo": {"batch_size": 512, "n_epochs": 10, "gamma": 0.97, "learning_rate": 1e-4},
        "gail": TUNED,
        "airl": TUNED,
    },
}


class Snapshots:
    """Agents that a learner leaves in `directory`, and the clock that ends it. about: {name: text} for their metadata."""

    def __init__(self, policy, directory, minutes, about):
        self._policy, self._directory, self._about = policy, Path(directory), about
        self._begin = time.monotonic()
        self._end, self._next, self._taken = self._begin + 60.0 * minutes, self._begin, 0
        self._directory.mkdir(parents=True)

    def take(self, step):
        """Leave the agent where it is time, or the last one; raise TimeIsUp then."""
        now = time.monotonic()
        if now < min(self._next, self._end):
            return
        self._next = now + EVERY
        metadata = self._about | {"step": str(step), "minutes": repr((now - self._begin) / 60.0)}
        save_agent(self._directory / f"{self._taken:04d}.safetensors", actor_of(self._policy), metadata)
        self._taken += 1
        if now >= self._end:
            raise TimeIsUp


class TimeIsUp(Exception):
    """The minutes are over, and the last agent is left."""


class TakeSnapshots(BaseCallback):
    """The `Snapshots` of PPO by itself: after each of its updates."""

    def __init__(self, snapshots):
        super().__init__()
        self._snapshots = snapshots

    def _on_rollout_start(self):
        self._snapshots.take(self.num_timesteps)

    def _on_step(self):
        return True


def actor_of(policy):
    """Return the `Actor` that acts as an MLP policy of Stable-Baselines3 behind a `RunningNorm` of observations."""

    def array(tensor):
        return tensor.detach().cpu().numpy().astype(np.float32)

    normalizer = policy.features_extractor.normalize
    linears = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    layers = [(array(layer.weight), array(layer.bias)) for layer in (*linears, policy.action_net)]
    inverse_std = 1.0 / torch.sqrt(normalizer.running_var + normalizer.eps)
    return Actor(layers, array(normalizer.running_mean), array(inverse_std), array(policy.log_std), activation="tanh")


def make_env():
    """Return one environment, with the task's time limit; called in a process of each env."""
    return gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", task=TASK, disable_env_checker=True)


def make_ppo(envs, settings, batch, seed, **more):
    """Return PPO that gathers `batch` steps an update. settings: of `SETTINGS`. more: keywords of PPO."""
    policy = {
        "net_arch": list(settings["hidden"]),
        "log_std_init": settings["log_std_init"],
        "features_extractor_class": NormalizeFeaturesExtractor,
        "features_extractor_kwargs": {"normalize_class": RunningNorm},
    }
    keywords = settings["ppo"] | more
    return PPO("MlpPolicy", envs, n_steps=batch // envs.num_envs, seed=seed, device="cpu", policy_kwargs=policy, **keywords)


def train_adversarially(learner, envs, settings, options, snapshots):
    """Train imitation's GAIL or AIRL until the time is up. snapshots: makes the `Snapshots` of a policy."""
    own = settings[learner]
    ppo = make_ppo(envs, settings, own["batch"], options.seed, **own["ppo"])
    network = BasicShapedRewardNet if learner == "airl" else BasicRewardNet
    sees = {"use_state": True, "use_action": not options.states_only, "use_next_state": options.states_only}
    reward = network(envs.observation_space, envs.action_space, normalize_input_layer=RunningNorm, **sees)
    trainer = (AIRL if learner == "airl" else GAIL)(
        demonstrations=transitions(TASK),
        venv=envs,
        gen_algo=ppo,
        reward_net=NormalizedRewardNet(reward, RunningNorm),
        allow_variable_horizon=True,  # episodes end where the robot falls
        **own["adversarial"],
    )
    taken = snapshots(ppo.policy)
    taken.take(0)
    trainer.train(10**9, callback=lambda round: taken.take(ppo.num_timesteps))


def clone(envs, settings, options, snapshots):
    """Clone the demonstrations by imitation's BC, an epoch after the other until the time is up."""
    policy = make_ppo(envs, settings, 4096, options.seed).policy
    cloning = BC(
        observation_space=envs.observation_space,
        action_space=envs.action_space,
        rng=np.random.default_rng(options.seed),
        policy=policy,
        demonstrations=transitions(TASK),
        device="cpu",
    )
    taken = snapshots(policy)
    cloning.train(n_epochs=10**6, on_epoch_end=lambda: taken.take(0))


def main():
    """Parse the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", choices=("gail", "airl", "bc", "ppo"), required=True)
    parser.add_argument("--settings", choices=tuple(SETTINGS), default="tuned")
    parser.add_argument("--states_only", action="store_true", help="the discriminator sees states and next states, no actions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--directory", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)  # more do not help networks this small, and get in the way of the processes that step the envs
    settings = SETTINGS[options.settings]
    about = {"task": TASK, "algorithm": options.learner, "seed": str(options.seed), "demonstrations": "trot"}

    def snapshots(policy):
        return Snapshots(policy, Path(options.directory, "agents"), options.minutes, about)

    # Imported once, and not by each of the envs' processes.
    multiprocessing.set_forkserver_preload(["__main__", "qi_ext.tasks.gymnasium_env", "qi_ext.demonstrations.trot"])
    with closing(VecMonitor(SubprocVecEnv([make_env] * settings["n_envs"], start_method="forkserver"))) as envs:
        envs.seed(options.seed)
        try:
            if options.learner == "bc":
                clone(envs, settings, options, snapshots)
            elif options.learner == "ppo":
                ppo = make_ppo(envs, settings, 4096, options.seed)
                ppo.learn(10**9, callback=TakeSnapshots(snapshots(ppo.policy)))
            else:
                train_adversarially(options.learner, envs, settings, options, snapshots)
        except TimeIsUp:
            pass


if __name__ == "__main__":
    main()
