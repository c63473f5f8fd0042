"""Every setting of a training run: one dataclass a task and algorithm, whose defaults are the experiment."""

import dataclasses
import math
import types
from dataclasses import dataclass, field

from qi_ext.commands import TASKS
from qi_ext.errors import UserError
from qi_ext.sampling.pool import KINDS
from qi_ext.training.values import checked, checked_workers

ALGORITHMS = ("gail", "vail")
BACKENDS = ("native", "imitation_lib")


def _setting(default, text, low=-math.inf, high=math.inf, choices=None, may_change=False):
    """A field of the config: its default, its help text, and the range its value (or each value of a list) must lie in.

    may_change: whether a run that is resumed may have another value, because what is learned does not depend on it (but for
    the last bits, on the device).
    """
    metadata = {"help": text, "low": low, "high": high, "choices": choices, "may_change": may_change}
    return _field(default, metadata)


def _default(name, value, of=None):
    """The same field as in the dataclass `of`, `SimpleGail` where it is not given, with another default."""
    return _field(value, (of or SimpleGail).__dataclass_fields__[name].metadata)


def _field(default, metadata):
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class SimpleGail:
    """GAIL on TRPO, walking along +x: from scratch, on states only.

    Raises UserError where a value is of the wrong type or outside its range.
    """

    task: str = _setting("simple", "simple (walk along +x) or hard (one of n_directions, drawn each episode)", choices=TASKS)
    algorithm: str = _setting("gail", "gail, or vail (with an information bottleneck)", choices=ALGORITHMS)
    backend: str = _setting(
        "native",
        "whose agents: native (ours), or imitation_lib (the published ones, with its published settings; needs imitation-lib)",
        choices=BACKENDS,
    )
    demonstrations: str = _setting(
        "trot",
        "trot (embedded, synthetic), loco-mujoco (its own sets, where installed), or the path of an npz",
        may_change=True,  # where they are; that they are the same is checked by their hash
    )
    compat: str = _setting(
        "task", "task, or upstream (keep the goal features as they were recorded)", choices=("task", "upstream")
    )
    n_steps: int = _setting(
        1_500_000, "environment steps to train for, in whole batches; 0 for the warm start alone", 0, may_change=True
    )
    minutes: float = _setting(
        0.0, "end after so many minutes of training, resumed ones included; 0 for no limit", 0.0, may_change=True
    )
    seed: int = _setting(0, "seed of everything random in the run", 0, 2**32 - 1)
    results_dir: str = _setting("", "the run goes to RESULTS_DIR/SEED [runs/TASK-ALGORITHM]", may_change=True)
    warm_start: int = _setting(0, "epochs of cloning the demonstrations' actions before the first step", 0)
    n_directions: int = _setting(8, "directions of the hard task", 1, 360)
    speed: float = _setting(0.5, "commanded speed, m/s", 0.0, 3.0)
    evaluation_episodes: int = _setting(
        10, "episodes per direction of the evaluation at the end; 0 for none", 0, may_change=True
    )
    checkpoint_every: float = _setting(5.0, "minutes between checkpoints", 0.0, may_change=True)
    keep_checkpoints: int = _setting(3, "newest checkpoints that are kept, beside the best", 1, may_change=True)
    wandb: str = _setting("", "project of Weights & Biases to log to as well; needs wandb", may_change=True)
    device: str = _setting("auto", "of the learner: auto, cpu, cuda, or cuda:N; acting is on the CPU", may_change=True)
    learner_threads: int = _setting(1, "threads of the learner; part of the result, so not the machine's core count", 1, 64)

    n_envs: int = _setting(32, "robots simulated at once; part of the result", 1, 65536)
    lanes_per_block: int = _setting(4, "robots whose actions are computed together; part of the result", 1, 65536)
    n_workers: str = _setting(
        "auto", "processes, or auto: as many as this process may use; never part of the result", may_change=True
    )
    pool: str = _setting(
        "loky", "where robots are simulated: loky (processes), serial (this process) or dask", choices=KINDS, may_change=True
    )
    scheduler: str = _setting("", "address of the Dask scheduler, tcp://HOST:PORT, with --pool dask", may_change=True)

    # What happens on either side teaches both: a warm start stays up as long after half the steps, and under pushes longer.
    symmetry: str = _setting(
        "mirror",
        "of policy and learner: mirror (left and right are alike) or none",
        choices=("mirror", "none"),
    )
    # After a warm start, 140 and 0.06 leave fewer falls under pushes and noise; from scratch they cost steps until it walks.
    push: float = _setting(0.0, "largest of the pushes that robots are trained under, N; 0 is none", 0.0, 1000.0)
    torque_noise: float = _setting(
        0.0, "standard deviation of the noise at the joints that robots are trained under, in units of 34 Nm", 0.0, 10.0
    )
    reward: str = _setting(
        "imitation",
        "what is learned from: imitation (the discriminator); to compare with, constant (survival) or environment (the task's)",
        choices=("imitation", "constant", "environment"),
    )
    # Small batches learn fastest while every episode still ends in a fall.
    batch_size: int = _setting(4096, "environment steps a TRPO update", 16)
    # A stride takes 40 steps. With 0.99 staying up pays more than walking well, and the robot stands for long.
    gamma: float = _setting(0.97, "discount", 0.0, 1.0)
    gae_lambda: float = _setting(0.95, "lambda of generalized advantage estimation", 0.0, 1.0)
    max_kl: float = _setting(0.01, "trust region, nats", 1e-8, 10.0)
    entropy_coefficient: float = _setting(0.0, "weight of the policy's entropy in the surrogate", 0.0, 10.0)
    cg_iterations: int = _setting(10, "iterations of conjugate gradient", 1, 1000)
    cg_damping: float = _setting(0.1, "damping of the Fisher matrix", 0.0, 100.0)
    # A tenth is enough for the direction; the line search looks at all of them.
    cg_fraction: float = _setting(0.1, "share of the batch's states in Fisher products; 1 is all", 1e-6, 1.0)
    line_search_steps: int = _setting(10, "lengths of the step that are tried, each half of the one before", 1, 100)
    policy_hidden: list = _setting([512, 256], "hidden layers of the policy", 1, 4096)
    # An A1 under torque control hardly walks with a noise over 0.1, and learns nothing without any: the bound falls on the way.
    initial_std: float = _setting(0.3, "standard deviation of the actions at first, and the bound on it", 1e-3, 10.0)
    std_half_life: int = _setting(500_000, "environment steps in which the bound on the standard deviation halves", 1)
    final_std: float = _setting(0.05, "what that bound falls to", 1e-4, 10.0)
    min_std: float = _setting(0.01, "what the policy's standard deviations may not fall below", 1e-4, 10.0)
    critic_hidden: list = _setting([512, 256], "hidden layers of the critic", 1, 4096)
    critic_learning_rate: float = _setting(3e-4, "Adam's, of the critic", 1e-8, 1.0)
    critic_epochs: int = _setting(5, "passes over the batch to fit the critic", 1, 1000)
    critic_batch_size: int = _setting(256, "minibatch of the critic", 1)

    # Cross entropy with a penalty on the discriminator's slope keeps the robot moving, where a saturated one lets it stand; so
    # does seeing by how much the command is missed. A larger penalty and fewer fits end with a walk that is further off the
    # commanded velocity; larger minibatches cost time, and the robot is on its feet later.
    discriminator_input: str = _setting(
        "tracking",
        "what it sees: state, next_state (with state), tracking (and how both miss the command), or action (with state)",
        choices=("tracking", "next_state", "state", "action"),
    )
    discriminator_hidden: list = _setting([512, 256], "hidden layers of the discriminator", 1, 4096)
    discriminator_learning_rate: float = _setting(2e-4, "Adam's, of the discriminator", 1e-8, 1.0)
    discriminator_updates: int = _setting(6, "minibatches of each side an update", 0, 1000)
    discriminator_batch_size: int = _setting(1024, "minibatch of each side of the discriminator", 1)
    gradient_penalty: float = _setting(0.2, "weight of |d logit / d input|^2 on expert transitions", 0.0, 1000.0)

    # More than the cloned policy can walk with: what it then learns is to keep its feet, and the bound falls as above.
    warm_start_std: float = _setting(0.1, "standard deviation of the actions after a warm start, and bound", 1e-3, 10.0)
    warm_start_learning_rate: float = _setting(1e-3, "Adam's, of the warm start, falling to 0 on a cosine", 1e-8, 1.0)
    warm_start_nominal_weight: float = _setting(0.25, "weight of a nominal state in the warm start; others weigh 1", 1e-3, 1e3)
    warm_start_batch_size: int = _setting(256, "minibatch of the warm start", 1)
    warm_start_actions: str = _setting(
        "auto",
        "what is cloned: recorded actions, those inferred from states, or auto (recorded where there are any)",
        choices=("auto", "recorded", "inferred"),
    )

    # Settings that agents of the backend do not know: they cannot be given, and say what those agents do.
    absent = frozenset()

    def __post_init__(self):
        self.n_workers = checked_workers(self.n_workers)
        for item in dataclasses.fields(self):
            setattr(self, item.name, checked(item, getattr(self, item.name)))
        if self.final_std > self.initial_std:
            raise UserError(f"--final_std: must be at most --initial_std, {self.initial_std:g}, not {self.final_std:g}")
        for name in ("initial_std", "final_std", "warm_start_std"):
            if getattr(self, name) < self.min_std:
                raise UserError(f"--{name}: must be at least --min_std, {self.min_std:g}, not {getattr(self, name):g}")
        if not self.results_dir:
            suffix = "" if self.backend == "native" else f"-{self.backend}"
            self.results_dir = f"runs/{self.task}-{self.algorithm}{suffix}"


