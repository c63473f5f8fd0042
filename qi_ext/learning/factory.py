"""Learners from a config: the only file of this room that knows one."""

from dataclasses import dataclass

import numpy as np

from qi_ext.learning.adversarial import AdversarialLearner
from qi_ext.learning.cloning import clone
from qi_ext.learning.critic import Critic
from qi_ext.learning.discriminators import GAIL, VAIL
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.transitions import INPUTS, expert_transitions
from qi_ext.learning.trpo import TRPO
from qi_ext.utils.errors import UserError


@dataclass(frozen=True)
class Algorithm:
    """A subclass of `Discriminator`, and the config's settings that it takes, by their names, beside those of all."""

    discriminator: type
    settings: tuple[str, ...] = ()


# By the name that `--algorithm` has.
ALGORITHMS = {
    "gail": Algorithm(GAIL),
    "vail": Algorithm(VAIL, ("information_constraint", "code_size", "initial_beta", "beta_learning_rate")),
}


def make_learner(config, mdp_info, demonstrations, seed, device="cpu"):
    """Return the learner of a config: an `AdversarialLearner`, or imitation-lib's agent with the same phases.

    demonstrations: `Demonstrations`. seed: a `numpy.random.SeedSequence`. device: torch's, to learn on.

    The backend imitation_lib patches imitation-lib and mushroom-rl in this process. Raises UserError where imitation-lib is not
    installed, or is not the one that the patches are for, and where the discriminator is to see actions and there are none.
    """
    builder = {"native": _native, "imitation_lib": _published}[config.backend]
    return builder(config, mdp_info, demonstrations, seed, device)


def check_backend(config):
    """Raise UserError where the config's backend cannot be had."""
    if config.backend == "native":
        return
    from patches.imitation_lib.library import COMMIT, found_commit

    found = found_commit()
    if found != COMMIT:
        what = "is not installed" if found is None else f"is {found}, and the patches are for {COMMIT}"
        raise UserError(
            f"--backend: imitation-lib {what}; install it: python -m pip install --no-deps -r requirements-upstream.txt"
        )


def warm_start(config, policy, demonstrations, epochs, seed, progress=lambda epoch, loss: None):
    """Clone the demonstrations' actions for so many epochs with the config's settings; see `cloning.clone`."""
    return clone(
        policy,
        demonstrations,
        epochs,
        seed,
        std=config.warm_start_std,
        learning_rate=config.warm_start_learning_rate,
        nominal_weight=config.warm_start_nominal_weight,
        batch_size=config.warm_start_batch_size,
        progress=progress,
    )


def _native(config, mdp_info, demonstrations, seed, device):
    policy_seed, trpo_seed, discriminator_seed = seed.spawn(3)
    critic_seed, draws = trpo_seed.spawn(2)
    generator = np.random.default_rng(draws)
    policy = GaussianPolicy(
        mdp_info.observation_space.shape[0],
        mdp_info.action_space.shape[0],
        config.policy_hidden,
        config.initial_std,
        policy_seed,
        device,
        config.symmetry,
    )
    expert = expert_transitions(demonstrations, config.symmetry, device)
    # The statistics begin as the expert's; the policy's batches then add its own.
    policy.normalizer.update(expert.observations)
    policy.sync()
    policy_optimizer = TRPO(
        policy,
        generator,
        max_kl=config.max_kl,
        final_max_kl=config.final_max_kl,
        initial_std=config.warm_start_std if config.warm_start else config.initial_std,
        min_std=config.min_std,
        entropy_coefficient=config.entropy_coefficient,
        cg_iterations=config.cg_iterations,
        cg_damping=config.cg_damping,
        cg_fraction=config.cg_fraction,
        line_search_steps=config.line_search_steps,
    )
    critic = Critic(
        policy.normalizer,
        critic_seed,
        generator,
        hidden=config.critic_hidden,
        learning_rate=config.critic_learning_rate,
        epochs=config.critic_epochs,
        batch_size=config.critic_batch_size,
    )
    algorithm = ALGORITHMS[config.algorithm]
    discriminator = algorithm.discriminator(
        expert,
        discriminator_seed,
        generator,
        features=INPUTS[config.discriminator_input],
        hidden=config.discriminator_hidden,
        learning_rate=config.discriminator_learning_rate,
        updates=config.discriminator_updates,
        batch_size=config.discriminator_batch_size,
        gradient_penalty=config.gradient_penalty,
        **{name: getattr(config, name) for name in algorithm.settings},
    )
    return AdversarialLearner(
        mdp_info,
        policy,
        policy_optimizer,
        critic,
        discriminator,
        generator,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        std_half_life=config.std_half_life,
        final_std=config.final_std,
        reward=config.reward,
        metadata=_metadata(config),
    )


def _published(config, mdp_info, demonstrations, seed, device):
    check_backend(config)
    import patches

    patches.apply("mushroom_rl", "imitation_lib")
    from qi_ext.learning.imitation_lib.agent import PublishedAgent
    from qi_ext.learning.imitation_lib.construction import GAIL_SETTINGS, VAIL_SETTINGS

    names = GAIL_SETTINGS + (VAIL_SETTINGS if config.algorithm == "vail" else ())
    settings = {name: getattr(config, name) for name in names}
    return PublishedAgent(mdp_info, demonstrations, config.algorithm, seed, device, metadata=_metadata(config), **settings)


def _metadata(config):
    return {"task": config.task, "algorithm": config.algorithm}
