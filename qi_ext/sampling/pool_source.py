"""The A1 in the pool: blocks of envs, sent to workers as values and back."""

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import mujoco
import numpy as np

from qi_ext.robot.commands import Command
from qi_ext.robot.courses import Course
from qi_ext.sampling import physics
from qi_ext.sampling.controllers import Controller, PolicyController
from qi_ext.sampling.disturbances import UNDISTURBED, TrainingDisturbances
from qi_ext.sampling.env_spec import STATE
from qi_ext.sampling.envs import ENVS, EPISODES, Envs, episode_seed, named, seed_of
from qi_ext.sampling.pool import Pool
from qi_ext.sampling.rollouts import Rollouts, WholeEpisodes
from qi_ext.sampling.source import RolloutSource
from qi_ext.tasks.task import DRAWN
from qi_ext.utils.errors import SamplingError
from qi_ext.utils.simulation_context import simulation_context


class PoolSource(RolloutSource):
    """`n_envs` envs of the loco-mujoco A1, each of which goes on where it stopped, in the next rollouts.

    What it gathers depends on its arguments and the seed only, never on the workers. Beside its own envs it runs episodes in
    others, for evaluation: `envs`, `tell` and `run_episodes`.
    """

    def __init__(
        self,
        environment: Any,
        n_envs: int = 32,
        lanes_per_block: int = 4,
        seed: int = 0,
        disturbances: TrainingDisturbances = UNDISTURBED,
        pool: str = "loky",
        n_workers: int | str = "auto",
        scheduler: str = "",
    ) -> None:
        """environment: a `QuadrupedDirection` or loco-mujoco's `UnitreeA1`, read once; used again for `initial_states` only.

        lanes_per_block: envs whose actions are computed together, in one worker; part of the result. seed: an int.
        disturbances: `TrainingDisturbances`. pool, n_workers, scheduler: as `Pool` takes them.
        Raises ValueError where envs like `environment` cannot be stepped as values, UserError for a pool that cannot be had.
        """
        # Here, because it imports loco_mujoco and torch, and the processes that draw, which import this module, can do without.
        from qi_ext.sampling.read_environment import read_environment

        self.environment = environment
        self.spec = read_environment(environment)
        self.lanes_per_block = lanes_per_block
        self._key = uuid.uuid4().hex
        install = (self._key, self.spec)
        physics.install_here(*install)
        self._pool = Pool(pool, n_workers, scheduler, physics.install, install, in_process=simulation_context)
        self.n_envs, self.n_workers, self.place = n_envs, self._pool.n_workers, self._pool.place
        self._seed = seed
        self._disturbances = disturbances
        self._seeds = [seed_of(seed, ENVS, env) for env in range(n_envs)]
        self._envs = self.envs(self._seeds)
        self._n_whole = 0  # whole episodes that were collected
        self._started: Any = None
        self._sent: Any = None
        self._gathered: Any = None

    def start(self, agent: Any, n_steps: int | None = None, n_episodes: int | None = None, step: int = 0) -> None:
        self.drop()
        controller: Controller = PolicyController(agent.policy.actor, getattr(agent.policy, "deterministic", False))
        controller = self._disturbances.at(step).around(controller)
        if n_steps is not None:
            tasks = self._tasks(self._envs, controller, -(-n_steps // self.n_envs))
            self._started = physics.step_fragment, tasks, _namer("env", self._seeds)
        else:
            numbers = range(self._n_whole, self._n_whole + n_episodes)
            seeds = [seed_of(self._seed, EPISODES, number) for number in numbers]
            tasks = self._tasks(self.envs(seeds), controller)
            self._started = physics.run_episodes, tasks, _namer("episode", seeds, numbers.start)
        try:
            self._sent = self._run(*self._started)
        except SamplingError:
            self._sent = None  # `wait` meets it again, and raises it

    def wait(self) -> None:
        if self._gathered is None:
            running, self._sent = self._sent or self._run(*self._started), None
            with closing(running):
                results = dict(running)
            self._gathered = [results[index] for index in range(len(results))]

    def collect(self) -> Rollouts | WholeEpisodes:
        self.wait()
        function, gathered = self._started[0], self._gathered
        self._started = self._sent = self._gathered = None
        if function is physics.step_fragment:
            envs, rollouts = zip(*gathered, strict=True)
            self._envs = Envs.concatenate(envs)
            return Rollouts.join(rollouts)
        episodes = [block.episode(row) for block in gathered for row in np.sort(block.episodes, order="env")]
        self._n_whole += len(episodes)
        return _whole(episodes)

    def drop(self) -> None:
        if self._sent is not None:
            self._sent.close()
        self._started = self._sent = self._gathered = None

    def evaluate(
        self,
        agent: Any,
        numbers: range,
        initial_states: Sequence[np.ndarray] | None = None,
        step: int = 0,
        deterministic: bool | None = None,
    ) -> WholeEpisodes:
        if self._sent is not None:
            self.wait()  # because a pool whose worker dies stops all that it runs
        commands = self.spec.task.commands or [None]
        chosen = [commands[number % len(commands)] for number in numbers]
        seeds = [
            episode_seed(self._seed, step, command, number // len(commands), commands)
            for number, command in zip(numbers, chosen, strict=True)
        ]
        envs = self.envs(seeds)
        if initial_states is not None:
            for env, number in enumerate(numbers):
                self._set_start(envs, env, initial_states[number])
        elif self.spec.task.commands:
            self.tell(envs, chosen)
        if deterministic is None:
            deterministic = agent.policy.deterministic
        controller = PolicyController(agent.policy.actor, deterministic)
        found = dict(self.run_episodes(envs, controller, _namer("episode", seeds, numbers.start)))
        return _whole([found[env] for env in range(len(envs))])

    def state(self) -> dict[str, np.ndarray]:
        # Without whole episodes, which training does not gather, it is what checkpoints have always held.
        return self._envs.arrays() | ({"n_episodes": np.array(self._n_whole)} if self._n_whole else {})

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        envs, n_whole = self._envs.replaced_by(state), np.asarray(state.get("n_episodes", 0))
        if n_whole.shape or n_whole.dtype.kind != "i" or n_whole < 0:
            raise ValueError(f"envs: n_episodes must be a whole number of at least 0, not {n_whole}")
        if (envs.start_group != DRAWN).any():
            raise ValueError("envs: those of a run draw their commands, and are told none")
        self._envs, self._n_whole = envs, int(n_whole)

    def close(self) -> None:
        """Forget the environment, and end the workers, or part with a Dask cluster's."""
        physics.uninstall(self._key)
        self._pool.close()

    def envs(self, seeds: Sequence[np.random.SeedSequence]) -> Envs:
        """Other envs than the source's own, before their first episode, one for each `numpy.random.SeedSequence`."""
        return Envs.fresh(seeds, self.spec.state_size, self.spec.task.command_size)

    def tell(self, envs: Envs, commands: Iterable[Command | Course]) -> None:
        """Tell each of `envs` what to do in its next episode, one `Command` or `Course` each."""
        for env, command in enumerate(commands):
            envs.command[env], envs.start_group[env] = self.spec.task.tell(command)

    def run_episodes(
        self, envs: Envs, controller: Controller, name: Callable[[int], str] | None = None
    ) -> Iterator[tuple[int, Rollouts]]:
        """Run a whole episode in each of `envs`; yields (env, `Rollouts` of that one episode) as blocks of them are done.

        controller: of `qi_ext.sampling.controllers`. name(env): for messages. Raises SamplingError.
        """
        running = self._run(physics.run_episodes, self._tasks(envs, controller), name or (lambda env: f"env {env}"))
        for index, rollouts in running:
            for episode in np.sort(rollouts.episodes, order="env"):
                yield index * self.lanes_per_block + int(episode["env"]), rollouts.episode(episode)

    def _tasks(self, envs: Envs, controller: Controller, *more: int) -> list[tuple]:
        rows = self.lanes_per_block
        blocks = (envs[begin : begin + rows] for begin in range(0, len(envs), rows))
        return [(self._key, block, rows, controller, *more) for block in blocks]

    def _run(self, function: Callable, tasks: list[tuple], name: Callable[[int], str]) -> Generator:
        def name_of_task(index: int, env: int | None) -> str:
            first, n = index * self.lanes_per_block, len(tasks[index][1])
            if env is not None or n == 1:
                return name(first + (env or 0))
            return f"envs {first} to {first + n - 1}"

        return self._pool.run(function, tasks, name_of_task)

    def _set_start(self, envs: Envs, env: int, observation: np.ndarray) -> None:
        """Give an env the state after the environment's own reset to `observation`."""
        self.environment.reset(np.asarray(observation))
        envs.command[env] = self.environment.command_array
        mujoco.mj_getState(self.spec.model, self.environment._data, envs.state[env], STATE)
        envs.running[env] = True


def _whole(episodes: list[Rollouts]) -> WholeEpisodes:
    """`WholeEpisodes` of `Rollouts` of one episode each."""
    rows = np.concatenate([episode.episodes for episode in episodes])
    return WholeEpisodes([episode.dataset() for episode in episodes], [[] for _ in episodes], rows)


def _namer(what: str, seeds: Sequence[np.random.SeedSequence], first: int = 0) -> Callable[[int], str]:
    return lambda index: named(f"{what} {first + index}", seeds[index])
