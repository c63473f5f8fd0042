"""mushroom-rl's own TRPO, doing what our learner does: the same sizes and settings, on the reward of our discriminator."""

import copy

import torch
from mushroom_rl.algorithms.actor_critic import TRPO
from mushroom_rl.policy import GaussianTorchPolicy
from mushroom_rl.utils.dataset import parse_dataset
from torch import nn

from qi_ext.learning.batch import Batch


class Network(nn.Module):
    """One of our networks behind its normalizer as it is, as mushroom-rl's approximator wants it built."""

    def __init__(self, input_shape, output_shape, normalizer, layers, **_):
        super().__init__()
        self.register_buffer("mean", normalizer.mean.float())
        self.register_buffer("inverse_std", normalizer.inverse_std.float())
        self.layers = copy.deepcopy(layers)

    def forward(self, state):
        return self.layers((state - self.mean) * self.inverse_std)


class StockImitation(TRPO):
    """`TRPO.fit` between the reward and the fit of a discriminator, both of `ours`, a learner that learns nothing else."""

    def __init__(self, ours):
        info, normalizer, trpo, critic = ours.mdp_info, ours.policy.normalizer, ours.policy_optimizer, ours.critic
        self.ours = ours
        shapes = {"input_shape": info.observation_space.shape, "normalizer": normalizer}
        policy = GaussianTorchPolicy(
            Network,
            output_shape=info.action_space.shape,
            std_0=float(ours.policy.actor.std[0]),
            layers=ours.policy.network,
            **shapes,
        )
        critic_params = {
            "network": Network,
            "optimizer": {"class": torch.optim.Adam, "params": {"lr": critic.optimizer.defaults["lr"]}},
            "loss": nn.functional.mse_loss,
            "batch_size": critic.batch_size,
            "output_shape": (1,),
            "layers": critic.network,
            **shapes,
        }
        super().__init__(
            info,
            policy,
            critic_params,
            max_kl=trpo.max_kl,
            lam=ours.gae_lambda,
            n_epochs_line_search=trpo.line_search_steps,
            n_epochs_cg=trpo.cg_iterations,
            cg_damping=trpo.cg_damping,
            critic_fit_params={"n_epochs": critic.epochs},
        )

    def fit(self, dataset, **info):
        batch = Batch.upload(*parse_dataset(dataset), device="cpu")
        rewards = self.ours.rewards(batch).tolist()
        super().fit([(*row[:2], reward, *row[3:]) for row, reward in zip(dataset, rewards, strict=True)])
        self.ours.fit_discriminator(batch)
