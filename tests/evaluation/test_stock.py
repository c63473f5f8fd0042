"""The stock environment: it is what loco-mujoco makes, it agrees with ours, and its results are what happened."""

import contextlib
import importlib.metadata
import random
from contextlib import closing

import mujoco
import numpy as np
import pytest
from mushroom_rl.core import Agent, Core

from patches.loco_mujoco import synthetic
from qi_ext.agents.acting import Actor
from qi_ext.demonstrations import load_demonstrations
from qi_ext.evaluation import evaluate, load_evaluated_agent
from qi_ext.evaluation.stock import ActorPolicy, ExpertPolicy, evaluate_stock, stock_environment
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.sampling.controllers import ExpertController, PolicyController
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.tasks import QuadrupedDirection
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import SamplingError

COMMANDS = task_commands("hard")
TWO = task_commands("hard", 2)  # 0 and 180 degrees


@pytest.fixture(scope="module")
def trot():
    """The embedded demonstrations of 8 directions."""
    return load_demonstrations("trot", COMMANDS)


@pytest.fixture(scope="module")
def stander(trot):
    """A linear policy that stays on its feet for a whole episode: a spring and a damper in each joint."""
    stiffness, damping = 80.0 / a1.MAX_TORQUE, 2.0 / a1.MAX_TORQUE  # Nm/rad, Nms/rad
    weight = np.zeros((a1.N_ACTIONS, a1.N_OBSERVATIONS), dtype=np.float32)
    weight[:, a1.LEG_POSITION] = -stiffness * np.eye(a1.N_ACTIONS)
    weight[:, a1.LEG_VELOCITY] = -damping * np.eye(a1.N_ACTIONS)
    bias = (stiffness * trot.states[:, a1.LEG_POSITION].mean(axis=0)).astype(np.float32)
    zeros = np.zeros(a1.N_OBSERVATIONS, dtype=np.float32)
    return Actor([(weight, bias)], zeros, zeros + 1.0, np.full(a1.N_ACTIONS, -3.0, dtype=np.float32))


class Tumbler:
    """An actor that soon falls, with the list of (observation, action) of all its steps."""

    def __init__(self):
        self.steps = []

    def act(self, observation, deterministic=True, generator=None):
        action = np.full(a1.N_ACTIONS, 0.3 if observation[a1.TRUNK_VX] > 0.0 else -0.3)
        if not deterministic:
            action = action + generator.standard_normal(a1.N_ACTIONS)
        self.steps.append((observation.copy(), action))
        return action


def tumble(demonstrations, commands=TWO[:1], episodes=1, seed=0, step=0):
    return evaluate_stock(ActorPolicy(Tumbler(), deterministic=False), demonstrations, commands, episodes, seed, step)


@pytest.fixture(scope="module")
def tumbled(trot):
    """The result of one episode in each of the two directions."""
    return tumble(trot, TWO)


# The environment


def plain_attributes(environment):
    """The attributes of an environment that are numbers, texts and arrays, but for its state."""
    kinds = (bool, int, float, str, np.ndarray, type(None))
    state = ("_obs", "_dataset")
    return {name: value for name, value in vars(environment).items() if isinstance(value, kinds) and name not in state}


def test_it_is_the_environment_that_loco_mujoco_makes(trot):
    from loco_mujoco import LocoEnv

    with synthetic.data_sets({synthetic.REAL_SIMPLE: synthetic.real_set()}):
        made = LocoEnv.make("UnitreeA1.simple")
    ours = stock_environment(trot.of(COMMANDS[0]).states, COMMANDS[0])
    assert type(ours) is type(made)
    assert type(ours._reward_function) is type(made._reward_function)
    assert plain_attributes(ours).keys() == plain_attributes(made).keys()
    for name, value in plain_attributes(ours).items():
        np.testing.assert_array_equal(value, plain_attributes(made)[name], err_msg=name)
    assert (ours.info.horizon, ours.info.gamma, ours.dt) == (made.info.horizon, made.info.gamma, made.dt)
    for name in ("body_mass", "geom_friction", "geom_solimp", "dof_damping", "actuator_gear", "actuator_ctrlrange"):
        np.testing.assert_array_equal(getattr(ours._model, name), getattr(made._model, name))


def test_an_episode_starts_in_the_demonstrated_state_with_the_commanded_goal(trot):
    # One state only, because upstream's resampling would set all velocities of a trajectory's first state to 0.
    state = trot.of(COMMANDS[5]).states[0]
    observation = stock_environment(state[None], COMMANDS[5]).reset()
    np.testing.assert_allclose(observation[: a1.GOAL.start], state[: a1.GOAL.start], rtol=0.0, atol=1e-12)
    np.testing.assert_allclose(observation[a1.GOAL], COMMANDS[5].features, rtol=0.0, atol=1e-12)


def test_each_step_is_that_of_our_environment_from_the_same_start(hard, trot, stander):
    environment = stock_environment(trot.of(COMMANDS[1]).states[100:101], COMMANDS[1])
    core = Core(Agent(environment.info, ActorPolicy(stander)), environment)
    dataset = core.evaluate(n_steps=200, quiet=True)
    observation = hard.reset(obs=dataset[0][0])
    for state, _, reward, next_state, absorbing, _ in dataset:
        np.testing.assert_allclose(observation, state, rtol=0.0, atol=1e-9)
        observation, our_reward, our_absorbing, _ = hard.step(stander.act(observation))
        np.testing.assert_allclose(observation, next_state, rtol=0.0, atol=1e-9)
        assert float(reward) == pytest.approx(float(our_reward), rel=0.0, abs=1e-9)
        assert absorbing == our_absorbing


