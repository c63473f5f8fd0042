"""The training loop: mushroom-rl's Core, an imitation agent, and everything that a run leaves behind."""

import shlex
import time
from contextlib import closing

import mujoco
import numpy as np
import torch

from qi_ext.demonstrations import load_demonstrations, resolved_name
from qi_ext.demonstrations.inverse_dynamics import with_inferred_actions
from qi_ext.evaluation import compare, gait_measures
from qi_ext.learning.cloning import check_actions, clone
from qi_ext.learning.device import choose_device
from qi_ext.learning.state import restore, state_of
from qi_ext.report.tables import table
from qi_ext.sampling import ParallelCore
from qi_ext.sampling.disturbances import TrainingDisturbances
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.algorithms import learner_builder
from qi_ext.training.checkpoints import Checkpoint
from qi_ext.training.episode_counter import WINDOW_STEPS, EpisodeCounter
from qi_ext.training.health import Health
from qi_ext.training.log import ProgressLog
from qi_ext.training.metadata import agent_metadata
from qi_ext.training.progress_line import ProgressLine
from qi_ext.training.wandb_log import require_wandb
from qi_ext.utils.display import Display, make_console, say
from qi_ext.utils.errors import SamplingError, Terminated, UserError
from qi_ext.utils.signals import Signals


