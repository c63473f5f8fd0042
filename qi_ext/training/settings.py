"""Settings of a run, in groups, each with its heading in --help as its docstring.

The defaults are those of GAIL on simple, from scratch; what other experiments have is in `presets`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from qi_ext.learning.discriminator_inputs import INPUTS
from qi_ext.learning.imitation_lib.settings import ImitationLib
from qi_ext.robot import a1, courses
from qi_ext.tasks.directions import TASKS, task_commands
from qi_ext.utils.errors import UserError
from qi_ext.utils.limits import MOST_EPISODES, MOST_STEPS
from qi_ext.utils.settings import LayerSizes, Number, Settings, SomeText, Speeds, Text, Whole, one_of, option

MOST_ROWS = 2**24  # of a batch or minibatch
MOST_MINUTES = 1e6
MOST_COMMANDS = 360


class Task(Settings):
    """Task and demonstrations."""

    task: Annotated[Text, one_of(TASKS)] = option(
        "simple", "simple (walk along +x), hard (one of n_directions, drawn each episode) or follow (commands that change)"
    )
    demonstrations: SomeText = option(
        "trot", "trot (embedded, synthetic), loco-mujoco (its own sets, where installed), minari:ID, or the path of an npz"
    )
    compat: Literal["task", "upstream"] = option("task", "task, or upstream (keep the goal features as they were recorded)")
    fit: bool = option(False, "mend a recording: the lowest foot of each row on the ground, joints in their range")
    max_pitch: Number = option(a1.MAX_PITCH, "pitch past which the robot has fallen, rad", 0.01, a1.STEEPEST)
    n_directions: Whole = option(8, "directions of the hard task", 1, MOST_COMMANDS)
    speed: Number = option(0.5, "commanded speed, m/s", 0.0, 3.0)
    speeds: Speeds = option([], "in place of speed, those of the hard task, m/s, of which each episode draws one")
    stops: Number = option(
        courses.STOPS, "of follow, share of drawn targets that stop, in training; evaluation has 1/8", 0.0, 1.0
    )

    def model_post_init(self, context: Any) -> None:
        """Raise UserError for settings that do not go together."""
        for name in ("n_directions", "speed") if self.task == "follow" else ():
            if getattr(self, name) != Task.model_fields[name].default:
                raise UserError(f"--{name}: not with --task follow, which draws all directions and speeds; leave it out")
        if self.task != "follow" and self.stops != courses.STOPS:
            raise UserError(f"--stops: only follow draws any, not {self.task}; leave it out")
        try:
            commands = task_commands(**self.of_commands)
        except ValueError as error:
            raise UserError(f"--{error}") from None
        if len(commands) > MOST_COMMANDS:
            raise UserError(
                f"--speeds: {len(commands)} commands, directions times speeds, are too many; at most {MOST_COMMANDS}"
            )

    @property
    def of_commands(self) -> dict[str, Any]:
        """The settings that `task_commands` takes, {name: value}."""
        return {name: getattr(self, name) for name in ("task", "n_directions", "speed", "speeds")}

    @property
    def of_recording(self) -> dict[str, Any]:
        """The settings that `load_demonstrations` takes beside a name and commands, {name: value}."""
        return {name: getattr(self, name) for name in ("fit", "max_pitch")}

    @property
    def of_environment(self) -> dict[str, Any]:
        """The settings that `QuadrupedDirection` takes, {name: value}, but for those of training alone."""
        return self.of_commands | {"demonstrations": self.demonstrations} | self.of_recording

    @property
    def of_training(self) -> dict[str, Any]:
        """The settings that `QuadrupedDirection` takes to learn in, {name: value}."""
        return self.of_environment | ({"stops": self.stops} if self.stops != courses.STOPS else {})


class Run(Settings):
    """Run."""

    algorithm: Text = option("gail", "a name in `qi_ext.training.algorithms`")
    backend: Literal["native", "imitation_lib"] = option(
        "native", "native (our agents), or imitation_lib (the published ones, with their settings; needs imitation-lib)"
    )
    physics: Literal["mujoco", "warp"] = option(
        "mujoco", "mujoco (on the CPU, in processes), or warp (MuJoCo Warp, thousands of envs on a GPU; needs mujoco-warp)"
    )
    # VAIL passes 800 after 0.94 million; the rest is what the falling noise is worth.
    n_steps: Whole = option(1_200_000, "env steps to train for, in whole batches; 0 for the warm start alone", 0, MOST_STEPS)
    minutes: Number = option(
        0.0, "end after so many minutes of training, resumed ones included; 0 for no limit", 0.0, MOST_MINUTES
    )
    seed: Whole = option(0, "seed of everything random in the run", 0, 2**32 - 1)
    results_dir: Text = option("", "the run goes to RESULTS_DIR/SEED")
    evaluation_episodes: Whole = option(
        10, "episodes per direction of the evaluation at the end; 0 for none, and no report", 0, MOST_EPISODES
    )
    checkpoint_every: Number = option(5.0, "minutes between checkpoints", 0.0, MOST_MINUTES)
    keep_checkpoints: Whole = option(3, "newest checkpoints to keep, beside the best", 1, 1_000_000)
    wandb: Text = option("", "project of Weights & Biases to log to as well; needs wandb")
    device: Text = option("auto", "of the learner, and of --physics warp: auto, cpu, cuda, or cuda:N")
    learner_threads: Whole = option(1, "threads of the learner; part of the result, so not the machine's core count", 1, 64)


class Sampling(Settings):
    """Sampling."""

    n_envs: Whole = option(32, "envs simulated at once; part of the result", 1, 65536)
    lanes_per_block: Whole = option(4, "envs whose actions are computed together; part of the result", 1, 65536)
    n_workers: Literal["auto"] | Annotated[Whole, Field(ge=1, le=65536)] = option(
        "auto", "processes, or auto: as many as this process may use; never part of the result"
    )
    pool: Literal["loky", "serial", "dask"] = option(
        "loky", "where envs are simulated: loky (processes), serial (this process) or dask"
    )
    scheduler: Text = option(
        "",
        "with --pool dask: address of the Dask scheduler, tls:// or tcp://HOST:PORT, or slurm, for n_workers in jobs of it",
    )


class Warp(Settings):
    """MuJoCo Warp."""

    contacts: Whole = option(16, "room for contacts, mean per env, shared by all; the run stops where it overflows", 1, 1000)
    constraint_rows: Whole = option(128, "room for constraint rows, per env; the run stops where it overflows", 1, 10_000)


class Disturbances(Settings):
    """Disturbances in training."""

    # Half of the pushes are against the motion, which stop the gait most often. Every other env is left alone, for exactness.
    push: Number = option(0.0, "largest of the pushes that envs are trained under, N; 0 is none", 0.0, 1000.0)
    torque_noise: Number = option(
        0.0, "standard deviation of the noise at the joints that envs are trained under, in units of 34 Nm", 0.0, 10.0
    )
    disturb_after: Whole = option(0, "steps of training before there are pushes and that noise", 0, MOST_STEPS)
    # An env that walks would start from a demonstrated state once in 1000 steps, and never learn those that are hard to leave.
    restart_every: Whole = option(
        250, "steps after which, on average, every other env starts anew, as if by the time limit; 0 is never", 0, MOST_STEPS
    )


class Trpo(Settings):
    """TRPO."""

    # What happens on either side teaches both: a warm start stays up as long after half the steps, and under pushes longer.
    # Hard from scratch, seed 0, returns 799 without it, 402 in its lowest direction, and 8 of 96 episodes end in a fall.
    symmetry: Literal["mirror", "none"] = option("mirror", "of policy and learner: mirror (left and right are alike) or none")
    # Small batches learn fastest while every episode still ends in a fall.
    batch_size: Whole = option(4096, "env steps a TRPO update", 16, MOST_ROWS)
    # A stride takes 40 steps. With 0.99 staying up pays more than walking well, and the robot stands for long.
    gamma: Number = option(0.97, "discount", 0.0, 1.0)
    # Not tuned, and neither are conjugate gradient's iterations and damping, the line search and the critic: usual values.
    gae_lambda: Number = option(0.95, "lambda of generalized advantage estimation", 0.0, 1.0)
    # From scratch 0.02 is on its feet a tenth sooner than 0.01.
    max_kl: Number = option(0.02, "trust region at first, nats; falls as the bound on the standard deviation", 1e-8, 10.0)
    final_max_kl: Number = option(0.002, "what the trust region falls to, nats; --max_kl where that is smaller", 1e-8, 10.0)
    entropy_coefficient: Number = option(0.0, "weight of the policy's entropy in the surrogate", 0.0, 10.0)
    cg_iterations: Whole = option(10, "iterations of conjugate gradient", 1, 1000)
    cg_damping: Number = option(0.1, "damping of the Fisher matrix", 0.0, 100.0)
    # A tenth is enough for the direction; the line search looks at all of them.
    cg_fraction: Number = option(0.1, "share of the batch's states in Fisher products; 1 is all", 1e-6, 1.0)
    line_search_steps: Whole = option(10, "lengths of the step that are tried, each half of the one before", 1, 100)


class Policy(Settings):
    """Policy."""

    # As the published ones, the critic too; not tuned.
    policy_hidden: LayerSizes = option([512, 256], "hidden layers of the policy")
    # An A1 under torque control hardly walks with a noise over 0.1, and learns nothing without any: the bound falls on the way.
    initial_std: Number = option(0.3, "standard deviation of the actions at first, and the bound on it", 1e-3, 10.0)
    # So that the bound is down a little before the run ends.
    std_half_life: Whole = option(500_000, "env steps in which the bound on the standard deviation halves", 1, MOST_STEPS)
    final_std: Number = option(0.05, "what that bound falls to", 1e-4, 10.0)
    min_std: Number = option(0.01, "what the policy's standard deviations may not fall below", 1e-4, 10.0)


class Critic(Settings):
    """Critic."""

    critic_hidden: LayerSizes = option([512, 256], "hidden layers of the critic")
    critic_learning_rate: Number = option(3e-4, "Adam's, of the critic", 1e-8, 1.0)
    critic_epochs: Whole = option(5, "passes over the batch to fit the critic", 1, 1000)
    critic_batch_size: Whole = option(256, "minibatch of the critic", 1, MOST_ROWS)


class Discriminator(Settings):
    """Discriminator."""

    # Cross entropy with a penalty on the discriminator's slope keeps the robot moving, where a saturated one lets it stand; so
    # does seeing by how much the command is missed. A larger penalty and fewer fits end with a walk that is further off the
    # commanded velocity; larger minibatches cost time, and the robot is on its feet later.
    reward: Literal["imitation", "constant", "environment"] = option(
        "imitation",
        "what is learned from: imitation (the discriminator); to compare with, constant (survival) or environment (the task's)",
    )
    discriminator_input: Annotated[Text, one_of(INPUTS)] = option(
        "tracking",
        "what it sees: state, next_state (with state), tracking (and how both miss the command), stepping (and how fast "
        "their legs move), or action (with state)",
    )
    discriminator_hidden: LayerSizes = option([512, 256], "hidden layers of the discriminator")
    discriminator_learning_rate: Number = option(2e-4, "Adam's, of the discriminator", 1e-8, 1.0)
    discriminator_updates: Whole = option(6, "minibatches of each side an update", 0, 1000)
    discriminator_batch_size: Whole = option(1024, "minibatch of each side of the discriminator", 1, MOST_ROWS)
    gradient_penalty: Number = option(0.2, "weight of |d logit / d input|^2 on expert transitions", 0.0, 1000.0)
    reward_offset: Number = option(
        0.0, "added to the logit in the reward: less flat where the logit is low, and staying on the feet pays more", 0.0, 20.0
    )


class PublishedDiscriminator(Discriminator):
    """Discriminator of imitation-lib."""

    discriminator_input: Literal["next_state", "state", "action"] = option(
        "next_state", "what it sees: next_state (state and next state), state, or action (state and action)"
    )


class WarmStart(Settings):
    """Warm start."""

    warm_start: Whole = option(0, "epochs of cloning the demonstrations' actions before the first step", 0, 1_000_000)
    # More than the cloned policy can walk with: what it then learns is to keep its feet, and the bound falls as above.
    warm_start_std: Number = option(0.1, "standard deviation of the actions after a warm start, and bound", 1e-3, 10.0)
    warm_start_learning_rate: Number = option(1e-3, "Adam's, of the warm start, falling to 0 on a cosine", 1e-8, 1.0)
    # Nominal states are the most, and all alike; the others teach it to come back to the gait.
    warm_start_nominal_weight: Number = option(0.25, "weight of a nominal state in the warm start; others weigh 1", 1e-3, 1e3)
    warm_start_batch_size: Whole = option(256, "minibatch of the warm start", 1, MOST_ROWS)
    warm_start_threads: Whole = option(
        1, "threads of the warm start, in which no env is stepped; part of the result, too", 1, 64
    )
    warm_start_actions: Literal["auto", "recorded", "inferred"] = option(
        "auto", "what is cloned: recorded actions, those inferred from states, or auto (recorded where there are any)"
    )


class Vail(Settings):
    """Information bottleneck of VAIL."""

    # With 0.5 nats and no penalty the robot learns to stand. The rest is not tuned.
    information_constraint: Number = option(
        2.0, "bound on the information that the discriminator's code carries, nats", 0.0, 1e3
    )
    code_size: Whole = option(32, "size of the discriminator's code", 1, 4096)
    initial_beta: Number = option(0.1, "initial weight of the information bound", 0.0, 1e3)
    beta_learning_rate: Number = option(1e-2, "step of the dual ascent on that weight", 0.0, 1e3)


# The groups that every run has, by their names in the config.
GROUPS: dict[str, type[Settings]] = {
    "task": Task,
    "run": Run,
    "sampling": Sampling,
    "disturbances": Disturbances,
    "trpo": Trpo,
    "policy": Policy,
    "critic": Critic,
    "discriminator": Discriminator,
    "warm_start": WarmStart,
}

# Those of physics, and of a backend, in place of the ones above or beside them.
PHYSICS_GROUPS: dict[str, dict[str, type[Settings]]] = {"mujoco": {}, "warp": {"warp": Warp}}
BACKEND_GROUPS: dict[str, dict[str, type[Settings]]] = {
    "native": {},
    "imitation_lib": {"discriminator": PublishedDiscriminator, "imitation_lib": ImitationLib},
}