@pytest.mark.extensive
@pytest.mark.parametrize("who", ["stander", "expert"])
def test_returns_are_those_in_our_environment(trot, stander, who):
    """From starts of their own in either."""
    policy, controller, commands = ActorPolicy(stander), PolicyController(stander, deterministic=True), TWO
    if who == "expert":
        policy, controller, commands = ExpertPolicy(), ExpertController(), TWO[:1]
    with closing(PoolSource(QuadrupedDirection("hard", 2), lanes_per_block=2, pool="serial")) as source:
        ours = evaluate(source, controller, episodes=1, seed=0, commands=commands)
    stock = evaluate_stock(policy, trot, commands, episodes=1, seed=0)
    for row, expected in zip(stock["directions"], ours["directions"], strict=True):
        assert row["direction_deg"] == expected["direction_deg"]
        assert row["length_mean"] == expected["length_mean"] == a1.HORIZON
        assert row["falls"] == expected["falls"] == 0
        assert row["return_mean"] == pytest.approx(expected["return_mean"], rel=0.03)
        assert row["velocity_error_mean"] == pytest.approx(expected["velocity_error_mean"], rel=0.05)
        assert row["return_mean"] > 900.0 or who == "stander"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["simple", "hard"])
def test_a_shipped_agent_gets_the_same_return(task):
    """From starts of its own in either, 16 episodes a policy: to 3 % on the whole."""
    agent = load_evaluated_agent(f"pretrained/{task}")
    environment = agent.environment()
    key = {"episodes": 16 if task == "simple" else 2, "seed": agent.seed, "step": agent.step}
    with closing(agent.source(environment, pool="serial")) as source:
        for deterministic in (True, False):
            stock = evaluate_stock(
                ActorPolicy(agent.actor, deterministic), environment.demonstrations, environment.commands, **key
            )
            ours = evaluate(source, agent.controller(deterministic), **key)
            assert stock["return_mean"] == pytest.approx(ours["return_mean"], rel=0.03)
            assert sum(row["falls"] for row in stock["directions"]) == 0


# Results


def test_results_are_those_of_the_observations_that_were_seen(trot):
    watched = Tumbler()
    result = evaluate_stock(ActorPolicy(watched), trot, TWO, episodes=3, seed=0)
    assert list(result) == ["return_mean", "directions", "environment"]
    for part in ("stock UnitreeA1", importlib.metadata.version("loco-mujoco"), mujoco.__version__):
        assert part in result["environment"]
    seen = np.array([observation for observation, _ in watched.steps])
    directions = np.sign(seen[:, 34])
    assert result["return_mean"] == pytest.approx(np.mean([row["return_mean"] for row in result["directions"]]))
    names = "direction_deg episodes return_mean return_std length_mean falls velocity_error_mean"
    for row, direction in zip(result["directions"], (1.0, -1.0), strict=True):
        here = seen[directions == direction]
        assert list(row) == names.split()
        assert (row["direction_deg"], row["episodes"], row["falls"]) == (0.0 if direction > 0.0 else 180.0, 3, 3)
        assert 0.0 < row["return_std"] < row["return_mean"]
        assert 3 * row["length_mean"] == pytest.approx(len(here))
        assert 3 * row["return_mean"] == pytest.approx(a1.environment_reward(here).sum())
        assert row["velocity_error_mean"] == pytest.approx(a1.velocity_error(here).mean())


def test_a_direction_without_demonstrations_starts_from_the_nearest(gliding):
    watched = Tumbler()
    result = evaluate_stock(ActorPolicy(watched), gliding((0.0, 90.0)), [Command(60.0)], episodes=1, seed=0)
    assert [row["direction_deg"] for row in result["directions"]] == [60.0]
    observation, _ = watched.steps[0]
    np.testing.assert_allclose(observation[a1.TRUNK_VX : a1.TRUNK_VY + 1], [0.0, 0.5], atol=1e-9)
    np.testing.assert_allclose(observation[a1.GOAL], Command(60.0).features, atol=1e-12)


# Random numbers


def global_state():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
    return kind, keys.tobytes(), *rest, random.getstate()


def test_evaluating_again_gives_the_same_whatever_was_drawn_between(trot, tumbled):
    np.random.seed(5)  # noqa: NPY002 (what upstream draws from)
    before = global_state()
    assert tumble(trot, TWO) == tumbled
    assert global_state() == before


def test_an_episode_does_not_depend_on_those_before_it_or_on_other_directions(trot):
    one, four = Tumbler(), Tumbler()
    evaluate_stock(ActorPolicy(one, deterministic=False), trot, TWO[1:], episodes=1, seed=0)
    evaluate_stock(ActorPolicy(four, deterministic=False), trot, [TWO[1], TWO[0]], episodes=2, seed=0)
    for alone, among in zip(one.steps, four.steps, strict=False):
        np.testing.assert_array_equal(alone[0], among[0])
        np.testing.assert_array_equal(alone[1], among[1])


def test_a_blow_up_is_named_and_leaves_no_file_and_the_global_generators_alone(trot, tmp_path):
    hurled = trot.select([0])
    hurled.states[:, a1.VELOCITY] = 1e11
    before = global_state()
    with contextlib.chdir(tmp_path), pytest.raises(SamplingError, match="stock environment: direction 0, episode 0: "):
        tumble(hurled, TWO[:1])
    assert global_state() == before
    assert list(tmp_path.iterdir()) == []
