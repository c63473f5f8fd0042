"""The learner on a GPU: a pretended one, whose results are the CPU's to the last bit, and a real one where there is one."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from mushroom_rl.core import Core

from qi_ext import load_agent
from qi_ext.learning import trpo
from qi_ext.learning.batch import Batch
from qi_ext.learning.cloning import clone
from qi_ext.learning.natural_gradient import Linearized, conjugate_gradient
from qi_ext.learning.state import restore, state_of

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


class RealGPU:
    """What the tests ask of a GPU. Results are near those of the CPU, and transfers are not counted."""

    counts = False

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

    counts = True

    def __init__(self, fake):
        self.fake = fake

    def same(self, found, expected, before=0.0):
        return found.tobytes() == expected.tobytes()

    def same_diagnostics(self, found, expected):
        return found == expected

    @contextmanager
    def never_waited_for(self):
        self.fake.reset()
        yield
        assert not self.fake.events

    @contextmanager
    def transfers_at_most(self, h2d, d2h):
        self.fake.reset()
        yield
        assert self.fake.h2d <= h2d and self.fake.d2h <= d2h, self.fake.events


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


def check_agents(gpu, on_gpu, on_cpu, before):
    """Whether both have learned the same since the state `before`, part by part."""
    found, expected, before = (parts_of(state) for state in (state_of(on_gpu), state_of(on_cpu), before))
    assert found.keys() == expected.keys()
    for (name, exact), value in expected.items():
        assert found[name, exact].shape == value.shape, name
        if exact:
            np.testing.assert_array_equal(found[name, exact], value, err_msg=name)
        else:
            assert gpu.same(found[name, exact], value, before.get((name, exact), 0.0)), name
    assert gpu.same_diagnostics(on_gpu.diagnostics, on_cpu.diagnostics)


# What is learned


@both
def test_an_update_on_the_gpu_is_that_of_the_cpu(gpu, make_agent, make_columns, algorithm):
    agents = [make_agent(algorithm, device=device) for device in ("cuda", "cpu")]
    before = state_of(agents[1])
    for seed in range(3 if gpu.counts else 1):
        columns = make_columns(agents[1].policy, n=200, seed=seed)
        for agent in agents:
            agent.update(Batch.upload(*columns, agent.device))
        check_agents(gpu, *agents, before)


@pytest.mark.parametrize("settings", [{"cg_fraction": 1.0}, {"cg_iterations": 60}, {"max_kl": 10.0, "line_search_steps": 3}])
def test_a_policy_step_on_the_gpu_is_that_of_the_cpu(gpu, make_trpo, make_columns, settings):
    agents = [make_trpo(device=device, **settings) for device in ("cuda", "cpu")]
    before, columns = state_of(agents[1]), make_columns(agents[1].policy, n=200)
    for agent in agents:
        agent.update(Batch.upload(*columns, agent.device))
    check_agents(gpu, *agents, before)


@both
def test_rollouts_teach_the_gpu_what_they_teach_the_cpu_and_the_policy_is_ready_before_the_rest(
    gpu, make_agent, make_rollouts, algorithm
):
    agents = [make_agent(algorithm, device=device) for device in ("cuda", "cpu")]
    before, rollouts = state_of(agents[1]), make_rollouts(agents[1].policy)
    ready = []
    for agent in agents:
        agent.fit_rollouts(rollouts, lambda agent=agent: ready.append((agent.policy.actor, len(agent.critic_optimizer.state))))
    assert ready == [(agent.policy.actor, 0) for agent in agents]
    check_agents(gpu, *agents, before)


@both
def test_learns_on_the_gpu_in_mushroom_rls_own_core(gpu, make_agent, environment, algorithm):
    agents = [make_agent(algorithm, device=device) for device in ("cuda", "cpu")]
    before = state_of(agents[1])
    for agent in agents:
        environment.seed(0)
        # On a real GPU a second batch would be gathered by another policy, by the last bits of its weights.
        Core(agent, environment).learn(n_steps=128 if gpu.counts else 64, n_steps_per_fit=64, quiet=True)
    check_agents(gpu, *agents, before)


def test_cloning_on_the_gpu_is_that_of_the_cpu(gpu, make_policy, demonstrations, small_config):
    losses, policies = [], [make_policy(device=device) for device in ("cuda", "cpu")]
    for policy in policies:
        losses.append(clone(policy, demonstrations, 1, small_config(), np.random.SeedSequence(0)))
    assert losses[0] == pytest.approx(losses[1], rel=0.0 if gpu.counts else 1e-3)
    assert gpu.same(*(policy.get_weights() for policy in policies))
    assert gpu.same(*(policy.actor.std for policy in policies))


SYSTEMS = {
    "not solved in time": (30, 5, 1.0),
    "solved early": (6, 40, 1.0),
    "nothing to solve": (4, 10, 0.0),
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conjugate_gradient_on_the_gpu_is_that_of_the_cpu_and_waits_for_nothing(gpu, system, dtype):
    n, iterations, size = SYSTEMS[system]
    random = torch.Generator().manual_seed(0)
    root = torch.randn(n, n, generator=random, dtype=dtype)
    matrix, b = root @ root.T / n + 0.5 * torch.eye(n, dtype=dtype), size * torch.randn(n, generator=random, dtype=dtype)
    expected_x, expected_residual = conjugate_gradient(matrix.mv, b, iterations)
    on_gpu, b_on_gpu = matrix.cuda(), b.cuda()
    with gpu.never_waited_for():
        x, residual = conjugate_gradient(on_gpu.mv, b_on_gpu, iterations)
    assert gpu.same(x.cpu().numpy(), expected_x.numpy())
    if gpu.counts:
        assert gpu.same(residual.cpu().numpy(), expected_residual.numpy())
    else:
        assert (residual.cpu() - (b - matrix @ x.cpu())).norm() <= 1e-4 * (b.norm() + 1e-9)


def test_the_natural_gradient_waits_for_nothing(gpu, make_trpo, make_columns):
    agent = make_trpo(device="cuda", cg_fraction=1.0)
    batch = Batch.upload(*make_columns(agent.policy), "cuda")
    advantages = batch.rewards - batch.rewards.mean()
    with gpu.never_waited_for():
        linearized = Linearized(agent.policy, batch.observations)
        agent._full_step(agent._gradient(batch, advantages, linearized), batch.observations, linearized)


# What comes down, and how often


@both
@pytest.mark.parametrize("given_up", [False, True], ids=["step taken", "no step good enough"])
@pytest.mark.parametrize(
    "more", [{}, {"cg_iterations": 30, "critic_epochs": 7, "discriminator_updates": 9}], ids=["as usual", "more of all"]
)
def test_an_update_makes_at_most_ten_transfers_either_way(
    pretended, make_agent, make_dataset, monkeypatch, algorithm, given_up, more
):
    agent = make_agent(algorithm, device="cuda", batch_size=128, **more)
    agent.fit(make_dataset(agent.policy, n=128))
    if given_up:
        monkeypatch.setattr(trpo, "KL_TOLERANCE", -1.0)
    dataset = make_dataset(agent.policy, n=128, seed=1)
    with pretended.transfers_at_most(10, 10):
        agent.fit(dataset)
    assert (agent.diagnostics["line_search_step"] == 0.0) == given_up


def test_a_batch_goes_up_in_one_transfer(pretended, make_policy, make_columns):
    columns = make_columns(make_policy())
    with pretended.transfers_at_most(1, 0):
        batch = Batch.upload(*columns, "cuda")
    assert all(tensor.is_cuda for tensor in vars(batch).values())
    expected = Batch.upload(*columns, "cpu")
    assert all(torch.equal(tensor.cpu(), getattr(expected, name)) for name, tensor in vars(batch).items())


def test_the_policy_comes_down_in_one_transfer(pretended, make_policy):
    policy = make_policy((16, 8), device="cuda")
    with pretended.transfers_at_most(0, 1):
        policy.sync()


@both
def test_acting_asks_nothing_of_the_gpu(pretended, make_agent, algorithm):
    agent = make_agent(algorithm, device="cuda")
    expected = make_agent(algorithm).draw_action(np.zeros(37))
    with pretended.transfers_at_most(0, 0):
        np.testing.assert_array_equal(agent.draw_action(np.zeros(37)), expected)


@both
def test_diagnostics_are_plain_numbers(gpu, make_agent, make_dataset, algorithm):
    agent = make_agent(algorithm, device="cuda")
    agent.fit(make_dataset(agent.policy))
    assert {type(value) for value in agent.diagnostics.values()} == {float}
    assert json.loads(json.dumps(agent.diagnostics, allow_nan=False)) == agent.diagnostics


# What lives where


def tensors_of(value):
    """Every tensor below an object of ours."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.Module):
        return [*value.parameters(), *value.buffers()]
    if isinstance(value, torch.optim.Optimizer):
        return [tensor for state in value.state.values() for tensor in state.values()]
    values = value.values() if isinstance(value, dict) else vars(value).values() if hasattr(value, "policy") else ()
    return [tensor for each in values for tensor in tensors_of(each)]