@dataclass(kw_only=True)
class HardGail(SimpleGail):
    """GAIL on TRPO, walking in one of 8 directions: from scratch, on states only."""

    task: str = _default("task", "hard")
    n_steps: int = _default("n_steps", 4_000_000)
    # To stay up takes longer in eight directions than in one.
    std_half_life: int = _default("std_half_life", 700_000)


@dataclass(kw_only=True)
class SimpleVail(SimpleGail):
    """VAIL on TRPO, walking along +x: an information bottleneck beside the gradient penalty."""

    algorithm: str = _default("algorithm", "vail")
    # With 0.5 nats and no penalty the robot learns to stand.
    information_constraint: float = _setting(
        2.0, "bound on the information that the discriminator's code carries, nats", 0.0, 1e3
    )
    code_size: int = _setting(32, "size of the discriminator's code", 1, 4096)
    initial_beta: float = _setting(0.1, "initial weight of the information bound", 0.0, 1e3)
    beta_learning_rate: float = _setting(1e-2, "step of the dual ascent on that weight", 0.0, 1e3)


@dataclass(kw_only=True)
class HardVail(SimpleVail):
    """VAIL on TRPO, walking in one of 8 directions."""

    task: str = _default("task", "hard")
    n_steps: int = _default("n_steps", 4_000_000)
    std_half_life: int = _default("std_half_life", 700_000)


