"""The learner on a GPU: a pretended one, whose results are the CPU's to the last bit, and a real one where there is one."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from qi_ext import load_agent
from qi_ext.learning.batch import Batch
from qi_ext.learning.cloning import clone
from qi_ext.learning.natural_gradient import Linearized, conjugate_gradient
from qi_ext.sampling.rollouts import ARRAYS
from qi_ext.sampling.warp.rollouts import RolloutsOnDevice

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


class RealGPU:
    """What the tests ask of a GPU. Results are near those of the CPU, and transfers are not counted."""

    exact = False

    def same(self, found, expected, before=0.0):
        return np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected - before)

    def same_diagnostics(self, found, expected):
        # One sample near a logit of zero may be judged either way.
        judged = {name for name in expected if "accuracy" in name}
        return found == {
            name: pytest.approx(value, rel=1e-2, abs=0.1 if name in judged else 1e-3) for name, value in expected.items()
        }

    @contextmanager
    def never_waited_for(self):
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


class PretendedGPU:
    """The same of tests/fake_cuda.py: the kernels are the CPU's, and every transfer is known."""

    exact = True

    def __init__(self, fake):
        self.fake = fake

    def same(self, found, expected, before=0.0):
        return found.tobytes() == expected.tobytes()

    def same_diagnostics(self, found, expected):
        return found == expected

    @contextmanager
    def never_waited_for(self):
        with self.transfers(up=0, down=0):
            yield
        assert not self.fake.events

    @contextmanager
    def transfers(self, up, down):
        self.fake.reset()
        yield
        assert (self.fake.h2d, self.fake.d2h) == (up, down), self.fake.events


@pytest.fixture(params=["pretended", pytest.param("real", marks=[pytest.mark.gpu, no_gpu])])
def gpu(request):
    """'cuda', pretended and real."""
    return RealGPU() if request.param == "real" else PretendedGPU(request.getfixturevalue("fake_cuda"))


@pytest.fixture
def pretended(fake_cuda):
    return PretendedGPU(fake_cuda)


def parts_of(state):
    """{part: all its floats in one row, then what must be exact: counts, steps and generators}."""
    parts = {}
    for key, value in sorted(state.items()):
        exact = value.dtype.kind == "u" or key.endswith(("count", ".step"))
        parts.setdefault((key.partition("/")[0], exact), []).append(value.reshape(-1))
    return {key: np.concatenate(values) for key, values in parts.items()}


def check_learners(gpu, on_gpu, on_cpu, before):
    """Assert that both have learned the same since the state `before`, part by part."""
    found, expected, before = (parts_of(state) for state in (on_gpu.state(), on_cpu.state(), before))
    assert found.keys() == expected.keys()
    for (name, exact), value in expected.items():
        assert found[name, exact].shape == value.shape, name
        if exact:
            np.testing.assert_array_equal(found[name, exact], value, err_msg=name)
        else:
            assert gpu.same(found[name, exact], value, before.get((name, exact), 0.0)), name
    assert gpu.same_diagnostics(on_gpu.diagnostics(), on_cpu.diagnostics())


# What is learned


LONG = {"cg_fraction": 1.0, "cg_iterations": 60, "max_kl": 1.0, "line_search_steps": 3}


@pytest.mark.parametrize(("algorithm", "settings"), [("gail", LONG), ("vail", {})], ids=["gail, long steps", "vail"])
def test_an_update_on_the_gpu_is_that_of_the_cpu(gpu, make_learner, make_rollouts, algorithm, settings):
    learners = [make_learner(algorithm, device=device, **settings) for device in ("cuda", "cpu")]
    before = learners[1].state()
    for seed in range(2 if gpu.exact else 1):
        rollouts = make_rollouts(learners[1].policy, seed=seed)
        for learner in learners:
            learner.fit(rollouts)
        check_learners(gpu, *learners, before)


def test_cloning_on_the_gpu_is_that_of_the_cpu(gpu, make_policy, demonstrations):
    settings = {"std": 0.1, "learning_rate": 1e-3, "nominal_weight": 0.25, "batch_size": 256}
    policies = [make_policy(device=device) for device in ("cuda", "cpu")]
    losses = [clone(policy, demonstrations, 1, np.random.SeedSequence(0), **settings) for policy in policies]
    assert losses[0] == pytest.approx(losses[1], rel=0.0 if gpu.exact else 1e-3)
    assert gpu.same(*(policy.get_weights() for policy in policies))


