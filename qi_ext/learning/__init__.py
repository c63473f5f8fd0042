"""Adversarial imitation on TRPO, behind mushroom-rl's Agent interface.

`make_learner` builds a learner from a config; `ALGORITHMS` and `INPUTS` say which discriminators there are, and what they see.
"""

from qi_ext.learning.adversarial import AdversarialLearner
from qi_ext.learning.critic import Critic
from qi_ext.learning.discriminators import GAIL, VAIL, Discriminator, Loss
from qi_ext.learning.factory import ALGORITHMS, Algorithm, make_learner
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.transitions import INPUTS, Transitions
from qi_ext.learning.trpo import TRPO

__all__ = [
    "ALGORITHMS",
    "GAIL",
    "INPUTS",
    "TRPO",
    "VAIL",
    "AdversarialLearner",
    "Algorithm",
    "Critic",
    "Discriminator",
    "GaussianPolicy",
    "Loss",
    "Transitions",
    "make_learner",
]
