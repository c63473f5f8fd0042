import json
import os
import random
import signal
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qi_ext import load_agent
from qi_ext.demonstrations import formats, load_demonstrations
from qi_ext.evaluation import compare
from qi_ext.learning import GAIL
from qi_ext.tasks.directions import task_commands
from qi_ext.training import loop
from qi_ext.training.log import TAGS, ProgressLog, tag
from qi_ext.training.loop import Training
from qi_ext.training.resume import find_start
from qi_ext.utils.errors import SamplingError, Terminated, UserError


@pytest.fixture
def without_actions(gliding, tmp_path):
    """The path of demonstrations of states alone, in loco-mujoco's perfect format."""
    path = tmp_path / "states.npz"
    dataset = gliding((0.0,)).dataset()
    np.savez(path, **{key: dataset[key] for key in ("states", "next_states", "absorbing", "last")})
    return path


def agent_at(directory, step):
    """The path of the agent beside a checkpoint."""
    return directory.checkpoints.directory(step) / "agent.safetensors"


def tensors(path):
    with safe_open(str(path), framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (not a dict)


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_the_same_seed_gives_the_same_curves_and_the_same_agent(tiny, tmp_path, algorithm, run, rows):
    first, second, other = (
        run(tiny(algorithm, results_dir=str(tmp_path / name), seed=seed)).directory
        for name, seed in (("first", 5), ("second", 5), ("other", 6))
    )
    assert len(rows(first.path)) == 2
    assert rows(first.path) == rows(second.path)
    assert tensors(first.agent) == tensors(second.agent)
    assert tensors(first.agent) != tensors(other.agent)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory, run):
    """pooled(pool, n_workers="auto"): four updates and an evaluation of 7 lanes in 4 blocks; made once."""
    made = {}

    def make(pool, n_workers="auto"):
        if (pool, n_workers) not in made:
            settings = dict(
                n_steps=4 * 7 * 15,
                batch_size=7 * 15,
                n_envs=7,
                lanes_per_block=2,
                pool=pool,
                n_workers=n_workers,
                policy_hidden=[16],
                critic_hidden=[16],
                discriminator_hidden=[16],
                evaluation_episodes=1,
                results_dir=str(tmp_path_factory.mktemp("pooled")),
            )
            made[pool, n_workers] = run(settings).directory
        return made[pool, n_workers]

    return make


@pytest.mark.parametrize("n_workers", [2, 3])
def test_curves_agent_and_evaluation_do_not_depend_on_the_pool_and_its_size(pooled, n_workers, rows):
    here, elsewhere = pooled("serial"), pooled("loky", n_workers)
    assert len(rows(here.path)) == 4
    assert any(int(row["episodes"]) for row in rows(here.path)[1:])
    assert rows(here.path) == rows(elsewhere.path)
    assert tensors(here.agent) == tensors(elsewhere.agent)
    evaluations = [json.loads(directory.result.read_text())["evaluation"] for directory in (here, elsewhere)]
    assert evaluations[0] == evaluations[1]


def generators(training):
    """The state of everything that training draws from."""
    agent = training.agent
    numpy = [agent.generator.bit_generator.state, agent.policy.generator.bit_generator.state]
    return numpy, agent._torch_generator.get_state().numpy().tobytes()


def learned(training):
    """All weights and statistics, as bytes."""
    agent = training.agent
    modules = (agent.policy.network, agent.policy.normalizer, agent.critic, agent.discriminator)
    parts = [tensor for module in modules for tensor in module.state_dict().values()]
    return [part.detach().numpy().tobytes() for part in (*parts, agent.policy.log_std)]