SYSTEMS = {"not solved in time": (30, 5, 1.0), "solved early": (6, 40, 1.0), "nothing to solve": (4, 10, 0.0)}


@pytest.mark.parametrize("system", SYSTEMS)
def test_conjugate_gradient_on_the_gpu_is_that_of_the_cpu_and_waits_for_nothing(gpu, system):
    n, iterations, size = SYSTEMS[system]
    random = torch.Generator().manual_seed(0)
    root = torch.randn(n, n, generator=random)
    matrix, b = root @ root.T / n + 0.5 * torch.eye(n), size * torch.randn(n, generator=random)
    expected, _ = conjugate_gradient(matrix.mv, b, iterations)
    on_gpu, b_on_gpu = matrix.cuda(), b.cuda()
    with gpu.never_waited_for():
        x, residual = conjugate_gradient(on_gpu.mv, b_on_gpu, iterations)
    assert gpu.same(x.cpu().numpy(), expected.numpy())
    assert (residual.cpu() - (b - matrix @ x.cpu())).norm() <= 1e-4 * (b.norm() + 1e-9)


def test_the_natural_gradient_waits_for_nothing(gpu, make_trpo, make_batch):
    trpo = make_trpo(device="cuda")
    batch = make_batch(trpo.policy)
    advantages = batch.rewards - batch.rewards.mean()
    with gpu.never_waited_for():
        linearized = Linearized(trpo.policy, batch.observations)
        trpo._full_step(trpo._gradient(batch.actions, advantages, linearized), batch.observations, linearized)


# Transfers


MORE = {"cg_iterations": 30, "critic_epochs": 7, "discriminator_updates": 9}


@pytest.mark.parametrize(("algorithm", "trials", "more"), [("gail", 1, {}), ("gail", 4, MORE), ("vail", 1, MORE)])
def test_the_transfers_of_an_update_do_not_depend_on_its_settings_but_for_trials_of_the_line_search(
    pretended, make_learner, make_rollouts, monkeypatch, algorithm, trials, more
):
    learner = make_learner(algorithm, device="cuda", cg_fraction=0.9, line_search_steps=4, **more)
    learner.fit(make_rollouts(learner.policy))
    if trials == 4:
        monkeypatch.setattr("qi_ext.learning.trpo.KL_TOLERANCE", -1.0)  # no step is good enough
    rollouts = make_rollouts(learner.policy, seed=1)
    # Up go the batch, the advantages, and what is drawn: rows for Fisher products, critic, discriminator, and VAIL's noise.
    # Down come what the advantages are summed from, the figures of each trial, the policy, the diagnostics.
    with pretended.transfers(up=5 + (algorithm == "vail"), down=trials + 3):
        learner.fit(rollouts)
    assert (learner.diagnostics()["line_search_step"] == 0.0) == (trials == 4)


def test_a_batch_goes_up_in_one_transfer(pretended, make_policy, make_columns):
    columns = make_columns(make_policy())
    with pretended.transfers(up=1, down=0):
        batch = Batch.upload(*columns, "cuda")
    assert all(tensor.is_cuda for tensor in vars(batch).values())
    expected = Batch.upload(*columns, "cpu")
    assert all(torch.equal(tensor.cpu(), getattr(expected, name)) for name, tensor in vars(batch).items())


def test_the_policy_comes_down_in_one_transfer_and_acts_without_the_gpu(pretended, make_policy):
    policy, expected = (make_policy((16, 8), device=device) for device in ("cuda", "cpu"))
    with pretended.transfers(up=0, down=1):
        policy.sync()
    with pretended.never_waited_for():
        np.testing.assert_array_equal(policy.draw_action(np.zeros(37)), expected.draw_action(np.zeros(37)))


# Devices of all that there is


