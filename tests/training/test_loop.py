"""What a run does from a config to its directory."""

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
from qi_ext.demonstrations.dynamics import REPLAY, warning_of_inferred
from qi_ext.demonstrations.measures import Measure
from qi_ext.demonstrations.mending import lowest_foot
from qi_ext.evaluation import compare
from qi_ext.evaluation.evaluated_agent import load_evaluated_agent
from qi_ext.experiment import evaluation_source
from qi_ext.robot import a1, courses
from qi_ext.tasks.directions import task_commands
from qi_ext.training.log import TAGS, ProgressLog, tag
from qi_ext.training.resume import find_start
from qi_ext.training.training_run import TrainingRun
from qi_ext.utils.errors import SamplingError, Terminated, UserError


@pytest.fixture
def without_actions(walking, tmp_path):
    """The path of demonstrations of states alone, in loco-mujoco's perfect format."""
    path = tmp_path / "states.npz"
    dataset = walking((0.0,), rows=60).dataset()
    np.savez(path, **{key: dataset[key] for key in ("states", "next_states", "absorbing", "last")})
    return path


def agent_at(directory, step):
    """The path of the agent beside a checkpoint."""
    return directory.checkpoints.directory(step) / "agent.safetensors"


def tensors(path):
    with safe_open(str(path), framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (not a dict)


@pytest.mark.extensive  # every resumed run is compared with another of the same seed
@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_the_same_seed_gives_the_same_curves_and_the_same_agent(tiny, tmp_path, algorithm, run, rows):
    first, second, other = (
        run(tiny(algorithm, results_dir=str(tmp_path / name), seed=seed)).directory
        for name, seed in (("first", 5), ("second", 5), ("other", 6))
    )
    assert [row["blow_ups"] for row in rows(first.path)] == ["0", "0"]
    assert rows(first.path) == rows(second.path)
    assert tensors(first.agent) == tensors(second.agent)
    assert tensors(first.agent) != tensors(other.agent)


def test_curves_and_agent_do_not_depend_on_the_pool_and_its_size(tmp_path, run, rows, tiny):
    """Of 7 envs in 4 blocks, by 3 workers and by none."""
    settings = {"n_steps": 3 * 7 * 15, "batch_size": 7 * 15, "n_envs": 7}
    here = run(tiny(**settings)).directory
    elsewhere = run(tiny(**settings, pool="loky", n_workers=3, results_dir=str(tmp_path / "elsewhere"))).directory
    assert any(int(row["episodes"]) for row in rows(here.path)[1:])
    assert rows(here.path) == rows(elsewhere.path)
    assert tensors(here.agent) == tensors(elsewhere.agent)


@pytest.mark.parametrize("settings", [{"task": "simple"}, {"task": "follow", "stops": 0.9}])
def test_a_run_is_evaluated_where_it_was_trained_but_with_the_stops_of_every_evaluation(tiny, build, settings):
    with build(tiny(**settings)) as training, evaluation_source(training) as source:
        assert (source is training.source) == (settings["task"] == "simple")
        if settings["task"] == "follow":
            assert (training.env.task.stops, source.spec.task.stops) == (0.9, courses.STOPS)


def test_evaluating_between_updates_changes_nothing_of_the_training(
    tiny, tmp_path, build, complete, run, rows, saved, after_update
):
    plain = run(tiny(results_dir=str(tmp_path / "plain")))
    training = build(tiny())
    returns = []

    def evaluate():
        result = compare(training.source, training.learner.policy.actor, 1, seed=0, step=64)
        returns.append(result["stochastic"]["return_mean"])

    after_update(64, evaluate)
    complete(training)
    assert len(returns) == 1
    assert rows(training.directory.path) == rows(plain.directory.path)
    assert saved(training.directory.path) == saved(plain.directory.path)


def test_a_run_draws_from_no_global_generator(tiny, run):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
        return torch.get_rng_state().numpy().tobytes(), kind, keys.tobytes(), *rest, random.getstate()

    before = state()
    run(tiny(warm_start=1))
    assert state() == before


@pytest.mark.parametrize("algorithm", ["gail", pytest.param("vail", marks=pytest.mark.extensive)])
def test_every_diagnostic_is_in_the_rows_and_the_events_and_what_matters_most_is_shown(tiny, run, rows, capsys, algorithm):
    training = run(tiny(algorithm))
    (*_, row) = rows(training.directory.path)
    events = EventAccumulator(str(training.directory.path))
    events.Reload()
    for name, text in row.items():
        if name != "step" and text:
            event = events.Scalars(tag(name))[-1]
            assert (event.step, event.value) == (128, pytest.approx(float(text))), name
    figures = {name: float(text) for name, text in row.items() if text}
    shown = capsys.readouterr().out
    assert f"length {figures['length_mean']:.0f}  {figures['speed_along']:.2f} m/s" in shown
    judged = [figures[f"discriminator_accuracy_{side}"] for side in ("policy", "expert")]
    assert f"discriminator {judged[0]:.2f}/{judged[1]:.2f} logits {figures['logit_policy']:.1f}/" in shown
    for text, name in (("critic {:.2f}", "explained_variance"), ("kl {:.4f}", "kl"), ("drift {:.4f}", "normalizer_drift")):
        assert text.format(figures[name]) in shown


def test_what_begins_to_go_wrong_is_said_and_not_again_by_a_run_that_goes_on(tiny, run, capsys, monkeypatch):
    monkeypatch.setattr("qi_ext.training.health.SATURATED_ENTROPY", 99.0)
    first = run(tiny(n_steps=384))
    assert capsys.readouterr().out.count("warning, step 320: the discriminator is certain") == 1
    run({"n_steps": 448}, first.directory.path)
    assert "warning" not in capsys.readouterr().out


def test_a_batch_is_rounded_up_to_whole_steps_of_all_envs_and_steps_to_whole_batches(tiny, run, rows):
    directory = run(tiny(batch_size=65, n_envs=6, n_steps=67)).directory
    assert [row["step"] for row in rows(directory.path)] == ["66", "132"]
    assert directory.read_result()["steps"] == 132


def test_simulations_that_blow_up_are_falls_counted_in_curves_and_result(tiny, capsys, build, complete, rows):
    training = build(tiny(restart_every=0))
    training.source.spec.task.starts.states[:, 18:] = 1e6  # velocities that MuJoCo gives up at
    complete(training)
    for row in rows(training.directory.path):
        assert (row["episodes"], row["blow_ups"], row["length_mean"]) == ("64", "64", "1.0")
    assert training.directory.read_result()["blow_ups"] == 128
    assert "64 simulations blew up; their episodes ended as falls (step 128)" in capsys.readouterr().out


def test_envs_are_disturbed_as_asked_for_and_that_is_said(tiny, run, tmp_path, capsys):
    settings = tiny(n_steps=128, batch_size=128, restart_every=0)
    agents = []
    for number, disturbance in enumerate(({}, {"push": 120.0}, {"torque_noise": 0.1}, {"restart_every": 10})):
        agents.append(tensors(run(settings | disturbance | {"results_dir": str(tmp_path / str(number))}).directory.agent))
    assert all(agent != agents[0] for agent in agents[1:])
    said = capsys.readouterr().out
    assert "pushes of up to 120 N, noise at the joints of 0\n" in said


def test_of_disturbances_that_begin_after_the_end_it_is_said_that_there_are_none(tiny, run, capsys):
    run(tiny(push=50.0, disturb_after=128))
    said = capsys.readouterr().out
    assert "from step 128 on" in said
    assert "the run ends before that" in said


@pytest.mark.parametrize("n_envs", [pytest.param(1, marks=pytest.mark.extensive), 4])
def test_the_returns_of_envs_that_are_left_alone_are_noted_where_there_are_any(tiny, build, complete, rows, n_envs):
    training, collected = build(tiny(n_steps=400, batch_size=400, n_envs=n_envs, push=120.0)), []
    batch = training.learner.batch
    training.learner.batch = lambda rollouts: collected.append(rollouts.episodes) or batch(rollouts)
    complete(training)
    (episodes,) = collected
    measured = episodes["episode_return"][episodes["env"] % 2 == (n_envs > 1)]
    (row,) = rows(training.directory.path)
    assert len(measured) > 1
    assert int(row["episodes"]) == len(measured)
    assert float(row["return_mean"]) == pytest.approx(measured.mean(), rel=1e-5)


def test_the_saved_agent_is_the_one_that_was_trained_and_says_where_it_comes_from(tiny, run):
    training = run(tiny("vail", seed=3, speed=0.4))
    directory, demonstrations = training.directory, training.demonstrations
    agent = load_agent(directory.agent)
    np.testing.assert_array_equal(
        agent.act(demonstrations.states[:10]), training.learner.policy.actor.mean(demonstrations.states[:10])
    )
    expected = {"task": "simple", "algorithm": "vail", "step": "128", "seed": "3", "speed": "0.4", "demonstrations": "trot"}
    expected |= {"lanes_per_block": "2", "demonstrations_hash": demonstrations.content_hash()}
    assert agent.metadata.items() >= expected.items()
    for library in ("torch", "mujoco", "numpy"):
        assert f"{library} " in agent.metadata["versions"]
    assert directory.checkpoints.steps() == [0, 64, 128]
    assert tensors(agent_at(directory, 128)) == tensors(directory.agent) != tensors(agent_at(directory, 64))


def test_a_warm_start_alone_is_a_run_of_no_steps_and_saved_as_step_0(tiny, run):
    alone = run(tiny(warm_start=2, n_steps=0))
    assert alone.result["steps"] == 0
    assert load_agent(alone.directory.agent).std == pytest.approx(alone.config.warm_start.warm_start_std)
    followed = run(tiny(warm_start=2, n_steps=64, results_dir=f"{alone.config.run.results_dir}-2"))
    assert tensors(alone.directory.agent) == tensors(agent_at(followed.directory, 0))


def test_a_warm_start_clones_recorded_actions_or_else_inferred_ones(without_actions, walking, tmp_path, run, tiny, capsys):
    def cloned(demonstrations, actions):
        settings = {"warm_start": 1, "warm_start_actions": actions, "n_steps": 0, "demonstrations": str(demonstrations)}
        directory = run(tiny(**settings, results_dir=f"{demonstrations}-{actions}")).directory
        return tensors(directory.agent), "actions inferred from consecutive states" in capsys.readouterr().out

    formats.write(tmp_path / "recorded.npz", walking((0.0,)))
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_start": 1, "warm_start_actions": "recorded", "demonstrations": "states.npz"}, "holds no actions"),
        ({"demonstrations": "nowhere.npz"}, "nowhere"),
        ({"scheduler": "tcp://here:1"}, "^--scheduler: "),
        ({"pool": "dask"}, "^--scheduler: "),
        ({"wandb": "mine"}, "^--wandb: wandb is not installed"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused_before_anything_is_created(
    tiny, without_actions, tmp_path, monkeypatch, build, settings, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=message):
        build(tiny(**settings))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("compat", "speed"), [("task", 0.5), ("upstream", 0.51)])
def test_the_expert_walks_under_the_tasks_command_or_as_recorded(
    tiny, walking, tmp_path, compat, speed, build, complete, monkeypatch
):
    """The agent names the demonstrations so that they are found from anywhere, with the hash of what the task makes of them."""
    monkeypatch.chdir(tmp_path)
    formats.write("recorded.npz", walking((0.0,), speed=0.51))
    training = build(tiny(demonstrations="recorded.npz", compat=compat, n_steps=64))
    np.testing.assert_allclose(training.demonstrations.states[:, 36], speed)
    complete(training)
    metadata = load_agent(training.directory.agent).metadata
    assert metadata["demonstrations"] == str(tmp_path / "recorded.npz")
    assert metadata["demonstrations_hash"] == load_demonstrations("recorded.npz", task_commands("simple")).content_hash()


def test_a_recording_that_floats_is_learned_from_once_it_is_mended(tiny, walking, tmp_path, build, run, capsys):
    """The table of measures is printed; who goes on with the run, and who evaluates its agent, mends the recording likewise."""
    floating = walking((0.0,) * 2, rows=100)
    floating.states[:, a1.TRUNK_Z] += 0.02
    formats.write(tmp_path / "floating.npz", floating)
    settings = tiny(demonstrations=str(tmp_path / "floating.npz"), n_steps=64)
    with pytest.raises(UserError, match="floating.npz: nothing bears the robot in .*--fit"):
        build(settings)
    training = run(settings | {"fit": "True"})
    assert "share of rows in free fall" in capsys.readouterr().out
    lowest = lowest_foot(training.demonstrations.states)
    assert lowest.max() < 0.011
    run({"n_steps": 128}, training.directory.path)
    agent = load_evaluated_agent(str(training.directory.agent))
    np.testing.assert_array_equal(lowest_foot(agent.environment().demonstrations.states), lowest)


def test_the_limit_of_the_pitch_can_be_named_and_is_that_of_everyone_who_uses_the_agent(tiny, build, run):
    said = r"of 0.01 allowed .* cut them out, or allow such a pitch .*: --max_pitch 0\.\d\d$"
    with pytest.raises(UserError, match=said) as refused:
        build(tiny(max_pitch=0.01))
    named = float(str(refused.value).split()[-1])
    assert named < a1.MAX_PITCH
    training = run(tiny(max_pitch=named, n_steps=64))
    agent = load_evaluated_agent(str(training.directory.agent))
    pitching = np.zeros((2, a1.N_OBSERVATIONS))
    pitching[:, a1.PITCH] = named - 1e-9, named + 1e-9
    for env in (training.env, agent.environment()):
        assert env.task.has_fallen(pitching).tolist() == [env._has_fallen(row) for row in pitching] == [False, True]


def test_a_warm_start_is_warned_of_inferred_actions_that_soon_lead_to_a_fall():
    measures = [Measure(REPLAY, 12.0, (-np.inf, np.inf))]
    assert "keep the robot up for 12 steps" in warning_of_inferred(measures)
    assert warning_of_inferred([Measure(REPLAY, 100.0, (-np.inf, np.inf))]) is warning_of_inferred([]) is None


@pytest.mark.parametrize(
    ("number", "error"),
    [pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.extensive), (signal.SIGTERM, Terminated)],
)
def test_a_signal_waits_until_what_an_update_leaves_behind_is_written(tiny, monkeypatch, number, error, build, complete, rows):
    write = ProgressLog.write

    def interrupted(log, step, row):
        os.kill(os.getpid(), number)
        write(log, step, row)

    monkeypatch.setattr(ProgressLog, "write", interrupted)
    training = build(tiny(checkpoint_every=1000.0))
    with pytest.raises(error):
        complete(training)
    (row,) = rows(training.directory.path)
    events = EventAccumulator(str(training.directory.path))
    events.Reload()
    for name, value in row.items():
        if name in TAGS and value:
            assert [event.step for event in events.Scalars(TAGS[name])] == [64], name
    for path in (agent_at(training.directory, 64), training.directory.agent):
        assert load_agent(path).metadata["step"] == "64"
        np.testing.assert_array_equal(
            load_agent(path).act(training.demonstrations.states[:10]),
            training.learner.policy.actor.mean(training.demonstrations.states[:10]),
        )
    assert not training.directory.result.exists()


