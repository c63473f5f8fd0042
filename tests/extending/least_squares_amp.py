"""Adversarial motion priors as `--algorithm amp`: a least-squares discriminator with a gradient penalty.

Source: Peng et al. 2021, eq. 6 - 8 (arXiv 2104.02180).
"""

from qi_ext.learning import Discriminator, Loss
from qi_ext.training.algorithms import ALGORITHMS, Algorithm
from qi_ext.utils.settings import Number, Settings, option


class AMP(Discriminator):
    """Scores of 1 for the expert and -1 for the policy, by least squares."""

    def __init__(self, *arguments, reward_scale, **settings):
        """reward_scale: the largest reward of a step."""
        super().__init__(*arguments, **settings)
        self.reward_scale = reward_scale

    def loss(self, policy_inputs, expert_inputs, noise):
        policy, expert = map(self.logits_expert_is_high, (policy_inputs, expert_inputs))
        value = 0.5 * ((policy + 1.0) ** 2).mean() + 0.5 * ((expert - 1.0) ** 2).mean()
        return Loss(value, policy, expert)

    def reward(self, inputs):
        score = self.logits_expert_is_high(inputs)
        return self.reward_scale * (1.0 - 0.25 * (score - 1.0) ** 2).clamp_min(0.0)


class AmpSettings(Settings):
    """Least-squares discriminator."""

    reward_scale: Number = option(1.0, "largest reward of a step", 0.0, 1e3)


ALGORITHMS["amp"] = Algorithm(AMP, AmpSettings, "with a least-squares discriminator")