class Training:
    """One run, from a config to a directory with an agent in it."""

    def __init__(self, start):
        """start: a `resume.Start`. Check everything that can be checked, then build; nothing is written before `run`.

        Raises UserError.
        """
        # As it is found from anywhere, for whoever resumes it.
        self.config = config = start.config.replace(demonstrations=resolved_name(start.config.task.demonstrations))
        self.directory = start.directory
        require_wandb(config)
        make_agent = learner_builder(config)
        self.device, self._why_device = choose_device(config.device, config)
        torch.set_num_threads(config.learner_threads)
        for_agent, self._for_cloning = np.random.SeedSequence(config.seed).spawn(2)
        # The environment reads the demonstrations as the task fits them; "upstream" keeps the recorded goals for the learner.
        self.env = QuadrupedDirection(
            config.task.task,
            n_directions=config.n_directions,
            speed=config.speed,
            demonstrations=config.demonstrations,
            seed=config.seed,
        )
        self.demonstrations = self.env.demonstrations
        if config.compat == "upstream":
            self.demonstrations = load_demonstrations(config.demonstrations, self.env.commands, compat="upstream")
        self._hash = self.env.demonstrations.content_hash()
        # Of the states that episodes start from, and of those learned from, where they are others.
        self._content = "-".join(dict.fromkeys([self._hash, self.demonstrations.content_hash()]))
        if config.warm_start.warm_start and config.warm_start_actions == "recorded":
            check_actions(self.demonstrations)
        self.agent = make_agent(self.env.info, self.demonstrations, config, for_agent, self.device)
        self.counter = EpisodeCounter()
        self._shown = ProgressLine()
        self._health = Health(config.speed, config.min_std)
        self._signals = Signals()
        disturbances = TrainingDisturbances(config.push, config.torque_noise, config.restart_every, config.disturb_after)
        # Lanes whose episodes' returns are noted: what robots are capable of, not what befalls them.
        spared = disturbances.spared(range(config.n_envs))
        self._measured = spared if spared.any() else ~spared
        self.core = ParallelCore(
            self.agent,
            self.env,
            callbacks_fit=[lambda dataset: self._note()],
            n_envs=config.n_envs,
            lanes_per_block=config.lanes_per_block,
            pool=config.pool,
            n_workers=config.n_workers,
            scheduler=config.scheduler,
            seed=config.seed,
            disturbances=disturbances,
            undisturbed=self._signals.held,
        )
        # Every lane takes as many steps a batch, and a run as many batches as it needs.
        self.batch_size = -(-config.batch_size // config.n_envs) * config.n_envs
        self.n_steps = -(-config.n_steps // self.batch_size) * self.batch_size
        self._resumed = start.checkpoint is not None
        self._began, self._seconds_before = None, 0.0  # of training, in the runs that this one goes on from
        if self._resumed:
            try:
                start.checkpoint.require_demonstrations(config.task.demonstrations, self._content)
                start.checkpoint.load_into(self._parts())
                self._seconds_before = start.checkpoint.seconds
            except UserError:
                self.core.close()
                raise

    def run(self):
        """Train, evaluate, write; returns what result.json holds.

        Ctrl-C raises KeyboardInterrupt, SIGTERM raises Terminated, both after a checkpoint is written. FloatingPointError for
        numbers that are not finite, OSError where nothing can be written: the last checkpoint stays as it is.
        """
        result = self.directory.read_result() if self._resumed and self._is_over() else None
        if result is not None:
            self.core.close()
            say(f"finished already, at {self.counter.steps:,} steps; more --n_steps or --minutes would go on")
            if "evaluation" in result and not self.directory.report.exists():
                self._report()
            return result | {"directory": str(self.directory.path)}
        with self._signals, closing(self.core), self.directory.lock():
            step = self.counter.steps if self._resumed else None
            with closing(ProgressLog(self.directory, self.config, step)) as self._log:
                self.directory.checkpoints.rename_after(self.counter.steps if self._resumed else -1)
                self._health.recall(self._log.rows)
                return self._run()

    def _run(self):
        self._began = self._saved = time.monotonic()
        self._introduce()
        try:
            if not self._resumed:
                self._warm_start()
                self._save()
        except (KeyboardInterrupt, Terminated):
            say(f"stopped before the first step; begin again with {self._resume_hint()}")
            raise
        try:
            self._learn()
        except FloatingPointError as error:
            steps = self.directory.checkpoints.steps()
            raise FloatingPointError(f"{error} ({self.directory.checkpoints.directory(steps[-1])})") from None
        result = self._result()
        if self.config.evaluation_episodes:
            start = time.monotonic()
            try:
                result["evaluation"] = self._evaluate()
            except (KeyboardInterrupt, Terminated):
                say(f"trained, but stopped in the evaluation; go on with {self._resume_hint()}")
                raise
            result["evaluation_seconds"] = time.monotonic() - start
            with self._signals.held():
                means = {name: result["evaluation"][name]["return_mean"] for name in ("deterministic", "stochastic")}
                self._log.write_hyperparameters(self.counter.steps, means)
        self.directory.write_result(result)
        if "evaluation" in result:
            make_console().print(table(result["evaluation"], self.demonstrations.source))
            self._report()
        return result

    def _introduce(self):
        config = self.config
        whose = "" if config.backend == "native" else f" of {config.backend}"
        say(f"{config.algorithm.upper()}{whose} on {config.task.task}, seed {config.seed}, {self.n_steps:,} steps of 10 ms")
        say(f"demonstrations: {self.demonstrations.source}, {len(self.demonstrations.states):,} states")
        for note in self.demonstrations.notes:
            say(f"  - {note}")
        if config.push or config.torque_noise:
            says = f"every other robot: pushes of up to {config.push:g} N, noise at the joints of {config.torque_noise:g}"
            say(says + (f", from step {config.disturb_after:,} on" if config.disturb_after else ""))
            if config.disturb_after >= self.n_steps > 0:
                say("warning: the run ends before that; a smaller --disturb_after has them in it")
        pool = self.core.path.sampler.pool
        where = config.scheduler or (f"{pool.n_workers} processes" if pool.has_workers else "this process")
        say(f"learning on {self.device} ({self._why_device}), acting in {where}")
        say(f"run directory: {self.directory.path}")
        if self._resumed:
            say(f"going on from step {self.counter.steps:,}")

    def _warm_start(self):
        epochs = self.config.warm_start.warm_start
        if not epochs:
            return
        demonstrations = self.demonstrations
        if self.config.warm_start_actions == "inferred" or demonstrations.actions is None:
            demonstrations = self._with_inferred_actions()
        with Display("cloning", epochs, "epochs") as display:
            clone(
                self.agent.policy,
                demonstrations,
                epochs,
                self.config,
                self._for_cloning,
                lambda epoch, loss: display.update(epoch, f"error {loss:.5f}"),
            )

    def _with_inferred_actions(self):
        demonstrations, n_threads = self.demonstrations, self.core.path.sampler.pool.n_workers
        with Display("inferring actions", len(demonstrations.states), "states") as display:
            inferred = with_inferred_actions(demonstrations, self.env.model, n_threads, display.advance)
            display.say(inferred.notes[-1])
        return inferred

    def _learn(self):
        """Train to the end, or until it is stopped, and save."""
        try:
            if not self._is_over():
                with Display("training", self.n_steps, done=self.counter.steps) as self._display:
                    self._last_note = time.monotonic()
                    n_steps = self.n_steps - self.counter.steps
                    self.core.learn(n_steps=n_steps, n_steps_per_fit=self.config.batch_size, quiet=True)
            elif self.n_steps and not self.counter.steps:
                say("the warm start took all of --minutes; nothing is trained")
            self._save()
        except (KeyboardInterrupt, Terminated, SamplingError):
            if self.core.n_steps == self.counter.steps:  # or it came from within an update
                self._save()
            say(f"stopped at {self.counter.steps:,} steps; go on with {self._resume_hint()}")
            raise

    def _is_over(self):
        minutes = self.config.minutes
        return self.counter.steps >= self.n_steps or (minutes > 0.0 and self._seconds() >= 60.0 * minutes)

    def _seconds(self):
        """Of training, in this run and in those it goes on from."""
        return self._seconds_before + (0.0 if self._began is None else time.monotonic() - self._began)

    def _note(self):
        """Write down what the update that was just made leaves behind."""
        episodes = self.core.episodes
        self.counter.add(self.batch_size, self.config.n_envs, episodes, self._measured[episodes["lane"]])
        step, figures = self.counter.steps, self._figures()
        self._log.write(step, figures)
        if figures["blow_ups"]:
            self._display.say(f"{figures['blow_ups']} simulations blew up; their episodes ended as falls (step {step:,})")
        for warning in self._health.look(figures):
            self._display.say(f"warning, step {step:,}: {warning}")
        self._display.update(step, *self._shown.lines(figures))
        if self._is_over():
            self.core.stop()
        elif time.monotonic() - self._saved >= 60.0 * self.config.checkpoint_every:
            self._save()

    def _figures(self):
        """What is logged of the last update, {name: number or None}."""
        episodes, return_mean, length_mean = self.counter.since(self.counter.steps - self.batch_size)
        now = time.monotonic()
        seconds, self._last_note = now - self._last_note, now
        return {
            "return_mean": return_mean,
            "length_mean": length_mean,
            "episodes": episodes,
            "blow_ups": int(self.core.episodes["blew_up"].sum()),
            "speed_along": self.core.path.rollouts.speed_along(),
            "steps_per_second": self.batch_size / seconds,
            "collect_seconds": self.core.collect_seconds,
            "learn_seconds": self.core.fit_seconds,
        } | self.agent.diagnostics

    def _resume_hint(self):
        return f"--resume {shlex.quote(str(self.directory.path))}"

    def _save(self):
        """Write a checkpoint, and the agent as it is."""
        self._log.sync()
        checkpoint = Checkpoint.of(
            self._parts(),
            step=self.counter.steps,
            score=self.counter.recent_return(),
            config=self.config.settings(),
            seconds=self._seconds(),
            demonstrations_hash=self._content,
        )
        self.directory.checkpoints.save(checkpoint, self._save_agent, self.config.keep_checkpoints)
        self._save_agent(self.directory.agent)
        self._saved = time.monotonic()

    def _parts(self):
        return {"agent": _Learner(self.agent), "lanes": _Envs(self.core), "episodes": self.counter}

    def _save_agent(self, path):
        metadata = agent_metadata(self.config, self.counter.steps, self._hash, self.demonstrations.source)
        self.agent.policy.save_agent(path, metadata)

    def _result(self):
        first, last = self.counter.window_lengths()
        return {
            "task": self.config.task.task,
            "algorithm": self.config.algorithm,
            "seed": self.config.seed,
            "steps": self.counter.steps,
            "episodes": self.counter.episodes,
            "blow_ups": self.counter.blow_ups,
            "directory": str(self.directory.path),
            "training_seconds": self._seconds(),
            "best_checkpoint": self.directory.checkpoints.best(),
            "demonstrations": self.demonstrations.source,
            "demonstrations_hash": self._hash,
            f"episode_length_first_{WINDOW_STEPS}": first,
            f"episode_length_last_{WINDOW_STEPS}": last,
            "device": str(self.device),
            "mujoco": mujoco.__version__,
        }

    def _evaluate(self):
        episodes, key = self.config.evaluation_episodes, (self.config.seed, self.counter.steps)
        measures = gait_measures(self.env, *key)
        with Display("evaluating", 4 * episodes * len(self.env.commands), "episodes") as display:
            evaluated = (self.core.path.sampler, self.agent.policy.actor, episodes, *key, display.advance)
            return compare(*evaluated, measures=measures)

    def _report(self):
        """Show it on a page. The run is finished without one: what prevents it is said, and no more."""
        from qi_ext.report.page import write_report  # matplotlib, which takes a second

        try:
            write_report([self.directory.path], self.directory.report, self.config.evaluation_episodes)
        except (KeyboardInterrupt, Terminated):
            say(f"trained and evaluated, but stopped before its page was written; {self._resume_hint()} writes it")
            raise
        except Exception as error:
            say(f"no report: {error}")


class _Learner:
    """The agent as a part of a checkpoint."""

    def __init__(self, agent):
        self._agent = agent

    def state(self):
        return state_of(self._agent)

    def load_state(self, state):
        restore(self._agent, state)


class _Envs:
    """The envs, and the counters of their core, as a part of a checkpoint."""

    def __init__(self, core):
        self._core = core

    def state(self):
        return self._core.path.lanes.arrays() | {"n_steps": self._core.n_steps, "n_episodes": self._core.n_episodes}

    def load_state(self, state):
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        self._core.restore(arrays, int(state["n_steps"]), int(state["n_episodes"]))