@dataclass(kw_only=True)
class PublishedSimpleGail(SimpleGail):
    """imitation-lib's GAIL, walking along +x.

    Source of the defaults: loco-mujoco, examples/imitation_learning, confs.yaml (UnitreeA1) and utils.py; the batch of the best
    public run.
    """

    backend: str = _default("backend", "imitation_lib")
    batch_size: int = _default("batch_size", 10_240)
    max_kl: float = _default("max_kl", 5e-3)
    entropy_coefficient: float = _default("entropy_coefficient", 1e-3)
    gamma: float = _default("gamma", 0.99)
    gae_lambda: float = _default("gae_lambda", 0.97)
    cg_iterations: int = _default("cg_iterations", 25)
    initial_std: float = _default("initial_std", 1.0)
    critic_learning_rate: float = _default("critic_learning_rate", 1e-4)
    discriminator_learning_rate: float = _default("discriminator_learning_rate", 5e-5)
    discriminator_input: str = _setting(
        "next_state",
        "what it sees: next_state (state and next state), state, or action (state and action)",
        choices=("next_state", "state", "action"),
    )
    discriminator_every: int = _setting(6, "updates of the policy for each fit of the discriminator", 1, 1000)

    discriminator_batch_size: int = _default("discriminator_batch_size", 2048)
    cg_fraction: float = _default("cg_fraction", 1.0)
    gradient_penalty: float = _default("gradient_penalty", 0.0)
    discriminator_updates: int = _default("discriminator_updates", 1)
    symmetry: str = _default("symmetry", "none")
    final_std: float = _default("final_std", 1e-4)
    min_std: float = _default("min_std", 1e-4)
    absent = frozenset(
        {
            "cg_fraction",
            "gradient_penalty",
            "discriminator_updates",
            "initial_beta",
            "std_half_life",
            "final_std",
            "min_std",
            "reward",
            "symmetry",
        }
    ) | {name for name in SimpleGail.__dataclass_fields__ if name.startswith("warm_start")}