@both
def test_all_that_is_learned_with_is_on_the_gpu(gpu, make_agent, make_dataset, algorithm):
    agent = make_agent(algorithm, device="cuda")
    agent.fit(make_dataset(agent.policy))
    found = {name: tensors_of(part) for name, part in (agent.parts() | vars(agent)).items()}
    for name in ("_expert", "discriminator", "critic", "critic_optimizer", "discriminator_optimizer", "policy.normalizer"):
        assert found[name], name
    assert len(found["policy.normalizer"]) == 3
    for name, tensors in found.items():
        assert all(tensor.device.type == "cuda" for tensor in tensors), name
    assert agent.device.type == agent.policy.device.type == "cuda"
    if algorithm == "vail":
        assert agent.discriminator.beta.is_cuda


@both
def test_random_numbers_are_drawn_on_the_cpu(gpu, make_agent, algorithm):
    agent = make_agent(algorithm, device="cuda")
    generators = [part for part in agent.parts().values() if isinstance(part, torch.Generator)]
    assert [generator.device.type for generator in generators] == ["cpu"]
    (noise,) = agent.discriminator.noise(1, 8, agent._torch_generator)
    assert algorithm == "gail" and noise is None or noise.is_cuda


def test_a_policy_answers_on_its_device_whatever_it_is_asked_with(gpu, make_policy):
    policy = make_policy(device="cuda")
    for states in (torch.zeros(5, 37), torch.zeros(5, 37, device="cuda")):
        actions = policy.draw_action_t(states)
        assert actions.is_cuda
        assert policy.log_prob_t(states, actions.cpu()).is_cuda
    assert policy.entropy_t().is_cuda
    policy.set_weights(policy.get_weights())
    assert policy.log_std.is_cuda