@pytest.mark.parametrize("how", ["compare", "core"])
def test_evaluating_between_updates_changes_nothing_of_the_training(tiny, tmp_path, how, build, run, rows):
    plain = run(tiny(n_steps=192, results_dir=str(tmp_path / "plain")))
    training = build(tiny(n_steps=192, results_dir=str(tmp_path / "evaluated")))
    evaluations = []

    def evaluate(dataset):
        lanes, before = training.core.path.lanes[:], (generators(training), learned(training))
        assert lanes.running.any()
        if how == "compare":
            result = compare(training.core.path.sampler, training.agent.policy.actor, 1, seed=0, step=training.counter.steps)
            evaluations.append(result["stochastic"]["return_mean"])
        else:
            evaluations.append(len(training.core.evaluate(n_episodes=2, quiet=True)))
        assert training.core.path.lanes.equals(lanes)
        assert (generators(training), learned(training)) == before

    training.core.callbacks_fit.append(evaluate)
    training.run()
    assert len(evaluations) == 3
    assert all(evaluations)
    assert rows(training.directory.path) == rows(plain.directory.path)
    assert learned(training) == learned(plain)
    assert training.core.path.lanes.equals(plain.core.path.lanes)


def test_a_run_draws_from_no_global_generator(tiny, run):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
        return torch.get_rng_state().numpy().tobytes(), kind, keys.tobytes(), *rest, random.getstate()

    before = state()
    run(tiny(warm_start=1))
    assert state() == before


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_every_diagnostic_is_in_the_rows_and_the_events_and_what_matters_most_is_shown(tiny, run, rows, capsys, algorithm):
    training = run(tiny(algorithm))
    diagnostics, (*_, row) = training.agent.diagnostics, rows(training.directory.path)
    assert {name: float(row[name]) for name in diagnostics} == diagnostics
    events = EventAccumulator(str(training.directory.path))
    events.Reload()
    for name, value in diagnostics.items():
        event = events.Scalars(tag(name))[-1]
        assert (event.step, event.value) == (128, pytest.approx(value)), name
    shown = capsys.readouterr().out
    assert f"length {float(row['length_mean']):.0f}  {float(row['speed_along']):.2f} m/s" in shown
    judged = [diagnostics[f"discriminator_accuracy_{side}"] for side in ("policy", "expert")]
    assert f"discriminator {judged[0]:.2f}/{judged[1]:.2f} logits {diagnostics['logit_policy']:.1f}/" in shown
    for text, name in (("critic {:.2f}", "explained_variance"), ("kl {:.4f}", "kl"), ("drift {:.4f}", "normalizer_drift")):
        assert text.format(diagnostics[name]) in shown


def test_wandb_that_is_not_installed_is_refused_before_anything_is_created(tiny, tmp_path, monkeypatch, build):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="^--wandb: wandb is not installed"):
        build(tiny(wandb="mine"))
    assert not (tmp_path / "runs").exists()


def test_what_begins_to_go_wrong_is_said_and_not_again_by_a_run_that_goes_on(tiny, run, capsys, monkeypatch):
    monkeypatch.setattr("qi_ext.training.health.SATURATED_ENTROPY", 99.0)
    first = run(tiny(n_steps=384))
    assert capsys.readouterr().out.count("warning, step 320: the discriminator is certain") == 1
    run({"n_steps": 512}, first.directory.path)
    assert "warning" not in capsys.readouterr().out


def test_steps_are_rounded_up_to_whole_batches(tiny, run, rows):
    training = run(tiny(n_steps=65))
    assert [row["step"] for row in rows(training.directory.path)] == ["64", "128"]
    assert training.n_steps == 128


def test_a_batch_is_rounded_up_to_whole_steps_of_all_lanes(tiny, run, rows):
    training = run(tiny(batch_size=65, n_envs=6))
    assert [row["step"] for row in rows(training.directory.path)] == ["66", "132"]
    assert training.agent.policy.normalizer.count == len(training.agent._expert) + 132
    assert json.loads(training.directory.result.read_text())["steps"] == 132
    assert load_agent(training.directory.agent).metadata["step"] == "132"


