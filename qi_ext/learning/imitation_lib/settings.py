"""imitation-lib's published settings: its own option, its defaults, and the options of ours that its agents do not know."""

from qi_ext.utils.settings import Settings, Whole, option


class ImitationLib(Settings):
    """Settings of imitation-lib alone."""

    discriminator_every: Whole = option(6, "updates of the policy for each fit of the discriminator", 1, 1000)


# Source: loco-mujoco, examples/imitation_learning, confs.yaml (UnitreeA1) and utils.py; the batch of the best public run.
PRESETS = (
    (
        ("imitation_lib",),
        dict(
            batch_size=10_240,
            max_kl=5e-3,
            entropy_coefficient=1e-3,
            gamma=0.99,
            gae_lambda=0.97,
            cg_iterations=25,
            initial_std=1.0,
            critic_learning_rate=1e-4,
            discriminator_learning_rate=5e-5,
            discriminator_batch_size=2048,
            restart_every=0,
        ),
    ),
    (("imitation_lib", "hard"), dict(n_steps=3_000_000, discriminator_every=3)),
    (
        ("imitation_lib", "vail"),
        dict(discriminator_hidden=[256, 128], information_constraint=1.0, code_size=128, beta_learning_rate=1e-5),
    ),
    (("imitation_lib", "hard", "vail"), dict(information_constraint=0.1)),
    # What its agents do in place of the options that they do not know; see DOES_NOT_KNOW.
    (
        ("imitation_lib",),
        dict(
            symmetry="none",
            cg_fraction=1.0,
            final_max_kl=1e-8,
            final_std=1e-4,
            min_std=1e-4,
            discriminator_updates=1,
            gradient_penalty=0.0,
        ),
    ),
)

# Options that cannot be given.
DOES_NOT_KNOW = frozenset(
    {
        *("symmetry", "cg_fraction", "final_max_kl"),
        *("std_half_life", "final_std", "min_std"),
        *("reward", "reward_offset", "discriminator_updates", "gradient_penalty", "initial_beta"),
        *("warm_start", "warm_start_std", "warm_start_learning_rate", "warm_start_nominal_weight"),
        *("warm_start_batch_size", "warm_start_threads", "warm_start_actions"),
    }
)
