"""A block of envs beside the environments themselves: the same starts and actions, through `reset` and `step`."""

import contextlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import mujoco
import numpy as np
import pytest
import threadpoolctl
from scipy.stats import chi2, chisquare

import qi_ext
from qi_ext.agents.acting import Actor
from qi_ext.demonstrations.trot import TrotController
from qi_ext.robot import a1
from qi_ext.robot.commands import Command, angle_between
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController
from qi_ext.sampling.env_spec import STATE
from qi_ext.sampling.envs import EnvError
from qi_ext.sampling.read_environment import read_environment, why_not_as_values
from qi_ext.sampling.rollouts import ARRAYS
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.generators import unpack_generator

ROOT = Path(qi_ext.__file__).parents[1]
HORIZON = 8
STOCK = {
    "any sample": {},
    "one sample": {"random_start": False, "init_step_no": 67},
    "first samples": {"random_start": False},
    "position control": {"action_mode": "position"},
    "without falls": {"use_absorbing_states": False},
    "without reward": {"reward_type": None},
}


@pytest.fixture(scope="module", params=STOCK)
def stock_environment(make_stock, request):
    return make_stock(**STOCK[request.param])


def sample_number(stock, observation):
    """The number of the one sample, of all trajectories, that an observation of the stock environment shows."""
    samples = np.stack([column.reshape(-1) for column in stock.trajectories.trajectories[2:36]], axis=1)
    (number,) = np.flatnonzero((samples == observation[: a1.GOAL.start]).all(axis=1))
    return int(number)