def test_simulations_that_blow_up_are_falls_counted_in_curves_and_result(tiny, capsys, build, rows):
    training = build(tiny(restart_every=0))
    training.core.path.sampler.specification.starts.rows[:, 18:] = 1e6  # velocities that MuJoCo gives up at
    training.run()
    for row in rows(training.directory.path):
        assert (row["episodes"], row["blow_ups"], row["length_mean"]) == ("64", "64", "1.0")
    assert json.loads(training.directory.result.read_text())["blow_ups"] == 128
    assert "64 simulations blew up; their episodes ended as falls (step 128)" in capsys.readouterr().out


@pytest.mark.parametrize("disturbance", [{"push": 120.0}, {"torque_noise": 0.1}, {"restart_every": 10}])
def test_robots_are_disturbed_if_asked_for(tiny, tmp_path, run, disturbance):
    settings = tiny(n_steps=256, batch_size=256, restart_every=0)
    disturbed = settings | disturbance | {"results_dir": str(tmp_path / "disturbed")}
    calm, disturbed = (run(each).core.path.rollouts.next_observations for each in (settings, disturbed))
    assert calm.shape == disturbed.shape
    assert not np.array_equal(calm, disturbed)


@pytest.mark.parametrize("n_envs", [1, 4])
def test_the_returns_of_robots_that_are_left_alone_are_noted_where_there_are_any(tiny, run, rows, n_envs):
    training = run(tiny(n_steps=400, batch_size=400, n_envs=n_envs, push=120.0))
    measured = training.core.episodes["episode_return"][training.core.episodes["lane"] % 2 == (n_envs > 1)]
    (row,) = rows(training.directory.path)
    assert len(measured) > 1
    assert int(row["episodes"]) == len(measured)
    assert float(row["return_mean"]) == pytest.approx(measured.mean(), rel=1e-5)


def test_a_run_without_a_blow_up_says_so_in_its_curves(tiny, run, rows):
    training = run(tiny())
    assert [row["blow_ups"] for row in rows(training.directory.path)] == ["0", "0"]
    assert json.loads(training.directory.result.read_text())["blow_ups"] == 0


def test_agents_are_kept_with_the_checkpoints(tiny, run):
    directory = run(tiny(n_steps=320, keep_checkpoints=9)).directory
    assert directory.checkpoints.steps() == [0, 64, 128, 192, 256, 320]
    assert tensors(agent_at(directory, 320)) == tensors(directory.agent)
    assert tensors(agent_at(directory, 256)) != tensors(directory.agent)


def test_the_agent_says_where_it_comes_from(tiny, run):
    training = run(tiny("vail", seed=3, speed=0.4))
    metadata = load_agent(training.directory.agent).metadata
    expected = {"task": "simple", "algorithm": "vail", "step": "128", "seed": "3", "speed": "0.4", "demonstrations": "trot"}
    assert metadata.items() >= (expected | {"lanes_per_block": "2"}).items()
    assert metadata["demonstrations_hash"] == training.demonstrations.content_hash()
    for library in ("torch", "mujoco", "numpy"):
        assert f"{library} " in metadata["versions"]


def test_the_saved_agent_is_the_one_that_was_trained(tiny, run):
    training = run(tiny())
    observations = training.demonstrations.states[:10]
    expected = training.agent.policy.actor.mean(observations)
    np.testing.assert_array_equal(load_agent(training.directory.agent).act(observations), expected)


def test_a_warm_start_is_saved_as_step_0(tiny, run):
    training = run(tiny(warm_start=2))
    assert load_agent(agent_at(training.directory, 0)).std == pytest.approx(training.config.warm_start_std)


def test_a_warm_start_alone_is_a_run_of_no_steps(tiny, run):
    alone = run(tiny(warm_start=2, n_steps=0, evaluation_episodes=1))
    assert alone.result["steps"] == 0
    assert set(alone.result["evaluation"]) == {"deterministic", "stochastic", "expert", "random"}
    followed = run(tiny(warm_start=2, results_dir=f"{alone.config.results_dir}-2"))
    assert load_agent(alone.directory.agent).act(np.zeros(37)).tolist() == pytest.approx(
        load_agent(agent_at(followed.directory, 0)).act(np.zeros(37)).tolist(), abs=0.0
    )