@pytest.mark.extensive
@pytest.mark.parametrize(("step", "saved"), [(64, [0, 64]), (128, [0, 64, 128])])
def test_a_signal_while_a_checkpoint_is_written_does_not_lose_what_it_holds(tiny, complete, step, saved):
    class Impatient(TrainingRun):
        def save(self):
            if self.counter.steps == step:
                os.kill(os.getpid(), signal.SIGTERM)
            super().save()

    training = Impatient(find_start(tiny()))
    with pytest.raises(Terminated):
        complete(training)
    assert training.directory.checkpoints.steps() == saved


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("pool", ["serial", pytest.param("loky", marks=pytest.mark.extensive)])
def test_a_policy_whose_actions_are_not_finite_ends_the_run_after_its_agent_is_saved(tiny, pool, build, complete, rows):
    training = build(tiny(seed=5, pool=pool, n_workers=2, n_steps=192))
    policy_step = training.learner.policy_step

    def unbounded(batch, advantages):
        policy_step(batch, advantages)
        training.learner.policy.actor.std[:] = np.inf

    training.learner.policy_step = unbounded
    with pytest.raises(SamplingError, match=r"\(seed 5, spawn key \(2, \d\)\): .*: the policy's action is not finite"):
        complete(training)
    assert [row["step"] for row in rows(training.directory.path)] == ["64"]
    assert load_agent(training.directory.agent).metadata["step"] == "64"
    assert not training.directory.result.exists()
