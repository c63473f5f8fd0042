"""The source on MuJoCo Warp: rollouts, starts and ends of episodes, disturbances, resume; and whole runs."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("mujoco_warp")
pytestmark = pytest.mark.extensive

from qi_ext import load_agent  # noqa: E402
from qi_ext.experiment import run_experiment  # noqa: E402
from qi_ext.robot import a1  # noqa: E402
from qi_ext.sampling.disturbances import TrainingDisturbances  # noqa: E402
from qi_ext.tasks.task import start_states  # noqa: E402
from qi_ext.training.resume import find_start  # noqa: E402

DISTURBED = TrainingDisturbances(push=200.0, torque_noise=0.5, restart_every=10)


def assert_same(one, other, n_envs=None):
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name][:n_envs]), name


@pytest.mark.parametrize("task", ["hard", "follow"])
def test_rollouts_depend_on_no_other_env_and_go_on_where_they_ended(make_source, agent, gather, task):
    few, many = (make_source(task, n_envs=n, disturbances=DISTURBED) for n in (8, 32))
    for n_steps in (10, 5):
        rollouts = gather(few, agent, n_steps)
        assert_same(rollouts, gather(many, agent, n_steps), 8)
    state = few.state()
    other = make_source(task, disturbances=DISTURBED, seed=3)
    other.load_state(state)
    expected = gather(few, agent, 5)
    assert_same(expected, gather(other, agent, 5))
    few.load_state(state)
    few.start(agent, 40)
    few.wait()
    few.drop()
    for name, array in few.state().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    assert_same(expected, gather(few, agent, 5))


def test_steps_follow_each_other_and_episodes_end_in_falls_and_by_the_time_limit(make_source, agent, gather, environments):
    source = make_source(n_envs=32)
    rollouts, task = gather(source, agent, 30), environments["hard"].task
    goes_on = ~rollouts.last[:, :-1]
    np.testing.assert_array_equal(rollouts.next_observations[:, :-1][goes_on], rollouts.observations[:, 1:][goes_on])
    np.testing.assert_array_equal(rollouts.absorbing, a1.has_fallen(rollouts.next_observations))
    np.testing.assert_allclose(rollouts.rewards, a1.environment_reward(rollouts.observations), rtol=1e-5)
    ended = rollouts.absorbing | rollouts.truncated
    assert rollouts.last[:, -1].all()
    np.testing.assert_array_equal(ended[:, :-1], rollouts.last[:, :-1])
    assert rollouts.absorbing.any() and rollouts.truncated.any()
    episodes = rollouts.episodes
    assert len(episodes) == ended.sum() and not episodes["blew_up"].any()
    assert (np.lexsort((episodes["env"], episodes["time"])) == np.arange(len(episodes))).all()
    assert episodes["length"].max() == 12
    limits = set()
    for episode in episodes:
        env, end = episode["env"], episode["time"] + 1
        if end == episode["length"] and not episode["fell"]:
            limits.add(end)  # of the first episodes, which are spread
        if end > episode["length"]:  # and so began after the first step
            assert episode["fell"] or episode["length"] == 12
            rewards = rollouts.rewards[env, end - episode["length"] : end]
            assert episode["episode_return"] == pytest.approx(rewards.sum(), rel=1e-5)
    assert len(limits) > 4
    # Each begins in a demonstrated state, under one of the task's commands.
    first = rollouts.observations[:, 1:][ended[:, :-1]]
    demonstrated = task.starts.states.astype(np.float32)
    assert all((np.abs(demonstrated - row).max(axis=1) < 1e-6).any() for row in start_states(first))
    assert len(np.unique(first[:, 34:36].round(3), axis=0)) == 8


def test_disturbances_are_of_every_other_env_and_begin_when_they_should(make_source, agent, gather):
    calm = gather(make_source(), agent, 10)
    late = TrainingDisturbances(push=200.0, torque_noise=0.5, restart_every=10, disturb_after=1000)
    source = make_source(disturbances=late)
    assert_same(gather(make_source(disturbances=TrainingDisturbances(restart_every=10**9)), agent, 10), calm)
    source.start(agent, 80, step=1000)
    disturbed = source.collect()
    np.testing.assert_array_equal(disturbed.observations[1::2], calm.observations[1::2])
    assert (disturbed.next_observations[::2, 0] != calm.next_observations[::2, 0]).any(axis=1).all()
    early = disturbed.truncated[::2].sum()
    assert early > calm.truncated[::2].sum()
    np.testing.assert_array_equal(source.state()["xfrc_applied"][1::2], 0.0)


def test_pushes_come_and_go_as_they_do_in_the_pool(make_source, agent, gather):
    """As often, as long, of the same size: a tenth of a second in each 1.25 s, up to the largest, evenly."""
    disturbances = TrainingDisturbances(push=100.0)
    source, forces = make_source(n_envs=256, disturbances=disturbances), []
    for _ in range(400):
        source._disturb(disturbances, source._draw())
        forces.append(source._physics.push.clone())
    size = torch.stack(forces)[:, ::2].norm(dim=2)
    assert not torch.stack(forces)[:, 1::2].any()
    pushed = size > 0.0
    assert pushed[100:].float().mean() == pytest.approx(10 / 125, rel=0.15)
    assert size.max() <= 100.0
    assert size[pushed].mean() == pytest.approx(50.0, rel=0.1)


class Waits(TorchDispatchMode):
    """Raises where the host would wait for a GPU: a result decides a shape or a number, or goes to another device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(function.tags)
        # Rows that are picked by numbers are as many as the numbers.
        by_numbers = function.name().startswith("aten::index") and all(
            index is None or index.dtype != torch.bool for index in args[1]
        )
        assert not tags or by_numbers, f"{function} waits"
        assert function is not torch.ops.aten.lift_fresh.default, "a tensor is made of numbers, and goes up"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("task", ["hard", "follow"])