def test_recorded_actions_where_there_are_none_are_refused_before_anything_is_created(tiny, without_actions, tmp_path, build):
    with pytest.raises(UserError, match="holds no actions"):
        build(tiny(warm_start=1, warm_start_actions="recorded", demonstrations=str(without_actions)))
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def cloned(run, tiny, capsys):
    """cloned(demonstrations, warm_start_actions): what a warm start of one epoch leaves, and whether it inferred actions."""

    def of(demonstrations, warm_start_actions):
        settings = {"warm_start": 1, "warm_start_actions": warm_start_actions, "n_steps": 64}
        training = run(
            tiny(demonstrations=str(demonstrations), **settings, results_dir=f"{demonstrations}-{warm_start_actions}")
        )
        return tensors(agent_at(training.directory, 0)), "actions inferred from consecutive states" in capsys.readouterr().out

    return of


def test_a_warm_start_clones_recorded_actions_or_else_inferred_ones(cloned, without_actions, gliding, tmp_path):
    formats.write(tmp_path / "recorded.npz", gliding((0.0,)))
    recorded, said = cloned(tmp_path / "recorded.npz", "recorded")
    assert not said
    assert cloned(tmp_path / "recorded.npz", "auto") == (recorded, False)
    inferred, said = cloned(tmp_path / "recorded.npz", "inferred")
    assert said
    assert inferred != recorded
    from_states, said = cloned(without_actions, "inferred")
    assert said
    assert cloned(without_actions, "auto") == (from_states, True)


def test_the_discriminator_never_sees_inferred_actions(tiny, without_actions, build):
    with pytest.raises(UserError, match="discriminator_input"):
        build(tiny(warm_start=1, discriminator_input="action", demonstrations=str(without_actions)))


def test_states_alone_are_enough_to_learn_from(tiny, without_actions, run):
    assert run(tiny(demonstrations=str(without_actions))).directory.result.is_file()


def test_demonstrations_that_cannot_be_read_are_refused_before_anything_is_created(tiny, tmp_path, build):
    with pytest.raises(UserError, match="nowhere"):
        build(tiny(demonstrations=str(tmp_path / "nowhere.npz")))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("compat", "speed"), [("task", 0.5), ("upstream", 0.51)])
def test_the_expert_walks_under_the_tasks_command_or_as_recorded(tiny, gliding, tmp_path, compat, speed, build):
    path = tmp_path / "recorded.npz"
    formats.write(path, gliding((0.0,), speed=0.51))
    training = build(tiny(demonstrations=str(path), compat=compat))
    np.testing.assert_allclose(training.demonstrations.states[:, 36], speed)


def test_ctrl_c_during_an_update_waits_for_its_end_and_saves_it(tiny, monkeypatch, build):
    class Interrupted(GAIL):
        def _update_statistics(self, observations):
            os.kill(os.getpid(), signal.SIGINT)
            super()._update_statistics(observations)

    monkeypatch.setattr(loop, "learner_builder", lambda config: Interrupted)
    training = build(tiny(checkpoint_every=1000.0))
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert training.directory.checkpoints.steps() == [0, 64]
    observations = training.demonstrations.states[:10]
    expected = training.agent.policy.actor.mean(observations)
    saved = load_agent(training.directory.agent)
    np.testing.assert_array_equal(saved.act(observations), expected)
    assert saved.metadata["step"] == "64"
    assert not training.directory.result.exists()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("pool", ["serial", "loky"])