def reset_to(environment, observation):
    """Let the environment itself start an episode at `observation`; returns what it then observes."""
    if isinstance(environment, QuadrupedDirection):
        return environment.reset(obs=observation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_random_start", False)
        patch.setattr(environment, "_init_step_no", sample_number(environment, observation))
        return environment.reset()


def compare_with(environment, envs, rollouts):
    """Replay the starts and actions of fresh envs in the environment, and compare all that it returns."""
    for env in range(len(envs)):
        begins = True
        for t in range(rollouts.n_steps // len(envs)):
            if begins:
                steps = 0
                close(reset_to(environment, rollouts.observations[env, t]), rollouts.observations[env, t])
            observation, reward, absorbing, _ = environment.step(rollouts.actions[env, t])
            steps += 1
            close(rollouts.next_observations[env, t], observation)
            close(rollouts.rewards[env, t], np.squeeze(reward))
            assert rollouts.absorbing[env, t] == absorbing
            assert rollouts.truncated[env, t] == (steps == environment.info.horizon and not absorbing)
            begins = absorbing or steps == environment.info.horizon
        assert envs.running[env] == (not begins)
        if envs.running[env]:
            assert envs.step[env] == steps
            # All of the state: x, y and the solver's warm start, too.
            state = np.empty(mujoco.mj_stateSize(environment._model, STATE))
            mujoco.mj_getState(environment._model, environment._data, state, STATE)
            close(envs.state[env], state, rtol=1e-9)


def close(actual, expected, rtol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-9)


# Steps


@pytest.mark.parametrize("task", ["simple", "hard"])
def test_envs_do_what_the_task_does(task, make_simulator, controller):
    environment = QuadrupedDirection(task, horizon=HORIZON)
    simulator = make_simulator(environment)
    envs, rollouts = simulator.step(simulator.envs(10), controller, 42)
    # All that is to be compared must be there.
    assert len({tuple(goal) for goal in rollouts.observations[:, :, a1.GOAL].reshape(-1, 3)}) == len(environment.commands)
    assert np.abs(rollouts.actions).max() > 1.5
    assert rollouts.absorbing.sum() > 10
    assert rollouts.truncated.sum() >= 3
    assert envs.running.sum() >= 3
    compare_with(environment, envs, rollouts)


def test_envs_do_what_loco_mujocos_own_environment_does(stock_environment, make_simulator, make_actor):
    simulator = make_simulator(stock_environment)
    envs, rollouts = simulator.step(simulator.envs(10), PolicyController(make_actor(std=0.8)), 42)
    assert rollouts.absorbing.any() == stock_environment._use_absorbing_states
    assert rollouts.truncated.any()
    assert envs.running.any()
    compare_with(stock_environment, envs, rollouts)


def test_the_expert_walks_in_an_env_as_it_does_in_the_task(make_simulator):
    """200 steps, because differences grow on the way."""
    environment = QuadrupedDirection("hard", horizon=200)
    simulator = make_simulator(environment)
    envs = simulator.envs(2)
    for env, direction in enumerate((45.0, 180.0)):
        envs.command[env], envs.start_group[env] = simulator.spec.task.tell(Command(direction))
    for direction, rollouts in zip((45.0, 180.0), simulator.run_episodes(envs, ExpertController()), strict=True):
        assert rollouts.episodes["length"] == 200
        observation = environment.reset(obs=rollouts.observations[0, 0])
        assert angle_between(environment.command.direction_deg, direction) < 1e-9
        trot = TrotController(environment.model, environment.command.direction, environment.command.speed)
        trot.reset(environment.data)
        for t in range(200):
            close(rollouts.observations[0, t], observation)
            close(rollouts.actions[0, t], trot.action(environment.data))
            observation, reward, absorbing, _ = environment.step(rollouts.actions[0, t])
            close(rollouts.rewards[0, t], reward)
            assert not absorbing


def test_a_whole_episode_is_the_first_one_of_a_fragment_also_where_others_of_its_block_have_ended(simulator, controller):
    _, fragment = simulator.step(simulator.envs(6), controller, HORIZON)
    lengths = set()
    for env, episode in enumerate(simulator.run_episodes(simulator.envs(6), controller)):
        length = int(episode.episodes["length"][0])
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(episode, name), getattr(fragment, name)[env : env + 1, :length])
        lengths.add(length)
    assert len(lengths) > 2


# Controllers


def test_an_action_is_the_policys_mean_and_noise_of_the_envs_own(simulator, make_actor, walked):
    actor, walked = make_actor(std=0.3), walked[np.flatnonzero(walked.running)]
    _, rollouts = simulator.step(walked, PolicyController(actor), 1)
    noise = [unpack_generator(words).standard_normal(a1.N_ACTIONS, dtype=np.float32) for words in walked.generator]
    mean = actor.mean(np.pad(rollouts.observations[:, 0], [(0, 12 - len(walked)), (0, 0)]))[: len(walked)]
    np.testing.assert_array_equal(rollouts.actions[:, 0], mean + actor.std * np.array(noise))
    assert rollouts.actions.dtype == np.float32


def test_a_deterministic_action_is_the_policys_mean(simulator, make_actor, walked):
    actor = make_actor(std=0.3)
    for rollouts in simulator.run_episodes(walked, PolicyController(actor, deterministic=True)):
        np.testing.assert_allclose(rollouts.actions, actor.mean(rollouts.observations), atol=1e-5)


def test_the_policy_sees_whole_blocks(simulator, controller, monkeypatch):
    """The result of a matrix product depends on its number of rows, which is therefore a setting."""
    shapes, mean = set(), Actor.mean

    def noted(actor, observations):
        shapes.add(observations.shape)
        return mean(actor, observations)

    monkeypatch.setattr(Actor, "mean", noted)
    simulator.run_episodes(simulator.envs(6), controller)
    simulator.step(simulator.envs(1), controller, 3)
    assert shapes == {(12, 37)}


def test_random_torques_are_uniform(simulator):
    actions = np.concatenate(
        [rollouts.actions[0] for rollouts in simulator.run_episodes(simulator.envs(40), RandomController())]
    )
    counts, _ = np.histogram(actions, bins=10, range=(-1.0, 1.0))
    assert counts.sum() == actions.size > 1000
    assert chisquare(counts).pvalue > 1e-3


# Starts


def test_an_env_starts_as_an_environment_of_its_seed_does(hard, make_simulator, controller):
    simulator = make_simulator(hard)
    _, rollouts = simulator.step(simulator.envs(12), controller, 1)
    for number in range(12):
        hard.seed(np.random.SeedSequence([0, number]))
        np.testing.assert_array_equal(rollouts.observations[number, 0], hard.reset())


def test_later_episodes_draw_as_the_environment_does(hard):
    starts, generator = read_environment(hard).task.starts, np.random.default_rng(5)
    hard.seed(5)
    for _ in range(50):
        observation = hard.reset()
        command, state = starts.draw(generator)
        np.testing.assert_array_equal(state, [0.0, 0.0, *observation[: a1.GOAL.start]])
        np.testing.assert_array_equal(command, observation[a1.GOAL])


def test_an_env_that_is_told_its_command_keeps_to_it(hard, simulator, controller):
    commands = [Command(30.0, 0.4), Command(200.0, 0.6)]  # not demonstrated: starts are of the nearest direction
    envs = simulator.envs(2)
    for env, command in enumerate(commands):
        envs.command[env], envs.start_group[env] = simulator.spec.task.tell(command)
    _, rollouts = simulator.step(envs, controller, 42)
    assert len(rollouts.episodes) >= 6
    for env, command in enumerate(commands):
        np.testing.assert_array_equal(rollouts.observations[env, :, a1.GOAL], np.tile(command.features, (42, 1)))
        hard.seed(np.random.SeedSequence([0, env]))
        np.testing.assert_array_equal(rollouts.observations[env, 0], hard.reset(command=command))


@pytest.mark.parametrize("stock_environment", ["any sample", "one sample", "first samples"], indirect=True)
def test_stock_episodes_start_from_the_samples_that_its_own_start_from(stock_environment):
    starts, generator = read_environment(stock_environment).task.starts, np.random.default_rng(0)
    n = 13 * int(np.diff(starts.groups).sum())  # so that each is drawn
    ours = [starts.draw(generator) for _ in range(n)]
    counts = np.bincount([sample_number(stock_environment, state[2:]) for _, state in ours], minlength=len(starts.states))
    commands = np.full((len(starts.states), 3), np.nan)
    before = np.random.get_state()  # noqa: NPY002 (loco-mujoco draws from it)
    stock_environment.seed(0)
    for _ in range(n):
        observation = stock_environment.reset()
        assert not stock_environment._data.qpos[:2].any()
        commands[sample_number(stock_environment, observation)] = observation[a1.GOAL]
    np.random.set_state(before)  # noqa: NPY002
    drawn = np.isfinite(commands[:, 0])
    np.testing.assert_array_equal(counts > 0, drawn)
    assert drawn.sum() == n // 13
    assert chisquare(counts[drawn]).statistic <= chi2.ppf(0.999, drawn.sum())
    for command, state in ours:
        close(command, commands[sample_number(stock_environment, state[2:])])
        assert not state[:2].any()


# Environments that cannot be stepped as values


def randomised(make_stock):
    import loco_mujoco

    config = Path(loco_mujoco.__file__).parent / "environments/data/quadrupeds/domain_randomization_unitree_a1.yaml"
    return QuadrupedDirection("simple", domain_randomization_config=config, parallel_dom_rand=False)


def subclass(make_stock):
    class Mine(QuadrupedDirection):
        pass

    return Mine("simple")


def rewarded(make_stock):
    return QuadrupedDirection("simple", reward_type="custom", reward_params={"reward_callback": lambda *step: 1.0})


REASONS = {
    "foot forces": lambda make_stock: QuadrupedDirection("simple", use_foot_forces=True),
    "domain randomisation": randomised,
    "Mine is neither": subclass,
    "CustomReward": rewarded,
    "turned at random": lambda make_stock: make_stock(setup_random_rot=True),
    "no trajectories": lambda make_stock: make_stock(traj_params=None),
}


@pytest.mark.parametrize("reason", REASONS)
def test_an_environment_that_cannot_be_stepped_as_values_is_refused_with_the_reason(reason, make_stock):
    environment = REASONS[reason](make_stock)
    assert reason in why_not_as_values(environment)
    with pytest.raises(ValueError, match=reason):
        read_environment(environment)


def test_a_task_without_demonstrations_is_refused():
    with pytest.raises(ValueError, match="no demonstrations"):
        read_environment(QuadrupedDirection("simple", demonstrations=None))


# Blow-ups


@pytest.fixture
def about_to_blow_up(simulator, walked):
    """`walked`, the legs of one running env at a speed that no integrator survives; its number is `env`."""
    envs, env, model = walked[:], int(np.flatnonzero(walked.running)[1]), simulator.spec.model
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, envs.state[env], STATE)
    data.qvel[6:] = 1e12
    mujoco.mj_getState(model, data, envs.state[env], STATE)
    return envs, env