def test_a_step_waits_for_nothing_and_transfers_nothing(make_source, agent, task):
    source = make_source(task, disturbances=DISTURBED)
    with torch.no_grad(), Waits():
        for _ in range(3):
            source._step(agent.policy, DISTURBED)


def test_states_of_another_kind_are_refused_and_change_nothing(make_source, agent, gather):
    source = make_source()
    own = source.state()
    for wrong in (
        make_source(n_envs=4, lanes_per_block=4).state(),
        {name: array for name, array in own.items() if name != "qvel"},
        own | {"qpos": own["qpos"].astype(float)},
        own | {"qpos": own["qpos"] * np.float32(np.nan)},
        own | {"time": np.array(-1)},
        {},
    ):
        with pytest.raises(ValueError, match="^envs: "):
            source.load_state(wrong)
    assert_same(gather(source, agent, 3), gather(make_source(), agent, 3))


@pytest.mark.parametrize(("task", "more"), [("simple", {"warm_start": 1}), ("hard", {"algorithm": "vail"}), ("follow", {})])
def test_a_run_ends_with_an_agent_and_resumed_is_the_same_to_the_last_bit(tmp_path, task, more):
    small = {"policy_hidden": [16], "critic_hidden": [16], "discriminator_hidden": [16], "cg_fraction": 1.0}
    settings = {"task": task, "physics": "warp", "n_envs": 8, "lanes_per_block": 8, "batch_size": 32}
    settings |= small | more | {"evaluation_episodes": 0, "device": "cpu", "std_half_life": 1000}
    for name, n_steps in (("whole", 96), ("part", 64)):
        run_experiment(find_start(settings | {"n_steps": n_steps, "results_dir": str(tmp_path / name)}))
    run_experiment(find_start({"n_steps": 96}, resume=str(tmp_path / "part" / "0")))
    whole, part = (load_agent(str(tmp_path / name / "0" / "agent.safetensors")) for name in ("whole", "part"))
    observation = np.linspace(-1.0, 1.0, 37)
    np.testing.assert_array_equal(whole.act(observation), part.act(observation))
    assert whole.metadata["step"] == part.metadata["step"] == "96"
    assert whole.metadata["lanes_per_block"] == "4"
    assert whole.metadata["physics"].startswith("mujoco-warp ")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_on_a_gpu_envs_do_what_they_do_on_the_cpu_and_wait_for_nothing(make_source, agent, gather):
    on_cpu = gather(make_source(disturbances=DISTURBED), agent, 3)
    agent.policy = agent.policy_on("cuda")
    source = make_source(device="cuda", disturbances=DISTURBED)
    on_gpu = gather(source, agent, 3)
    for name in ("observations", "actions", "rewards"):
        np.testing.assert_allclose(getattr(on_gpu, name), getattr(on_cpu, name), atol=1e-2, err_msg=name)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            source._step(agent.policy, DISTURBED)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state = source.state()
    source.load_state(state)
    for name, array in source.state().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