@dataclass(kw_only=True)
class PublishedHardGail(PublishedSimpleGail):
    """imitation-lib's GAIL, walking in one of 8 directions."""

    task: str = _default("task", "hard")
    n_steps: int = _default("n_steps", 3_000_000)
    discriminator_every: int = _default("discriminator_every", 3, PublishedSimpleGail)


@dataclass(kw_only=True)
class PublishedSimpleVail(PublishedSimpleGail, SimpleVail):
    """imitation-lib's VAIL, walking along +x."""

    algorithm: str = _default("algorithm", "vail")
    discriminator_hidden: list = _default("discriminator_hidden", [256, 128])
    information_constraint: float = _default("information_constraint", 1.0, SimpleVail)
    code_size: int = _default("code_size", 128, SimpleVail)
    beta_learning_rate: float = _default("beta_learning_rate", 1e-5, SimpleVail)


@dataclass(kw_only=True)
class PublishedHardVail(PublishedSimpleVail):
    """imitation-lib's VAIL, walking in one of 8 directions."""

    task: str = _default("task", "hard")
    n_steps: int = _default("n_steps", 3_000_000)
    discriminator_every: int = _default("discriminator_every", 3, PublishedSimpleGail)
    information_constraint: float = _default("information_constraint", 0.1, SimpleVail)


CONFIGS = types.MappingProxyType(
    {
        ("simple", "gail", "native"): SimpleGail,
        ("hard", "gail", "native"): HardGail,
        ("simple", "vail", "native"): SimpleVail,
        ("hard", "vail", "native"): HardVail,
        ("simple", "gail", "imitation_lib"): PublishedSimpleGail,
        ("hard", "gail", "imitation_lib"): PublishedHardGail,
        ("simple", "vail", "imitation_lib"): PublishedSimpleVail,
        ("hard", "vail", "imitation_lib"): PublishedHardVail,
    }
)

# Every field that any of them has, {name: dataclasses.Field}.
SETTINGS = types.MappingProxyType(PublishedSimpleVail.__dataclass_fields__)


def config_class(task, algorithm, backend="native"):
    """The config dataclass of a task, an algorithm and a backend. Raises UserError where there is none."""
    choices = {"task": (task, TASKS), "algorithm": (algorithm, ALGORITHMS), "backend": (backend, BACKENDS)}
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"--{name}: unknown {name} {value!r}; choose one of {', '.join(allowed)}")
    return CONFIGS[task, algorithm, backend]


def settable(chosen):
    """The fields of a config dataclass that can be given, in order."""
    return [item for item in dataclasses.fields(chosen) if item.name not in chosen.absent]


def given_settings(config):
    """What `make_config` makes this config of, {name: value}."""
    return {item.name: getattr(config, item.name) for item in settable(config)}


def make_config(task="simple", algorithm="gail", backend="native", **settings):
    """The config of these, with `settings` in place of its defaults; those that are None leave the default."""
    chosen = config_class(task, algorithm, backend)
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in sorted(settings.keys() - {item.name for item in settable(chosen)}):
        if name in SETTINGS:
            choice = f"--algorithm {algorithm}" + (f" --backend {backend}" if backend != "native" else "")
            raise UserError(f"--{name}: no such option for {choice}; see --help {choice}")
        raise UserError(f"--{name}: no such option; see --help")
    return chosen(task=task, algorithm=algorithm, backend=backend, **settings)


def may_change(name):
    """Whether a resumed run may have another value of this setting."""
    return name in SETTINGS and SETTINGS[name].metadata["may_change"]
