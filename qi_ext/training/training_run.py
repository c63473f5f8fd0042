"""One run, from a config to a directory with an agent in it."""

import time
from contextlib import ExitStack, closing

import mujoco
import numpy as np
import torch

from qi_ext.demonstrations import load_demonstrations, resolved_name
from qi_ext.demonstrations.dynamics import warning_of_inferred
from qi_ext.demonstrations.examination import table_of
from qi_ext.demonstrations.inverse_dynamics import with_inferred_actions
from qi_ext.learning.cloning import check_actions
from qi_ext.learning.device import choose_device
from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.checkpoints import Checkpoint
from qi_ext.training.episode_counter import EpisodeCounter
from qi_ext.training.health import Health
from qi_ext.training.learner import make_learner, require_backend, warm_start
from qi_ext.training.log import ProgressLog
from qi_ext.training.loop import learn
from qi_ext.training.metadata import agent_metadata
from qi_ext.training.progress_line import ProgressLine
from qi_ext.training.recording import clones_inferred, examined, require_recording
from qi_ext.training.source import make_source as source_of
from qi_ext.training.source import require_physics
from qi_ext.training.wandb_log import require_wandb
from qi_ext.utils.display import Display, make_console, say
from qi_ext.utils.errors import Terminated, UserError
from qi_ext.utils.programs import command, shell_word
from qi_ext.utils.signals import Signals


