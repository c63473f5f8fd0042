"""Every setting of a run with our agents: one dataclass a task and algorithm, whose defaults are the experiment."""

import dataclasses
import math
from dataclasses import dataclass, field

from qi_ext.robot.commands import TASKS
from qi_ext.sampling.pool import KINDS
from qi_ext.training.values import checked, checked_workers
from qi_ext.utils.errors import UserError

ALGORITHMS = ("gail", "vail")
BACKENDS = ("native", "imitation_lib")


def setting(default, text, low=-math.inf, high=math.inf, choices=None, may_change=False, warm=None):
    """A field of the config: its default, its help text, and the range its value (or each value of a list) must lie in.

    may_change: whether a run that is resumed may have another value, because what is learned does not depend on it (but for
    the last bits, on the device). warm: the default where there is a warm start; None for
    the same.
    """
    return _field(default, {"help": text, "low": low, "high": high, "choices": choices, "may_change": may_change, "warm": warm})


def default_of(name, value, of=None, warm=None):
    """The same field as in the dataclass `of`, `SimpleGail` where it is not given, with other defaults."""
    return _field(value, {**(of or SimpleGail).__dataclass_fields__[name].metadata, "warm": warm})


def _field(default, metadata):
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class SimpleGail:
    """GAIL on TRPO, walking along +x: from scratch, on states only.

    Raises UserError where a value is of the wrong type or outside its range.
    """

    task: str = setting("simple", "simple (walk along +x) or hard (one of n_directions, drawn each episode)", choices=TASKS)
    algorithm: str = setting("gail", "gail, or vail (with an information bottleneck)", choices=ALGORITHMS)
    backend: str = setting(
        "native",
        "whose agents: native (ours), or imitation_lib (the published ones, with its published settings; needs imitation-lib)",
        choices=BACKENDS,
    )
    demonstrations: str = setting(
        "trot",
        "trot (embedded, synthetic), loco-mujoco (its own sets, where installed), or the path of an npz",
        may_change=True,  # where they are; that they are the same is checked by their hash
    )
    compat: str = setting(
        "task", "task, or upstream (keep the goal features as they were recorded)", choices=("task", "upstream")
    )
    # It passes 800 after 0.75 million; the rest is what the falling noise is worth.
    n_steps: int = setting(
        1_200_000,
        "environment steps to train for, in whole batches; 0 for the warm start alone",
        0,
        may_change=True,
        warm=800_000,
    )
    minutes: float = setting(
        0.0, "end after so many minutes of training, resumed ones included; 0 for no limit", 0.0, may_change=True
    )
    seed: int = setting(0, "seed of everything random in the run", 0, 2**32 - 1)
    results_dir: str = setting("", "the run goes to RESULTS_DIR/SEED [runs/TASK-ALGORITHM]", may_change=True)
    warm_start: int = setting(0, "epochs of cloning the demonstrations' actions before the first step", 0)
    n_directions: int = setting(8, "directions of the hard task", 1, 360)
    speed: float = setting(0.5, "commanded speed, m/s", 0.0, 3.0)
    evaluation_episodes: int = setting(
        10, "episodes per direction of the evaluation at the end; 0 for none, and no report", 0, may_change=True
    )
    checkpoint_every: float = setting(5.0, "minutes between checkpoints", 0.0, may_change=True)
    keep_checkpoints: int = setting(3, "newest checkpoints that are kept, beside the best", 1, may_change=True)
    wandb: str = setting("", "project of Weights & Biases to log to as well; needs wandb", may_change=True)
    device: str = setting("auto", "of the learner: auto, cpu, cuda, or cuda:N; acting is on the CPU", may_change=True)
    learner_threads: int = setting(1, "threads of the learner; part of the result, so not the machine's core count", 1, 64)

    n_envs: int = setting(32, "robots simulated at once; part of the result", 1, 65536)
    lanes_per_block: int = setting(4, "robots whose actions are computed together; part of the result", 1, 65536)
    n_workers: str = setting(
        "auto", "processes, or auto: as many as this process may use; never part of the result", may_change=True
    )
    pool: str = setting(
        "loky", "where robots are simulated: loky (processes), serial (this process) or dask", choices=KINDS, may_change=True
    )
    scheduler: str = setting(
        "",
        "with --pool dask: address of the Dask scheduler, tcp://HOST:PORT, or slurm, for n_workers in jobs of their own",
        may_change=True,
    )

    # What happens on either side teaches both: a warm start stays up as long after half the steps, and under pushes longer.
    # Hard from scratch, seed 0, returns 799 without it, 402 in its lowest direction, and 8 of 96 episodes end in a fall.
    symmetry: str = setting(
        "mirror",
        "of policy and learner: mirror (left and right are alike) or none",
        choices=("mirror", "none"),
    )
    # After a warm start, 140 and 0.06 leave fewer falls under pushes and noise; from scratch they cost steps until it walks.
    # Half of the pushes are against the motion, which stop the gait most often. Every other robot is left alone, for exactness.
    push: float = setting(0.0, "largest of the pushes that robots are trained under, N; 0 is none", 0.0, 1000.0, warm=140.0)
    torque_noise: float = setting(
        0.0,
        "standard deviation of the noise at the joints that robots are trained under, in units of 34 Nm",
        0.0,
        10.0,
        warm=0.06,
    )
    disturb_after: int = setting(0, "steps of training before there are pushes and that noise", 0)
    # A robot that walks would start from a demonstrated state once in 1000 steps, and never learn those that are hard to leave.
    restart_every: int = setting(
        250, "steps after which, on average, every other robot starts anew, as if by the time limit; 0 is never", 0
    )
    reward: str = setting(
        "imitation",
        "what is learned from: imitation (the discriminator); to compare with, constant (survival) or environment (the task's)",
        choices=("imitation", "constant", "environment"),
    )
    # Small batches learn fastest while every episode still ends in a fall.
    batch_size: int = setting(4096, "environment steps a TRPO update", 16)
    # A stride takes 40 steps. With 0.99 staying up pays more than walking well, and the robot stands for long.
    gamma: float = setting(0.97, "discount", 0.0, 1.0)
    # Not tuned, and neither are conjugate gradient's iterations and damping, the line search and the critic: usual values.
    gae_lambda: float = setting(0.95, "lambda of generalized advantage estimation", 0.0, 1.0)
    # From scratch 0.02 is on its feet a tenth sooner than 0.01. One that walks already falls more after it, and has to keep its
    # feet in the last update, too: the trust region is smaller by then.
    max_kl: float = setting(
        0.02, "trust region at first, nats; falls as the bound on the standard deviation", 1e-8, 10.0, warm=0.01
    )
    final_max_kl: float = setting(
        0.002, "what the trust region falls to, nats; --max_kl where that is smaller", 1e-8, 10.0, warm=0.01
    )
    entropy_coefficient: float = setting(0.0, "weight of the policy's entropy in the surrogate", 0.0, 10.0)
    cg_iterations: int = setting(10, "iterations of conjugate gradient", 1, 1000)
    cg_damping: float = setting(0.1, "damping of the Fisher matrix", 0.0, 100.0)
    # A tenth is enough for the direction; the line search looks at all of them.
    cg_fraction: float = setting(0.1, "share of the batch's states in Fisher products; 1 is all", 1e-6, 1.0)
    line_search_steps: int = setting(10, "lengths of the step that are tried, each half of the one before", 1, 100)
    # As the published ones, the critic too; not tuned.
    policy_hidden: list = setting([512, 256], "hidden layers of the policy", 1, 4096)
    # An A1 under torque control hardly walks with a noise over 0.1, and learns nothing without any: the bound falls on the way.
    initial_std: float = setting(0.3, "standard deviation of the actions at first, and the bound on it", 1e-3, 10.0)
    # So that the bound is down a little before the run ends, that of hard after a warm start, too.
    std_half_life: int = setting(
        500_000, "environment steps in which the bound on the standard deviation halves", 1, warm=700_000
    )
    final_std: float = setting(0.05, "what that bound falls to", 1e-4, 10.0, warm=0.035)
    min_std: float = setting(0.01, "what the policy's standard deviations may not fall below", 1e-4, 10.0)
    critic_hidden: list = setting([512, 256], "hidden layers of the critic", 1, 4096)
    critic_learning_rate: float = setting(3e-4, "Adam's, of the critic", 1e-8, 1.0)
    critic_epochs: int = setting(5, "passes over the batch to fit the critic", 1, 1000)
    critic_batch_size: int = setting(256, "minibatch of the critic", 1)

    # Cross entropy with a penalty on the discriminator's slope keeps the robot moving, where a saturated one lets it stand; so
    # does seeing by how much the command is missed. A larger penalty and fewer fits end with a walk that is further off the
    # commanded velocity; larger minibatches cost time, and the robot is on its feet later.
    discriminator_input: str = setting(
        "tracking",
        "what it sees: state, next_state (with state), tracking (and how both miss the command), or action (with state)",
        choices=("tracking", "next_state", "state", "action"),
    )
    discriminator_hidden: list = setting([512, 256], "hidden layers of the discriminator", 1, 4096)
    discriminator_learning_rate: float = setting(2e-4, "Adam's, of the discriminator", 1e-8, 1.0)
    discriminator_updates: int = setting(6, "minibatches of each side an update", 0, 1000)
    discriminator_batch_size: int = setting(1024, "minibatch of each side of the discriminator", 1)
    gradient_penalty: float = setting(0.2, "weight of |d logit / d input|^2 on expert transitions", 0.0, 1000.0)

    # More than the cloned policy can walk with: what it then learns is to keep its feet, and the bound falls as above.
    # Nominal states are the most, and all alike; the others teach it to come back to the gait.
    warm_start_std: float = setting(0.1, "standard deviation of the actions after a warm start, and bound", 1e-3, 10.0)
    warm_start_learning_rate: float = setting(1e-3, "Adam's, of the warm start, falling to 0 on a cosine", 1e-8, 1.0)
    warm_start_nominal_weight: float = setting(0.25, "weight of a nominal state in the warm start; others weigh 1", 1e-3, 1e3)
    warm_start_batch_size: int = setting(256, "minibatch of the warm start", 1)
    warm_start_actions: str = setting(
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

    task: str = default_of("task", "hard")
    # After a warm start: what 2 cores do in 10 minutes.
    n_steps: int = default_of("n_steps", 3_000_000, warm=1_150_000)
    # At 0.05 one update in ten is followed by falls; at 0.03, and a million steps later, hardly any.
    final_std: float = default_of("final_std", 0.03, warm=0.035)
    # Once it walks, or they cost steps until then. Without, one episode in a hundred ends in a fall; with, hardly any.
    push: float = default_of("push", 60.0, warm=140.0)
    torque_noise: float = default_of("torque_noise", 0.03, warm=0.06)
    disturb_after: int = default_of("disturb_after", 1_900_000, warm=0)


@dataclass(kw_only=True)
class Bottleneck:
    """What VAIL has beside GAIL's settings, the gradient penalty among them."""

    algorithm: str = default_of("algorithm", "vail")
    # With 0.5 nats and no penalty the robot learns to stand. The rest is not tuned.
    information_constraint: float = setting(
        2.0, "bound on the information that the discriminator's code carries, nats", 0.0, 1e3
    )
    code_size: int = setting(32, "size of the discriminator's code", 1, 4096)
    initial_beta: float = setting(0.1, "initial weight of the information bound", 0.0, 1e3)
    beta_learning_rate: float = setting(1e-2, "step of the dual ascent on that weight", 0.0, 1e3)


@dataclass(kw_only=True)
class SimpleVail(Bottleneck, SimpleGail):
    """VAIL on TRPO, walking along +x."""


@dataclass(kw_only=True)
class HardVail(Bottleneck, HardGail):
    """VAIL on TRPO, walking in one of 8 directions."""

    # Which of 8 directions is commanded is 2 nats by itself. From scratch 2 end with backwards at 650 to 725 (seeds 0, 1);
    # seed 1 returns 250 after 0.9 million steps with 2, 520 with 4, 580 with 8. By 8 the code is seldom bound.
    information_constraint: float = default_of("information_constraint", 8.0, Bottleneck, warm=2.0)
