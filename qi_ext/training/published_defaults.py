"""Every setting of a run with imitation-lib's agents; the defaults are the published ones."""

from dataclasses import dataclass

from qi_ext.training.defaults import SimpleGail, SimpleVail, default_of, setting


@dataclass(kw_only=True)
class PublishedSimpleGail(SimpleGail):
    """imitation-lib's GAIL, walking along +x.

    Source of the defaults: loco-mujoco, examples/imitation_learning, confs.yaml (UnitreeA1) and utils.py; the batch of the best
    public run.
    """

    backend: str = default_of("backend", "imitation_lib")
    batch_size: int = default_of("batch_size", 10_240)
    max_kl: float = default_of("max_kl", 5e-3)
    entropy_coefficient: float = default_of("entropy_coefficient", 1e-3)
    gamma: float = default_of("gamma", 0.99)
    gae_lambda: float = default_of("gae_lambda", 0.97)
    cg_iterations: int = default_of("cg_iterations", 25)
    initial_std: float = default_of("initial_std", 1.0)
    critic_learning_rate: float = default_of("critic_learning_rate", 1e-4)
    discriminator_learning_rate: float = default_of("discriminator_learning_rate", 5e-5)
    discriminator_input: str = setting(
        "next_state",
        "what it sees: next_state (state and next state), state, or action (state and action)",
        choices=("next_state", "state", "action"),
    )
    discriminator_every: int = setting(6, "updates of the policy for each fit of the discriminator", 1, 1000)

    discriminator_batch_size: int = default_of("discriminator_batch_size", 2048)
    cg_fraction: float = default_of("cg_fraction", 1.0)
    gradient_penalty: float = default_of("gradient_penalty", 0.0)
    discriminator_updates: int = default_of("discriminator_updates", 1)
    symmetry: str = default_of("symmetry", "none")
    restart_every: int = default_of("restart_every", 0)
    final_std: float = default_of("final_std", 1e-4)
    final_max_kl: float = default_of("final_max_kl", 1e-8)
    min_std: float = default_of("min_std", 1e-4)
    absent = frozenset(
        {
            "cg_fraction",
            "gradient_penalty",
            "discriminator_updates",
            "initial_beta",
            "std_half_life",
            "final_std",
            "final_max_kl",
            "min_std",
            "reward",
            "symmetry",
        }
    ) | {name for name in SimpleGail.__dataclass_fields__ if name.startswith("warm_start")}


@dataclass(kw_only=True)
class PublishedHardGail(PublishedSimpleGail):
    """imitation-lib's GAIL, walking in one of 8 directions."""

    task: str = default_of("task", "hard")
    n_steps: int = default_of("n_steps", 3_000_000)
    discriminator_every: int = default_of("discriminator_every", 3, PublishedSimpleGail)


@dataclass(kw_only=True)
class PublishedSimpleVail(PublishedSimpleGail, SimpleVail):
    """imitation-lib's VAIL, walking along +x."""

    algorithm: str = default_of("algorithm", "vail")
    discriminator_hidden: list = default_of("discriminator_hidden", [256, 128])
    information_constraint: float = default_of("information_constraint", 1.0, SimpleVail)
    code_size: int = default_of("code_size", 128, SimpleVail)
    beta_learning_rate: float = default_of("beta_learning_rate", 1e-5, SimpleVail)


@dataclass(kw_only=True)
class PublishedHardVail(PublishedSimpleVail):
    """imitation-lib's VAIL, walking in one of 8 directions."""

    task: str = default_of("task", "hard")
    n_steps: int = default_of("n_steps", 3_000_000)
    discriminator_every: int = default_of("discriminator_every", 3, PublishedSimpleGail)
    information_constraint: float = default_of("information_constraint", 0.1, SimpleVail)
