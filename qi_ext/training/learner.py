"""The learner that a config asks for."""

import numpy as np
import torch

from qi_ext.learning.adversarial import AdversarialLearner
from qi_ext.learning.cloning import clone
from qi_ext.learning.critic import Critic
from qi_ext.learning.discriminator_inputs import INPUTS
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.learning.transitions import expert_transitions
from qi_ext.learning.trpo import TRPO
from qi_ext.training.algorithms import ALGORITHMS
from qi_ext.utils.errors import UserError
from qi_ext.utils.references import load


def make_learner(config, mdp_info, demonstrations, seed, device="cpu"):
    """Return the learner of a `Config`: an `AdversarialLearner`, or imitation-lib's agent with the same phases.

    demonstrations: `Demonstrations`. seed: a `numpy.random.SeedSequence`. device: torch's, to learn on.

    The backend imitation_lib patches imitation-lib and mushroom-rl in this process. Raises UserError where imitation-lib is not
    installed, or is not the one that the patches are for, and where the discriminator is to see actions and there are none.
    """
    builder = {"native": _native, "imitation_lib": _published}[config.run.backend]
    return builder(config, mdp_info, demonstrations, seed, device)


def require_backend(config):
    """Raise UserError where the config's backend cannot be had."""
    if config.run.backend == "native":
        return
    from patches.imitation_lib.library import COMMIT, REPOSITORY, found_commit

    found = found_commit()
    if found != COMMIT:
        what = "is not installed" if found is None else f"is {found}, and the patches are for {COMMIT}"
        raise UserError(f"--backend: imitation-lib {what}; pip install --no-deps git+{REPOSITORY}@{COMMIT} installs it")


def warm_start(config, policy, demonstrations, seed, progress=lambda epoch, loss: None):
    """Clone the demonstrations' actions with the config's settings; see `cloning.clone`."""
    settings = config.warm_start
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.warm_start_threads)
    try:
        return clone(
            policy,
            demonstrations,
            settings.warm_start,
            seed,
            std=settings.warm_start_std,
            learning_rate=settings.warm_start_learning_rate,
            nominal_weight=settings.warm_start_nominal_weight,
            batch_size=settings.warm_start_batch_size,
            progress=progress,
        )
    finally:
        torch.set_num_threads(threads)


def _native(config, mdp_info, demonstrations, seed, device):
    policy_seed, trpo_seed, discriminator_seed = seed.spawn(3)
    critic_seed, draws = trpo_seed.spawn(2)
    generator = np.random.default_rng(draws)
    symmetry, trpo, critic, discriminator = config.trpo.symmetry, config.trpo, config.critic, config.discriminator
    policy = GaussianPolicy(
        mdp_info.observation_space.shape[0],
        mdp_info.action_space.shape[0],
        config.policy.policy_hidden,
        config.policy.initial_std,
        policy_seed,
        device,
        symmetry,
    )
    expert = expert_transitions(demonstrations, symmetry, device)
    # The statistics begin as the expert's; the policy's batches then add its own.
    policy.normalizer.update(expert.observations)
    policy.sync()
    policy_optimizer = TRPO(
        policy,
        generator,
        max_kl=trpo.max_kl,
        final_max_kl=trpo.final_max_kl,
        initial_std=config.warm_start.warm_start_std if config.warm_start.warm_start else config.policy.initial_std,
        min_std=config.policy.min_std,
        entropy_coefficient=trpo.entropy_coefficient,
        cg_iterations=trpo.cg_iterations,
        cg_damping=trpo.cg_damping,
        cg_fraction=trpo.cg_fraction,
        line_search_steps=trpo.line_search_steps,
    )
    own_settings = getattr(config, config.run.algorithm, None) or ()
    return AdversarialLearner(
        mdp_info,
        policy,
        policy_optimizer,
        Critic(
            policy.normalizer,
            critic_seed,
            generator,
            hidden=critic.critic_hidden,
            learning_rate=critic.critic_learning_rate,
            epochs=critic.critic_epochs,
            batch_size=critic.critic_batch_size,
        ),
        load(ALGORITHMS[config.run.algorithm].discriminator)(
            expert,
            discriminator_seed,
            generator,
            features=load(INPUTS[discriminator.discriminator_input]),
            hidden=discriminator.discriminator_hidden,
            learning_rate=discriminator.discriminator_learning_rate,
            updates=discriminator.discriminator_updates,
            batch_size=discriminator.discriminator_batch_size,
            gradient_penalty=discriminator.gradient_penalty,
            reward_offset=discriminator.reward_offset,
            **dict(own_settings),
        ),
        generator,
        gamma=trpo.gamma,
        gae_lambda=trpo.gae_lambda,
        std_half_life=config.policy.std_half_life,
        final_std=config.policy.final_std,
        reward=discriminator.reward,
        metadata=_metadata(config),
    )


def _published(config, mdp_info, demonstrations, seed, device):
    require_backend(config)
    import patches

    patches.apply("mushroom_rl", "imitation_lib")
    from qi_ext.learning.imitation_lib.agent import PublishedAgent
    from qi_ext.learning.imitation_lib.construction import GAIL_SETTINGS, VAIL_SETTINGS

    known, names = config.settings(), GAIL_SETTINGS + (VAIL_SETTINGS if config.run.algorithm == "vail" else [])
    settings = {name: known[name] for name in names}
    return PublishedAgent(mdp_info, demonstrations, config.run.algorithm, seed, device, metadata=_metadata(config), **settings)


def _metadata(config):
    return {"task": config.task.task, "algorithm": config.run.algorithm}