# Files and states


@both
def test_an_agent_saved_from_the_gpu_acts_without_one(gpu, make_agent, make_dataset, tmp_path, algorithm):
    agent = make_agent(algorithm, device="cuda")
    dataset = make_dataset(agent.policy)
    agent.fit(dataset)
    agent.save(tmp_path / "agent.safetensors")
    observations = np.stack([sample[0] for sample in dataset])
    loaded = load_agent(tmp_path / "agent.safetensors")
    np.testing.assert_array_equal(loaded.act(observations), agent.policy.actor.mean(observations))
    learned = agent.policy.mean_t(torch.from_numpy(observations)).detach().cpu().numpy()
    np.testing.assert_allclose(loaded.act(observations), learned, atol=1e-5)


@both
@pytest.mark.parametrize(("saved", "restored"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
@pytest.mark.parametrize("updates", [0, 1])
def test_a_state_goes_on_on_either_device(gpu, make_agent, make_columns, algorithm, saved, restored, updates):
    one, other = make_agent(algorithm, device=saved), make_agent(algorithm, seed=9, device=restored)
    columns = make_columns(make_agent(algorithm).policy)
    for _ in range(updates):
        one.update(Batch.upload(*columns, saved))
    state = state_of(one)
    assert all(isinstance(value, np.ndarray) for value in state.values())
    restore(other, state)
    again = state_of(other)
    assert again.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    assert all(tensor.device.type == restored for part in other.parts().values() for tensor in tensors_of(part))
    observations = columns[0]
    np.testing.assert_array_equal(one.policy.draw_action(observations), other.policy.draw_action(observations))
    before = state_of(one)
    for agent in (one, other):
        agent.update(Batch.upload(*columns, agent.device))
    check_agents(gpu, one, other, before)
