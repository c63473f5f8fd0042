"""Adversarial imitation on TRPO, behind mushroom-rl's Agent interface. Importing this package alone does not import torch."""

import importlib

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


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