def test_a_policy_whose_actions_are_not_finite_ends_the_run_after_its_agent_is_saved(tiny, monkeypatch, pool, build, rows):
    class Unbounded(GAIL):
        def _update_statistics(self, observations):
            super()._update_statistics(observations)
            self.policy.log_std.data.fill_(200.0)  # a standard deviation that is more than float32 holds

    monkeypatch.setattr(loop, "learner_builder", lambda config: Unbounded)
    training = build(tiny(seed=5, pool=pool, n_workers=2))
    with pytest.raises(
        SamplingError, match=r"^lane \d \(seed 5, spawn key \(2, \d\)\): LaneError: the policy's action is not finite"
    ):
        training.run()
    assert [row["step"] for row in rows(training.directory.path)] == ["64"]
    saved = load_agent(training.directory.agent)
    assert saved.metadata["step"] == "64"
    observations = training.demonstrations.states[:10]
    np.testing.assert_array_equal(saved.act(observations), training.agent.policy.actor.mean(observations))
    assert not training.directory.result.exists()


@pytest.mark.parametrize(
    ("settings", "option"), [({"scheduler": "tcp://here:1"}, "--scheduler"), ({"pool": "dask"}, "--scheduler")]
)
def test_a_pool_that_cannot_be_had_is_refused_before_anything_is_created(tiny, tmp_path, settings, option, build):
    with pytest.raises(UserError, match=f"^{option}: "):
        build(tiny(**settings))
    assert not (tmp_path / "runs").exists()


def test_a_run_leaves_the_handler_of_sigterm_as_it_was(tiny, run):
    def mine(number, frame):
        pytest.fail("nobody sent a signal")

    before = signal.signal(signal.SIGTERM, mine)
    try:
        run(tiny(n_steps=64))
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_does_not_stop_the_saving_after_the_first(tiny, monkeypatch):
    class Impatient(Training):
        def _save(self):
            if self.counter.steps:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
            super()._save()

    class Interrupted(ProgressLog):
        def write(self, step, row):
            super().write(step, row)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "ProgressLog", Interrupted)
    training = Impatient(find_start(tiny(checkpoint_every=1000.0)))
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert training.directory.checkpoints.steps() == [0, 64]
    assert load_agent(training.directory.agent).metadata["step"] == "64"


def test_a_signal_while_the_last_checkpoint_is_written_does_not_lose_what_it_holds(tiny, monkeypatch):
    class Stopped(Training):
        def _save(self):
            if self.counter.steps == self.n_steps:
                os.kill(os.getpid(), signal.SIGTERM)
            super()._save()

    training = Stopped(find_start(tiny(checkpoint_every=1000.0)))
    with pytest.raises(Terminated):
        training.run()
    assert training.directory.checkpoints.steps() == [0, 128]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_until_what_an_update_leaves_behind_is_written(tiny, monkeypatch, number, error, build, rows):
    class Interrupted(ProgressLog):
        def write(self, step, row):
            os.kill(os.getpid(), number)
            super().write(step, row)

    monkeypatch.setattr(loop, "ProgressLog", Interrupted)
    training = build(tiny())
    with pytest.raises(error):
        training.run()
    (row,) = rows(training.directory.path)
    events = EventAccumulator(str(training.directory.path))
    events.Reload()
    for name, value in row.items():
        if name in TAGS and value:
            assert [event.step for event in events.Scalars(TAGS[name])] == [64], name
    assert load_agent(agent_at(training.directory, 64)).metadata["step"] == "64"
    assert load_agent(training.directory.agent).metadata["step"] == "64"


def test_demonstrations_are_named_so_that_they_are_found_from_anywhere(tiny, gliding, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    formats.write("here.npz", gliding((0.0,)))
    training = run(tiny(demonstrations="here.npz"))
    assert load_agent(training.directory.agent).metadata["demonstrations"] == str(tmp_path / "here.npz")


@pytest.mark.parametrize("compat", ["task", "upstream"])
def test_the_agents_hash_is_that_of_the_demonstrations_as_the_task_reads_them(tiny, gliding, tmp_path, compat, run):
    path = tmp_path / "slow.npz"
    formats.write(path, gliding((0.0,), speed=0.51))
    training = run(tiny(demonstrations=str(path), compat=compat))
    expected = load_demonstrations(path, task_commands("simple")).content_hash()
    assert load_agent(training.directory.agent).metadata["demonstrations_hash"] == expected