def test_a_blow_up_is_absorbing_at_the_last_finite_observation(simulator, controller, walked, about_to_blow_up):
    envs, env = about_to_blow_up
    _, rollouts = simulator.step(envs, controller, 1)
    assert (rollouts.absorbing[env, 0], rollouts.truncated[env, 0], rollouts.last[env, 0]) == (True, False, True)
    np.testing.assert_array_equal(rollouts.next_observations[env, 0], rollouts.observations[env, 0])
    assert all(np.isfinite(getattr(rollouts, name)).all() for name in ARRAYS)
    (episode,) = rollouts.episodes[rollouts.episodes["env"] == env]
    assert (episode["time"], episode["fell"], episode["blew_up"]) == (0, True, True)
    assert episode["length"] == walked.step[env] + 1
    assert episode["episode_return"] == walked.episode_return[env] + rollouts.rewards[env, 0]
    assert not rollouts.episodes["blew_up"][rollouts.episodes["env"] != env].any()


def test_the_environment_blows_up_in_the_same_way(short, simulator, controller, about_to_blow_up):
    envs, env = about_to_blow_up
    _, rollouts = simulator.step(envs, controller, 1)
    short.reset(obs=rollouts.observations[env, 0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the simulation blew up")
        observation, reward, absorbing, _ = short.step(rollouts.actions[env, 0])
    close(rollouts.next_observations[env, 0], observation)
    close(rollouts.rewards[env, 0], reward)
    assert reward > 0.0
    assert absorbing


def test_other_envs_do_not_notice_a_blow_up_and_its_own_starts_anew(simulator, controller, walked, about_to_blow_up):
    envs, env = about_to_blow_up
    expected_envs, expected = simulator.step(walked, controller, 20)
    after, rollouts = simulator.step(envs, controller, 20)
    others = np.delete(np.arange(len(envs)), env)
    assert after[others].equals(expected_envs[others])
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(rollouts, name)[others], getattr(expected, name)[others])
    begun = rollouts.observations[env, 1]
    assert (simulator.spec.task.starts.states[:, 2:] == begun[: a1.GOAL.start]).all(axis=1).any()
    assert rollouts.episodes["blew_up"].sum() == 1


@pytest.mark.parametrize("pool", ["serial", "loky"])
def test_a_blow_up_leaves_no_trace(make_source, controller, capfd, tmp_path, pool):
    """MuJoCo by itself writes to stderr and to a file in the working directory."""
    environment = QuadrupedDirection("simple", horizon=5)
    environment.task.starts.states[:, 24:] = 1e12
    source = make_source(environment, lanes_per_block=2, pool=pool, n_workers=2)
    envs = source.envs([np.random.SeedSequence(i) for i in range(4)])
    with contextlib.chdir(tmp_path):
        assert all(rollouts.episodes["blew_up"].all() for _, rollouts in source.run_episodes(envs, controller))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


# The process


class Watching(PolicyController):
    """Notes the threads of BLAS while it acts."""

    def actions(self, block, observations, envs):
        self.threads = blas_threads()
        return super().actions(block, observations, envs)


def blas_threads():
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


def test_stepping_in_this_process_uses_one_blas_thread_meanwhile(make_source, make_actor):
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        source, controller = make_source(), Watching(make_actor())
        list(source.run_episodes(source.envs([np.random.SeedSequence(0)]), controller))
        assert controller.threads == {1}
        assert blas_threads() == {2}


def test_workers_need_neither_torch_nor_loco_mujoco_nor_gymnasium():
    program = (
        "import sys\n"
        "lacking = ['torch', 'loco_mujoco', 'mushroom_rl', 'gymnasium', 'scipy']\n"
        "sys.modules |= dict.fromkeys(lacking)\n"  # None there makes an import fail
        "import qi_ext.sampling.physics, qi_ext.sampling.controllers, qi_ext.sampling.disturbances, qi_ext.agents.acting\n"
        "import qi_ext.tasks.directions\n"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


# Faults


@pytest.mark.parametrize(("method", "more"), [("step", (3,)), ("run_episodes", ())])
def test_an_action_that_is_not_finite_names_its_env_and_changes_nothing(simulator, controller, walked, method, more):
    envs = walked[:]
    envs.command[np.flatnonzero(envs.running)[2], 2] = np.nan
    before = {name: array.copy() for name, array in vars(envs).items()}
    with pytest.raises(EnvError, match="the policy's action is not finite: .*nan") as caught:
        getattr(simulator, method)(envs, controller, *more)
    assert caught.value.env == np.flatnonzero(walked.running)[2]
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(envs, name), array)
