import csv
import os
import random
import signal

import numpy as np
import pytest
import torch
from safetensors import safe_open

from qi_ext import load_agent
from qi_ext.commands import task_commands
from qi_ext.demonstrations import formats, load_demonstrations
from qi_ext.errors import UserError
from qi_ext.imitation import GAIL
from qi_ext.training.config import make_config
from qi_ext.training.loop import Training

CLOCK = ("steps_per_second", "collect_seconds", "learn_seconds")


@pytest.fixture
def tiny(tmp_path):
    """tiny(algorithm="gail", **settings): a config of two updates of 64 steps, small networks and no evaluation."""

    def make(algorithm="gail", **settings):
        defaults = {
            "n_steps": 128,
            "batch_size": 64,
            "policy_hidden": [16],
            "critic_hidden": [16],
            "discriminator_hidden": [16],
            "discriminator_batch_size": 32,
            "evaluation_episodes": 0,
            "learner_threads": 1,
            "results_dir": str(tmp_path / "runs"),
        }
        return make_config("simple", algorithm, **(defaults | settings))

    return make


@pytest.fixture
def without_actions(gliding, tmp_path):
    """The path of demonstrations of states alone, in loco-mujoco's perfect format."""
    path = tmp_path / "states.npz"
    dataset = gliding((0.0,)).dataset()
    np.savez(path, **{key: dataset[key] for key in ("states", "next_states", "absorbing", "last")})
    return path


def rows(directory):
    """progress.csv without what the clock says."""
    with open(directory / "progress.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in CLOCK} for row in csv.DictReader(file)]


def tensors(path):
    with safe_open(str(path), framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (not a dict)


def run(config):
    training = Training(config)
    training.run()
    return training


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_the_same_seed_gives_the_same_curves_and_the_same_agent(tiny, tmp_path, algorithm):
    first, second, other = (
        run(tiny(algorithm, results_dir=str(tmp_path / name), seed=seed)).directory
        for name, seed in (("first", 5), ("second", 5), ("other", 6))
    )
    assert len(rows(first.path)) == 2
    assert rows(first.path) == rows(second.path)
    assert tensors(first.agent) == tensors(second.agent)
    assert tensors(first.agent) != tensors(other.agent)


def test_a_run_draws_from_no_global_generator(tiny):
    def state():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what is watched)
        return torch.get_rng_state().numpy().tobytes(), kind, keys.tobytes(), *rest, random.getstate()

    before = state()
    run(tiny(warm_start=1))
    assert state() == before


def test_steps_are_rounded_up_to_whole_batches(tiny):
    training = run(tiny(n_steps=65))
    assert [row["step"] for row in rows(training.directory.path)] == ["64", "128"]
    assert training.n_steps == 128


def test_agents_are_kept_every_checkpoint_steps_and_at_the_end(tiny):
    directory = run(tiny(n_steps=320, checkpoint_steps=128)).directory
    assert sorted(int(path.name) for path in (directory.path / "checkpoints").iterdir()) == [0, 128, 256, 320]
    assert tensors(directory.checkpoint_agent(320)) == tensors(directory.agent)
    assert tensors(directory.checkpoint_agent(256)) != tensors(directory.agent)


def test_the_agent_says_where_it_comes_from(tiny):
    training = run(tiny("vail", seed=3, speed=0.4))
    metadata = load_agent(training.directory.agent).metadata
    expected = {"task": "simple", "algorithm": "vail", "step": "128", "seed": "3", "speed": "0.4", "demonstrations": "trot"}
    assert metadata.items() >= expected.items()
    assert metadata["demonstrations_hash"] == training.demonstrations.content_hash()
    for library in ("torch", "mujoco", "numpy"):
        assert f"{library} " in metadata["versions"]


def test_the_saved_agent_is_the_one_that_was_trained(tiny):
    training = run(tiny())
    observations = training.demonstrations.states[:10]
    expected = training.agent.policy.actor.mean(observations)
    np.testing.assert_array_equal(load_agent(training.directory.agent).act(observations), expected)


def test_a_warm_start_is_saved_as_step_0(tiny):
    training = run(tiny(warm_start=2))
    assert load_agent(training.directory.checkpoint_agent(0)).std == pytest.approx(training.config.warm_start_std)


def test_a_warm_start_without_actions_is_refused_before_anything_is_created(tiny, without_actions, tmp_path):
    config = tiny(warm_start=1, demonstrations=str(without_actions))
    with pytest.raises(UserError, match="actions"):
        run(config)
    assert not (tmp_path / "runs").exists()


def test_states_alone_are_enough_to_learn_from(tiny, without_actions):
    assert run(tiny(demonstrations=str(without_actions))).directory.result.is_file()


def test_demonstrations_that_cannot_be_read_are_refused_before_anything_is_created(tiny, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        Training(tiny(demonstrations=str(tmp_path / "nowhere.npz")))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("compat", "speed"), [("task", 0.5), ("upstream", 0.51)])
def test_the_expert_walks_under_the_tasks_command_or_as_recorded(tiny, gliding, tmp_path, compat, speed):
    path = tmp_path / "recorded.npz"
    formats.write(path, gliding((0.0,), speed=0.51))
    training = Training(tiny(demonstrations=str(path), compat=compat))
    np.testing.assert_allclose(training.demonstrations.states[:, 36], speed)


def test_ctrl_c_during_an_update_saves_the_agent_that_last_acted(tiny, tmp_path):
    class Interrupted(GAIL):
        def _update_statistics(self, observations):
            super()._update_statistics(observations)
            if self.policy.normalizer.count > len(self._expert) + 64:
                raise KeyboardInterrupt

    training = Training(tiny())
    training.agent = Interrupted(training.env.info, training.demonstrations, training.config, np.random.SeedSequence(0))
    with pytest.raises(KeyboardInterrupt):
        training.run()
    observations = training.demonstrations.states[:10]
    expected = training.agent.policy.actor.mean(observations)
    np.testing.assert_array_equal(load_agent(training.directory.agent).act(observations), expected)
    assert not training.directory.result.exists()


def test_a_run_leaves_the_handler_of_sigterm_as_it_was(tiny):
    def mine(number, frame):
        pytest.fail("nobody sent a signal")

    before = signal.signal(signal.SIGTERM, mine)
    try:
        run(tiny(n_steps=64))
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_does_not_stop_the_saving_after_the_first(tiny):
    class Impatient(Training):
        def _introduce(self):
            os.kill(os.getpid(), signal.SIGINT)

        def _save(self, step):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            super()._save(step)

    training = Impatient(tiny())
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert load_agent(training.directory.agent).metadata["step"] == "0"


def test_demonstrations_are_named_so_that_they_are_found_from_anywhere(tiny, gliding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    formats.write("here.npz", gliding((0.0,)))
    training = run(tiny(demonstrations="here.npz"))
    assert load_agent(training.directory.agent).metadata["demonstrations"] == str(tmp_path / "here.npz")


@pytest.mark.parametrize("compat", ["task", "upstream"])
def test_the_agents_hash_is_that_of_the_demonstrations_as_the_task_reads_them(tiny, gliding, tmp_path, compat):
    path = tmp_path / "slow.npz"
    formats.write(path, gliding((0.0,), speed=0.51))
    training = run(tiny(demonstrations=str(path), compat=compat))
    expected = load_demonstrations(path, task_commands("simple")).content_hash()
    assert load_agent(training.directory.agent).metadata["demonstrations_hash"] == expected