def tensors_of(value):
    """Every tensor below an object of ours."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.Module):
        return [*value.parameters(), *value.buffers()]
    if isinstance(value, torch.optim.Optimizer):
        return [tensor for state in value.state.values() for tensor in state.values()]
    return []


@both
def test_all_that_is_learned_with_is_on_the_gpu_but_for_generators_and_diagnostics(gpu, make_learner, make_rollouts, algorithm):
    learner = make_learner(algorithm, device="cuda")
    learner.fit(make_rollouts(learner.policy))
    parts = learner.parts() | {"expert": learner.discriminator.expert}
    found = {name: tensors_of(part) for name, part in parts.items()}
    for name in ("expert", "discriminator", "critic", "critic_optimizer", "discriminator_optimizer", "policy.normalizer"):
        assert found[name], name
    assert {tensor.device.type for tensors in found.values() for tensor in tensors} == {"cuda"}
    assert learner.device.type == "cuda"
    assert learner.discriminator.torch_generator.device.type == "cpu"
    diagnostics = learner.diagnostics()
    assert {type(value) for value in diagnostics.values()} == {float}
    assert json.loads(json.dumps(diagnostics, allow_nan=False)) == diagnostics


def test_a_policy_answers_on_its_device_whatever_it_is_asked_with(gpu, make_policy):
    policy = make_policy(device="cuda")
    policy.set_weights(policy.get_weights())
    for states in (torch.zeros(5, 37), torch.zeros(5, 37, device="cuda")):
        actions = policy.draw_action_t(states)
        answers = (actions, policy.log_prob_t(states, actions.cpu()), policy.entropy_t(), policy.log_std)
        assert all(answer.is_cuda for answer in answers)


def test_an_agent_saved_from_the_gpu_acts_without_one(gpu, make_learner, make_rollouts, tmp_path):
    learner = make_learner(device="cuda")
    rollouts = make_rollouts(learner.policy)
    learner.fit(rollouts)
    learner.save(tmp_path / "agent.safetensors")
    observations = rollouts.observations.reshape(-1, 37)
    loaded = load_agent(tmp_path / "agent.safetensors")
    np.testing.assert_array_equal(loaded.act(observations), learner.policy.actor.mean(observations))
    learned = learner.policy.mean_t(torch.from_numpy(observations)).detach().cpu().numpy()
    np.testing.assert_allclose(loaded.act(observations), learned, atol=1e-5)


@both
def test_rollouts_that_are_on_the_gpu_stay_there_and_teach_the_same(gpu, make_learner, make_rollouts, algorithm):
    one, other = (make_learner(algorithm, device="cuda", symmetry="mirror") for _ in range(2))
    rollouts = make_rollouts(one.policy)
    tensors = {name: torch.from_numpy(getattr(rollouts, name)).cuda() for name in ARRAYS}
    on_gpu = RolloutsOnDevice(tensors, rollouts.episodes)
    assert on_gpu.n_steps == rollouts.n_steps
    assert on_gpu.speed_along() == pytest.approx(rollouts.speed_along(), abs=1e-6)
    np.testing.assert_array_equal(on_gpu.observations, rollouts.observations)
    before = one.state()
    if gpu.exact:
        with gpu.transfers(up=0, down=2):  # whether all is finite, and where fragments are cut
            one.batch(on_gpu)
    one.fit(on_gpu)
    other.fit(rollouts)
    check_learners(gpu, one, other, before)
    tensors["actions"][1, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="actions are not finite; nothing was learned"):
        one.batch(on_gpu)


@pytest.mark.parametrize(("algorithm", "saved", "loaded"), [("gail", "cuda", "cpu"), ("vail", "cpu", "cuda")])
def test_a_state_goes_on_on_either_device(gpu, make_learner, make_rollouts, algorithm, saved, loaded):
    one, other = make_learner(algorithm, device=saved), make_learner(algorithm, seed=9, device=loaded)
    rollouts = make_rollouts(make_learner(algorithm).policy)
    one.fit(rollouts)
    state = one.state()
    other.load_state(state)
    again = other.state()
    assert again.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    assert all(tensor.device.type == loaded for part in other.parts().values() for tensor in tensors_of(part))
    for learner in (one, other):
        learner.fit(rollouts)
    check_learners(gpu, one, other, state)
