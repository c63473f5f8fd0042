"""Agents of the real imitation-lib under the patches: what stays as it was, what is saved, and how training goes on."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch

import patches
from patches.imitation_lib import small

MAKE = {"gail": small.gail, "vail": small.vail}
both = pytest.mark.parametrize("algorithm", MAKE)


@pytest.fixture(autouse=True)
def reverted():
    yield
    patches.revert()


def learned(algorithm, **changes):
    """An agent after four updates, before each of which it acts; everything random is seeded."""
    agent = MAKE[algorithm](sw=small.Writer(), **changes)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (mushroom-rl shuffles with it)
    go_on(agent, 4)
    return agent


def go_on(agent, updates, first=0):
    for seed in range(first, first + updates):
        agent.draw_action(np.ones(small.N_OBSERVATIONS))
        agent.fit(small.dataset(seed=seed))


def weights(agent):
    return np.concatenate([part.get_weights() for part in (agent.policy, agent._V.model, agent._D.model)])


def load(path):
    from mushroom_rl.core import Agent

    return Agent.load(path)


def with_standardizer(standardizer, **changes):
    """Keywords of an agent whose policy and critic have this standardizer."""
    pieces = small.pieces()
    for part in ("policy_params", "critic_params"):
        pieces[part]["standardizer"] = standardizer
    return pieces | {"trpo_standardizer": standardizer} | changes


@both
def test_patches_that_change_no_results_change_not_a_bit(algorithm):
    before = weights(learned(algorithm))
    known = [patch for name in ("imitation_lib", "mushroom_rl") for patch in patches.libraries()[name].patches]
    patches.set_applied({patch.full_name for patch in known if not patch.changes_results})
    assert np.array_equal(weights(learned(algorithm)), before)


@both
def test_frozen_statistics_stand_still_outside_of_training(patched, algorithm):
    import mushroom_rl.core

    agent = learned(algorithm)
    before = agent._trpo_standardizer._count.copy()
    mushroom_rl.core.Core(agent, small.Glider()).evaluate(n_episodes=2, quiet=True)
    agent._trpo_standardizer.eval()
    agent.draw_action(np.ones(small.N_OBSERVATIONS))
    assert np.array_equal(agent._trpo_standardizer._count, before)
    agent._trpo_standardizer.train()
    agent.draw_action(np.ones(small.N_OBSERVATIONS))
    assert agent._trpo_standardizer._count == before + 1


@pytest.mark.parametrize("name", ["Standardizer", "Standardizerv2"])
def test_with_all_patches_a_batch_is_counted_once_after_the_policy_step(all_patched, name):
    from imitation_lib.utils import networks

    standardizer, counts = getattr(networks, name)(), []
    agent = small.gail(**with_standardizer(standardizer))
    search = agent._line_search

    def counting(*arguments):
        search(*arguments)
        counts.append(standardizer._count)

    agent._line_search = counting
    agent.draw_action(np.zeros(small.N_OBSERVATIONS))
    agent.fit(small.dataset(rows=16))
    assert counts == [0.01]
    assert standardizer._count == 16.01
    assert agent._D_standardizer._count == 32.01  # of either side as many


@both
def test_training_goes_on_from_a_file_as_if_it_had_not_been_away(patched, algorithm, tmp_path):
    agent = learned(algorithm)
    agent.save(tmp_path / "agent.msh", full_save=True)
    loaded = load(tmp_path / "agent.msh")
    loaded._sw = small.Writer()  # because what VAIL logs draws random numbers
    assert loaded.policy._mu.model.network._stand is loaded._V.model.network._stand is loaded._trpo_standardizer
    assert loaded._loss is loaded._D.model._loss
    found = []
    for one in (agent, loaded):
        torch.manual_seed(2)
        np.random.seed(2)  # noqa: NPY002
        go_on(one, 3, first=10)
        found.append(weights(one))
    assert np.array_equal(*found)


def test_a_loaded_agent_logs_the_loss_that_it_trains_whatever_the_file_says(tmp_path):
    patches.apply("imitation_lib")
    patches.apply("mushroom_rl", exclude="shared-modules")
    learned("vail").save(tmp_path / "agent.msh")
    loaded = load(tmp_path / "agent.msh")
    assert loaded._loss is loaded._D.model._loss


@both
def test_a_pickled_or_copied_agent_acts_the_same_and_has_no_writer(patched, algorithm):
    agent = learned(algorithm)
    for other in (pickle.loads(pickle.dumps(agent)), copy.deepcopy(agent)):
        assert other._sw is None
        assert np.array_equal(weights(other), weights(agent))
    assert agent._sw is not None


@pytest.fixture
def saver(patched, tmp_path):
    """saver(**keywords): a `BestAgentSaver` of the folder tmp_path."""
    from imitation_lib.utils import BestAgentSaver

    return lambda **keywords: BestAgentSaver(str(tmp_path), **keywords)


def scores(folder):
    return sorted(float(path.stem.partition("_J_")[2]) for path in folder.iterdir())


def test_of_each_n_epochs_the_best_is_on_disk_at_any_time(saver, tmp_path):
    agent, saving = learned("gail"), saver(n_epochs_save=2)
    on_disk = []
    for score in (1.0, 3.0, 2.0, 0.5, 0.25, 0.75):
        saving.save(agent, score)
        on_disk.append(scores(tmp_path))
    assert on_disk == [[1.0], [3.0], [3.0], [0.5, 3.0], [0.5, 3.0], [0.5, 0.75, 3.0]]
    saving.save_curr_best_agent()
    assert scores(tmp_path) == [0.5, 0.75, 3.0]


def test_with_minus_one_epochs_nothing_is_saved_unasked(saver, tmp_path):
    agent, saving = learned("gail"), saver(n_epochs_save=-1)
    saving.save(agent, 1.0)
    assert list(tmp_path.iterdir()) == []
    saving.save_agent(agent, 2.0)
    assert scores(tmp_path) == [2.0]


def test_a_saved_agent_keeps_its_demonstrations_and_a_loaded_one_says_how_to_get_them(saver, tmp_path):
    agent = learned("vail")
    saver().save_agent(agent, 1.0)
    assert agent._demonstrations is not None
    assert agent._old_policy is not None
    (file,) = tmp_path.iterdir()
    loaded = load(file)
    with pytest.raises(ValueError, match="load_demonstrations"):
        loaded.fit(small.dataset())
    loaded.load_demonstrations(small.demonstrations())
    loaded.fit(small.dataset())


def test_a_save_that_fails_leaves_what_was_there(saver, tmp_path):
    agent, saving = learned("gail"), saver()
    saving.save(agent, 1.0)
    agent.unsaved = threading.Lock()
    agent._add_save_attr(unsaved="pickle")
    with pytest.raises(TypeError):
        saving.save(agent, 2.0)
    assert scores(tmp_path) == [1.0]
    assert agent._demonstrations is not None
    del agent._save_attributes["unsaved"]
    saving.save(agent, 1.5)
    assert scores(tmp_path) == [1.5]


@pytest.mark.parametrize("save_all", [False, True])
def test_the_saver_leaves_replay_memories_out_only_where_it_did(saver, tmp_path, save_all):
    class Saved:
        _replay_memory = "memory"

        def save(self, path, full_save):
            path.write_text(str(self._replay_memory))

    agent, saving = Saved(), saver(save_replay_memory=save_all)
    saving.save(agent, 1.0)
    saving.save_agent(agent, 2.0)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = "memory" if save_all else "None"
    assert found == {"agent_epoch_0_J_1.000000.msh": kept, "agent_J_2.000000.msh": "memory"}
    assert agent._replay_memory == "memory"


def test_few_demonstrations_are_drawn_again_and_stay_as_they_are(patched):
    few = small.demonstrations(rows=5)
    agent = learned("gail", demonstrations=few)
    assert agent._demonstrations is few
    assert len(few["states"]) == 5
    assert np.isfinite(weights(agent)).all()


def test_unusual_observations_are_standardized(patched):
    from imitation_lib.utils import Standardizer

    whole = torch.arange(12).reshape(4, 3)
    assert torch.equal(Standardizer()(whole), Standardizer()(whole.float()))
    restored, none = Standardizer(), Standardizer()
    restored.load_state_dict(Standardizer().state_dict())  # of one before its first update
    restored.update_mean_std(np.ones((4, 3), np.float32))
    assert restored.mean.shape == (3,)
    none.update_mean_std(np.zeros((0, 3), np.float32))
    assert none._count == 0.01


def test_the_critic_stops_early_as_it_is_asked_to_where_there_is_no_standardizer(patched):
    agent = small.gail(**with_standardizer(None, critic_fit_params={"epsilon": 1e-6, "patience": 2}))
    losses = iter([4.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    agent._V.model._fit_epoch = lambda *arguments: next(losses)
    agent.fit(small.dataset())
    assert len(list(losses)) == 1  # three that are better, and two that are not


def test_weights_of_the_loss_follow_the_networks_to_a_gpu(patched, fake_cuda):
    from imitation_lib.utils import GailDiscriminatorLoss

    loss = GailDiscriminatorLoss(entcoeff=0.0, pos_weight=torch.tensor([2.0]))
    found = [loss(torch.zeros(4, 1, device=device), torch.ones(4, 1, device=device)).item() for device in ("cuda", "cpu")]
    assert found == pytest.approx([2.0 * np.log(2.0)] * 2)


def test_an_agent_of_discrete_actions_is_loaded(patched, tmp_path):
    from mushroom_rl.core import MDPInfo
    from mushroom_rl.policy import BoltzmannTorchPolicy
    from mushroom_rl.utils.spaces import Discrete

    pieces = small.pieces()
    del pieces["policy_params"]["std_0"]
    pieces["policy_params"]["beta"] = 1.0
    info = MDPInfo(small.mdp_info().observation_space, Discrete(small.N_ACTIONS), 0.99, 10)
    agent = small.gail(**pieces | {"mdp_info": info, "policy_class": BoltzmannTorchPolicy})
    agent.fit([(sample[0], np.array([0]), *sample[2:]) for sample in small.dataset()])
    agent.save(tmp_path / "agent.msh", full_save=True)
    assert np.array_equal(weights(load(tmp_path / "agent.msh")), weights(agent))


class OwnNormalizer(torch.nn.Module):
    """A user's own class, with what GAIL asks of a normalizer."""

    def forward(self, inputs):
        return inputs

    def update_mean_std(self, x):
        pass


