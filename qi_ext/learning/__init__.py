"""Adversarial imitation on TRPO, behind mushroom-rl's Agent interface. Importing this package alone does not import torch."""

from typing import TYPE_CHECKING

from qi_ext.utils.references import lazy_attributes

if TYPE_CHECKING:
    from qi_ext.learning.adversarial import AdversarialLearner as AdversarialLearner
    from qi_ext.learning.critic import Critic as Critic
    from qi_ext.learning.discriminator_inputs import INPUTS as INPUTS
    from qi_ext.learning.discriminators import GAIL as GAIL
    from qi_ext.learning.discriminators import VAIL as VAIL
    from qi_ext.learning.discriminators import Discriminator as Discriminator
    from qi_ext.learning.discriminators import Loss as Loss
    from qi_ext.learning.policy import GaussianPolicy as GaussianPolicy
    from qi_ext.learning.transitions import Transitions as Transitions
    from qi_ext.learning.trpo import TRPO as TRPO

_MODULES = {
    "AdversarialLearner": "adversarial",
    "Critic": "critic",
    "Discriminator": "discriminators",
    "GAIL": "discriminators",
    "GaussianPolicy": "policy",
    "INPUTS": "discriminator_inputs",
    "Loss": "discriminators",
    "TRPO": "trpo",
    "Transitions": "transitions",
    "VAIL": "discriminators",
}
__all__ = list(_MODULES)
__getattr__ = lazy_attributes(__name__, _MODULES)
