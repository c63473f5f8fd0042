"""Adversarial imitation on TRPO, behind mushroom-rl's Agent interface. Importing this package alone does not import torch."""

from qi_ext.utils.references import lazy_attributes

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