def test_an_agent_with_normalizers_of_another_class_is_loaded(patched, tmp_path):
    normalizer = OwnNormalizer()
    pieces = with_standardizer(normalizer, D_standardizer=normalizer)
    pieces["discriminator_params"]["standardizer"] = normalizer
    agent = small.gail(**pieces)
    agent.save(tmp_path / "agent.msh", full_save=True)
    with torch.serialization.safe_globals([OwnNormalizer]):
        assert np.array_equal(weights(load(tmp_path / "agent.msh")), weights(agent))


def test_what_a_subclass_writes_besides_is_left_as_it_is(patched):
    from imitation_lib.imitation import GAIL_TRPO

    class Writer(small.Writer):
        histograms = 0

        def add_histogram(self, tag, values, step):
            self.histograms += 1

        def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
            super().add_scalar(tag, scalar_value, (global_step, walltime))

    class Subclass(GAIL_TRPO):
        def discrim_output(self, *inputs, **keywords):
            outputs = super().discrim_output(*inputs, **keywords)
            self._sw.add_histogram("outputs", outputs, self._iter)
            self._sw.add_scalar("mean", scalar_value=outputs.mean(), global_step=77, walltime=1.0)
            return outputs

    agent = Subclass(**small.pieces() | {"sw": Writer()})
    agent.fit(small.dataset())
    assert agent._sw.histograms == len(agent._sw.scalars["mean"]) > 1
    assert {step for step, _ in agent._sw.scalars["mean"]} == {(77, 1.0)}
    assert {step for step, _ in agent._sw.scalars["kl"]} == {(1, None)}