class TrainingRun:
    """A run's environment, source, learner, counters and directory, to be entered, trained and left.

    Entered, it holds the directory, the pool and the signals: Ctrl-C, SIGTERM and SIGHUP then wait for the end of an update.
    """

    def __init__(self, start, make_source=None):
        """Check everything that can be checked, then build; nothing is written before it is entered. Raises UserError.

        start: a `resume.Start`. make_source: called as `PoolSource` is, to give another `RolloutSource` than the config's.
        """
        self.directory = start.directory
        require_recording(start)
        # As it is found from anywhere, for whoever resumes it.
        self.config = config = start.config.replace(demonstrations=resolved_name(start.config.task.demonstrations))
        require_wandb(config)
        require_backend(config)
        require_physics(config)
        self.device, self._why_device = choose_device(config.run.device)
        torch.set_num_threads(config.run.learner_threads)
        learner_seed, self._cloning_seed = np.random.SeedSequence(config.run.seed).spawn(2)
        self.env = QuadrupedDirection(**config.task.of_training, seed=config.run.seed)
        # Episodes start from the demonstrations as the task fits them; "upstream" keeps the recorded goals for the learner.
        self.demonstrations = self.env.demonstrations
        if config.task.compat == "upstream":
            self.demonstrations = load_demonstrations(
                config.task.demonstrations, self.env.commands, compat="upstream", **config.task.of_recording
            )
        self._starts_hash = self.env.demonstrations.content_hash()
        self._demonstrations_hash = "-".join(dict.fromkeys([self._starts_hash, self.demonstrations.content_hash()]))
        if config.warm_start.warm_start and config.warm_start.warm_start_actions == "recorded":
            check_actions(self.demonstrations)
        # A run that goes on has the demonstrations that it began with.
        self._measures = [] if start.checkpoint is not None else examined(config, self.demonstrations, self.env.model)
        self.learner = make_learner(config, self.env.info, self.demonstrations, learner_seed, self.device)
        disturbances = TrainingDisturbances(**dict(config.disturbances))
        self.source = source_of(config, self.env, self.device, disturbances, make_source)
        # Envs whose episodes' returns are noted: those left undisturbed, where there are any.
        spared = disturbances.spared(range(self.source.n_envs))
        self.measured = spared if spared.any() else ~spared
        # Every env takes as many steps a batch, and a run as many batches as it needs.
        n_envs = self.source.n_envs
        self.batch_size = -(-config.trpo.batch_size // n_envs) * n_envs
        self.n_steps = -(-config.run.n_steps // self.batch_size) * self.batch_size
        self.counter = EpisodeCounter(self.batch_size)
        self.signals = Signals()
        self._health = Health(self.env.task.speed, config.policy.min_std)
        self._progress_line = ProgressLine()
        self._resources = ExitStack()
        self._began_at, self._seconds_before = None, 0.0  # the latter: of training, in the runs that this one goes on from
        self._resumed = start.checkpoint is not None
        if self._resumed:
            try:
                start.checkpoint.require_demonstrations(config.task.demonstrations, self._demonstrations_hash)
                start.checkpoint.load_into(self._parts())
                self._seconds_before = start.checkpoint.seconds
            except UserError:
                self.source.close()
                raise

    def __enter__(self):
        with ExitStack() as stack:
            stack.enter_context(self.signals)
            stack.callback(self.source.close)
            stack.enter_context(self.directory.lock())
            step = self.counter.steps if self._resumed else None
            self.log = stack.enter_context(closing(ProgressLog(self.directory, self.config, step)))
            self.directory.checkpoints.rename_after(self.counter.steps if self._resumed else -1)
            self._health.recall(self.log.rows)
            self._resources = stack.pop_all()
        self._began_at = self._saved_at = self._noted_at = time.monotonic()
        return self

    def __exit__(self, *exception):
        return self._resources.__exit__(*exception)

    def finished(self):
        """Return the content of result.json of a run that is over, else None."""
        result = self.directory.read_result() if self._resumed and self.is_over() else None
        if result is not None:
            self.source.close()
            say(
                f"finished already, at {self.counter.steps:,} steps; more --n_steps or --minutes goes on with it, another "
                "--seed trains another (make train: STEPS=, SEED=)"
            )
        return result

    def train(self):
        """Warm start, train and save; return its part of result.json. Only while entered; raises as `learn` does."""
        self._introduce()
        try:
            if not self._resumed:
                self._warm_start()
                self.save()
        except (KeyboardInterrupt, Terminated):
            say(f"stopped before the first step; begin again with {self.resume_hint}")
            raise
        if self.is_over() and self.n_steps and not self.counter.steps:
            say("the warm start took all of --minutes; nothing is trained")
        try:
            with Display("training", self.n_steps, done=self.counter.steps) as self._display:
                learn(self)
        except FloatingPointError as error:
            steps = self.directory.checkpoints.steps()
            raise FloatingPointError(f"{error} ({self.directory.checkpoints.directory(steps[-1])})") from None
        return self._result()

    def is_over(self):
        """Return whether the run has had its steps or its minutes."""
        minutes = self.config.run.minutes
        return self.counter.steps >= self.n_steps or (minutes > 0.0 and self._seconds() >= 60.0 * minutes)

    def note(self, rollouts, diagnostics, seconds):
        """Log an update, show it, and warn of what goes wrong in it.

        rollouts: learned from. diagnostics, seconds: {name: number}, of the learner, and of the times that it took.
        """
        step, now = self.counter.steps, time.monotonic()
        episodes, return_mean, length_mean = self.counter.since(step - rollouts.n_steps)
        figures = {
            "return_mean": return_mean,
            "length_mean": length_mean,
            "episodes": episodes,
            "blow_ups": int(rollouts.episodes["blew_up"].sum()),
            "speed_along": rollouts.speed_along(),
            "steps_per_second": rollouts.n_steps / (now - self._noted_at),
            **seconds,
            **diagnostics,
        }
        self._noted_at = now
        self.log.write(step, figures)
        if figures["blow_ups"]:
            self._display.say(f"{figures['blow_ups']} simulations blew up; their episodes ended as falls (step {step:,})")
        for warning in self._health.look(figures):
            self._display.say(f"warning, step {step:,}: {warning}")
        self._display.update(step, *self._progress_line.lines(figures))

    def is_checkpoint_due(self):
        """Return whether the last checkpoint is as old as it may get."""
        return time.monotonic() - self._saved_at >= 60.0 * self.config.run.checkpoint_every

    def save(self):
        """Write a checkpoint, and the agent as it is."""
        self.log.sync()
        checkpoint = Checkpoint.of(
            self._parts(),
            step=self.counter.steps,
            score=self.counter.recent_return(),
            config=self.config.settings(),
            seconds=self._seconds(),
            demonstrations_hash=self._demonstrations_hash,
        )
        self.directory.checkpoints.save(checkpoint, self._save_agent, self.config.run.keep_checkpoints)
        self._save_agent(self.directory.agent)
        self._saved_at = time.monotonic()

    def say_stopped(self):
        """Tell how to go on."""
        say(f"stopped at {self.counter.steps:,} steps; go on with {self.resume_hint}")

    @property
    def resume_hint(self):
        """The command that goes on with the run."""
        return f"{command('train')} --resume {shell_word(self.directory.path.absolute())}"

    def _introduce(self):
        config, disturbances = self.config, self.config.disturbances
        algorithm = config.run.algorithm.upper() + ("" if config.run.backend == "native" else f" of {config.run.backend}")
        say(f"{algorithm} on {config.task.task}, seed {config.run.seed}, {self.n_steps:,} steps of 10 ms")
        say(f"demonstrations: {self.demonstrations.source}, {len(self.demonstrations.states):,} states")
        for note in self.demonstrations.notes:
            say(f"  - {note}")
        if disturbances.push or disturbances.torque_noise:
            noise = f"noise at the joints of {disturbances.torque_noise:g}"
            start = f", from step {disturbances.disturb_after:,} on" if disturbances.disturb_after else ""
            say(f"every other env: pushes of up to {disturbances.push:g} N, {noise}{start}")
            if disturbances.disturb_after >= self.n_steps > 0:
                say("  the run ends before that, and has none of them; a smaller --disturb_after changes that")
        say(f"learning on {self.device} ({self._why_device}), acting in {self.source.place}")
        say(f"run directory: {self.directory.path}")
        if self._resumed:
            say(f"going on from step {self.counter.steps:,}")

        if self._measures:
            make_console().print(table_of(self._measures, self.config.task.demonstrations))
        inferred = clones_inferred(config, self.demonstrations)
        warning = warning_of_inferred(self._measures) if inferred else None
        if warning is not None:
            say(f"warning: {warning}")

    def _warm_start(self):
        settings = self.config.warm_start
        if not settings.warm_start:
            return
        demonstrations = self.demonstrations
        if clones_inferred(self.config, demonstrations):
            with Display("inferring actions", len(demonstrations.states), "states") as display:
                demonstrations = with_inferred_actions(demonstrations, self.env.model, self.source.n_workers, display.advance)
                display.say(demonstrations.notes[-1])
        with Display("cloning", settings.warm_start, "epochs") as display:
            warm_start(
                self.config,
                self.learner.policy,
                demonstrations,
                self._cloning_seed,
                lambda epoch, loss: display.update(epoch, f"error {loss:.5f}"),
            )

    def _parts(self):
        """The parts of a checkpoint, {name in the file: part}."""
        return {"agent": self.learner, "lanes": self.source, "episodes": self.counter}

    def _seconds(self):
        """Seconds of training, in this run and in those it goes on from."""
        return self._seconds_before + (0.0 if self._began_at is None else time.monotonic() - self._began_at)

    def _save_agent(self, path):
        metadata = agent_metadata(self.config, self.counter.steps, self._starts_hash, self.demonstrations.source)
        self.learner.policy.save_agent(path, metadata)

    def _result(self):
        first, last = self.counter.window_lengths()
        return {
            "task": self.config.task.task,
            "algorithm": self.config.run.algorithm,
            "seed": self.config.run.seed,
            "steps": self.counter.steps,
            "episodes": self.counter.episodes,
            "blow_ups": self.counter.blow_ups,
            "directory": str(self.directory.path),
            "training_seconds": self._seconds(),
            "best_checkpoint": self.directory.checkpoints.best(),
            "demonstrations": self.demonstrations.source,
            "demonstrations_hash": self._starts_hash,
            f"episode_length_first_{self.counter.window}": first,
            f"episode_length_last_{self.counter.window}": last,
            "device": str(self.device),
            "mujoco": mujoco.__version__,
        }
