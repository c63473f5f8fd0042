"""The training loop: mushroom-rl's Core, an imitation agent, and everything that a run leaves behind."""

import importlib.metadata
import signal
import threading
import time
from contextlib import closing, contextmanager

import mujoco
import numpy as np
import torch

from qi_ext.demonstrations import load_demonstrations, resolved_name
from qi_ext.errors import SamplingError, Terminated
from qi_ext.evaluation import compare, table
from qi_ext.imitation import GAIL, VAIL
from qi_ext.imitation.cloning import check_actions, clone
from qi_ext.sampling import ParallelCore
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.display import Display, make_console, say
from qi_ext.training.log import EpisodeCounter, ProgressLog
from qi_ext.training.run_directory import RunDirectory

AGENTS = {"gail": GAIL, "vail": VAIL}
WINDOW_STEPS = 20_000
VERSIONS = ("torch", "mujoco", "numpy", "loco-mujoco", "mushroom-rl")


class Training:
    """One run, from a config to a directory with an agent in it."""

    def __init__(self, config):
        """Check everything that can be checked, then build; nothing is written before `run`. Raises UserError."""
        self.config = config
        self.directory = RunDirectory(config)
        torch.set_num_threads(config.learner_threads)
        for_agent, self._for_cloning = np.random.SeedSequence(config.seed).spawn(2)
        # The environment reads the demonstrations as the task fits them; "upstream" keeps the recorded goals for the learner.
        self.env = QuadrupedDirection(
            config.task,
            n_directions=config.n_directions,
            speed=config.speed,
            demonstrations=config.demonstrations,
            seed=config.seed,
        )
        self.demonstrations = self.env.demonstrations
        if config.compat == "upstream":
            self.demonstrations = load_demonstrations(config.demonstrations, self.env.commands, compat="upstream")
        if config.warm_start:
            check_actions(self.demonstrations)
        self.agent = AGENTS[config.algorithm](self.env.info, self.demonstrations, config, for_agent)
        self.counter = EpisodeCounter()
        self._signals = _Signals()
        self.core = ParallelCore(
            self.agent,
            self.env,
            callbacks_fit=[self._after_fit],
            n_envs=config.n_envs,
            lanes_per_block=config.lanes_per_block,
            pool=config.pool,
            n_workers=config.n_workers,
            scheduler=config.scheduler,
            seed=config.seed,
        )
        # Every lane takes as many steps a batch, and a run as many batches as it needs.
        self.batch_size = -(-config.batch_size // config.n_envs) * config.n_envs
        self.n_steps = -(-config.n_steps // self.batch_size) * self.batch_size

    def run(self):
        """Train, evaluate, write; returns what result.json holds.

        Ctrl-C raises KeyboardInterrupt, SIGTERM raises Terminated, both after the agent is saved.
        """
        with self._signals, closing(self.core):
            self.directory.create(self.config)
            with closing(ProgressLog(self.directory.path, self.config)) as self._log:
                try:
                    return self._run()
                except (KeyboardInterrupt, Terminated, SamplingError):
                    self._save(self.counter.steps)
                    say(f"stopped at {self.counter.steps:,} steps; the agent is in {self.directory.agent}")
                    raise

    def _run(self):
        start = time.monotonic()
        self._introduce()
        self._warm_start()
        self._save(0)
        self._learn()
        result = self._result(training_seconds=time.monotonic() - start)
        if self.config.evaluation_episodes:
            start = time.monotonic()
            result["evaluation"] = self._evaluate()
            result["evaluation_seconds"] = time.monotonic() - start
            with self._signals.held():
                self._log.write_hyperparameters(
                    {name: result["evaluation"][name]["return_mean"] for name in ("deterministic", "stochastic")}
                )
        self.directory.write_result(result)
        if "evaluation" in result:
            make_console().print(table(result["evaluation"], self.demonstrations.source))
        return result

    def _introduce(self):
        config = self.config
        say(f"{config.algorithm.upper()} on {config.task}, seed {config.seed}, {self.n_steps:,} steps of 10 ms")
        say(f"demonstrations: {self.demonstrations.source}, {len(self.demonstrations.states):,} states")
        for note in self.demonstrations.notes:
            say(f"  - {note}")
        say(f"run directory: {self.directory.path}")

    def _warm_start(self):
        epochs = self.config.warm_start
        if not epochs:
            return
        with Display("cloning", epochs, "epochs") as display:
            clone(
                self.agent.policy,
                self.demonstrations,
                epochs,
                self.config,
                self._for_cloning,
                lambda epoch, loss: display.update(epoch, f"error {loss:.5f}"),
            )

    def _learn(self):
        with Display("training", self.n_steps) as display:
            self._display = display
            self._saved_at = 0
            self.core.learn(n_steps=self.n_steps, n_steps_per_fit=self.config.batch_size, quiet=True)
        self._save(self.n_steps)

    def _after_fit(self, dataset):
        with self._signals.held():
            self._note()

    def _note(self):
        """Write down what the update that was just made leaves behind."""
        self.counter.add(self.batch_size, self.config.n_envs, self.core.episodes)
        step = self.counter.steps
        episodes, return_mean, length_mean = self.counter.since(step - self.batch_size)
        rate = self.batch_size / (self.core.collect_seconds + self.core.fit_seconds)
        blow_ups = int(self.core.episodes["blew_up"].sum())
        row = {
            "return_mean": return_mean,
            "length_mean": length_mean,
            "episodes": episodes,
            "blow_ups": blow_ups,
            "steps_per_second": rate,
            "collect_seconds": self.core.collect_seconds,
            "learn_seconds": self.core.fit_seconds,
        }
        self._log.write(step, row | self.agent.diagnostics)
        if blow_ups:
            self._display.say(f"{blow_ups} simulations blew up; their episodes ended as falls (step {step:,})")
        accuracy = [self.agent.diagnostics.get(f"discriminator_accuracy_{side}", float("nan")) for side in ("policy", "expert")]
        shown = "no episode ended" if not episodes else f"return {return_mean:.1f}  length {length_mean:.0f}"
        self._display.update(step, f"{rate:.0f} steps/s  {shown}  D {accuracy[0]:.2f}/{accuracy[1]:.2f}")
        if step - self._saved_at >= self.config.checkpoint_steps:
            self._saved_at = step
            self._save(step)

    def _save(self, step):
        metadata = {
            "task": self.config.task,
            "algorithm": self.config.algorithm,
            "step": str(step),
            "seed": str(self.config.seed),
            "n_directions": str(self.config.n_directions),
            "speed": str(self.config.speed),
            "lanes_per_block": str(self.config.lanes_per_block),
            "demonstrations": resolved_name(self.config.demonstrations),
            "demonstrations_hash": self.env.demonstrations.content_hash(),
            "demonstrations_source": self.demonstrations.source,
            "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS),
        }
        for path in (self.directory.checkpoint_agent(step), self.directory.agent):
            self.agent.policy.save_agent(path, metadata)

    def _result(self, training_seconds):
        first, last = self.counter.window_lengths(WINDOW_STEPS)
        return {
            "task": self.config.task,
            "algorithm": self.config.algorithm,
            "seed": self.config.seed,
            "steps": self.n_steps,
            "episodes": len(self.counter.episodes),
            "blow_ups": self.counter.blow_ups,
            "directory": str(self.directory.path),
            "training_seconds": training_seconds,
            "demonstrations": self.demonstrations.source,
            "demonstrations_hash": self.env.demonstrations.content_hash(),
            f"episode_length_first_{WINDOW_STEPS}": first,
            f"episode_length_last_{WINDOW_STEPS}": last,
            "mujoco": mujoco.__version__,
        }

    def _evaluate(self):
        episodes = self.config.evaluation_episodes
        with Display("evaluating", 4 * episodes * len(self.env.commands), "episodes") as display:
            return compare(
                self.core.path.sampler, self.agent.policy.actor, episodes, self.config.seed, self.n_steps, display.advance
            )


class _Signals:
    """While entered, SIGINT raises KeyboardInterrupt, SIGTERM Terminated, once: the next is ignored while we save."""

    def __init__(self):
        self._held, self._stop, self._before = False, None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other gets signals
            self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self):
        """What is done here is done to its end before a signal counts: a queue that is left halfway may never be read again."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._stop:
            raise self._stop

    def _on_signal(self, number, frame):
        for each in self._before:
            signal.signal(each, signal.SIG_IGN)
        self._stop = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if not self._held:
            raise self._stop
