import copy
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mushroom_rl.algorithms.actor_critic import PPO, SAC, TRPO
from mushroom_rl.algorithms.actor_critic.deep_actor_critic import trpo
from mushroom_rl.algorithms.value import DQN
from mushroom_rl.approximators.parametric import TorchApproximator
from mushroom_rl.core import Agent, MDPInfo, Serializable
from mushroom_rl.policy import EpsGreedy, GaussianTorchPolicy, TorchPolicy
from mushroom_rl.utils import value_functions
from mushroom_rl.utils.parameters import Parameter
from mushroom_rl.utils.spaces import Box, Discrete
from torch import nn

import patches
from patches.mushroom_rl import LIBRARY, map_location
from patches.mushroom_rl.samples import small_agent, small_dataset
from patches.mushroom_rl.sharing import ENTRY
from patches.safe_pickle import Refused

NAMES = [patch.name for patch in LIBRARY.patches]


@pytest.fixture
def patched():
    """All patches of mushroom-rl, those that change results included."""
    patches.apply("mushroom_rl", only=NAMES)
    yield
    patches.revert("mushroom_rl")


@pytest.fixture
def only():
    """A function that applies the patches of these names, and no others."""
    patches.revert("mushroom_rl")
    yield lambda *names: patches.apply("mushroom_rl", only=names)
    patches.revert("mushroom_rl")


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (mushroom-rl draws minibatches from it)
        yield


class Network(nn.Module):
    """A class of the user's own."""

    def __init__(self, input_shape, output_shape, **_):
        super().__init__()
        self.layer = nn.Linear(input_shape[0], output_shape[0])

    def forward(self, state, **_):
        return self.layer(state)


def weights(agent):
    return np.concatenate([agent.policy.get_weights(), agent._V.get_weights()])


def learn(agent, n_updates=2):
    np.random.seed(1)  # noqa: NPY002
    for i in range(n_updates):
        agent.fit(small_dataset(seed=i))
    return weights(agent)


def saved(agent, tmp_path, **keywords):
    path = tmp_path / "agent.msh"
    agent.save(path, **keywords)
    return path


def test_reverting_leaves_the_library_as_it_was(only):
    owners = (Serializable, TorchApproximator, TRPO, PPO, TorchPolicy, trpo, value_functions)
    before = [dict(vars(owner)) for owner in owners]
    only(*NAMES)
    assert [dict(vars(owner)) for owner in owners] != before
    patches.revert("mushroom_rl")
    assert [dict(vars(owner)) for owner in owners] == before


def test_importing_the_patches_imports_neither_library_nor_torch():
    code = "import sys, patches.mushroom_rl, patches.safe_pickle; print({'torch', 'mushroom_rl', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_changes_results_is_off_unless_asked(only):
    patches.apply("mushroom_rl")
    assert "mushroom_rl/cg-aliasing" not in patches.applied()


# Conjugate gradient


class Quadratic(TRPO):
    def __init__(self, matrix, n):
        self._matrix = matrix
        self._n_epochs_cg, self._cg_residual_tol = Parameter(n), Parameter(0.0)

    def _fisher_vector_product(self, p, obs, old_pol_dist):
        return torch.from_numpy(self._matrix @ p)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_conjugate_gradient_is_exact_after_as_many_steps_as_dimensions(only, n):
    only("cg-aliasing")
    factor = np.random.default_rng(n).standard_normal((n, n))
    matrix, b = factor @ factor.T + np.eye(n), np.linspace(1.0, 2.0, n)
    right_hand_side = torch.from_numpy(b.copy())
    x = Quadratic(matrix, n)._conjugate_gradient(right_hand_side, None, None)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-6)
    np.testing.assert_array_equal(right_hand_side, b)


# Advantages


def gae(s, ss, r, last, gamma=1.0, lam=1.0, absorbing=None):
    absorbing = np.zeros(len(r)) if absorbing is None else absorbing
    return value_functions.compute_gae(lambda x: np.zeros((len(x), 1)), s, ss, r, absorbing, last, gamma, lam)


def test_advantages_count_the_steps_to_the_seam(only):
    only("gae-boundaries")
    s = np.array([0.0, 1.0, 2.0, 10.0, 11.0])[:, None]
    target, advantage = gae(s, s + 1.0, np.ones(5), np.zeros(5, dtype=bool))
    assert advantage[:, 0].tolist() == target[:, 0].tolist() == [3.0, 2.0, 1.0, 2.0, 1.0]


def test_advantages_of_right_batches_stay_the_same_bit_for_bit(only):
    n = 50
    rng = np.random.default_rng(0)
    last = rng.random(n) < 0.2
    s, ss = rng.standard_normal((2, n, 3)).astype(np.float32)
    s[1:][~last[:-1]] = ss[:-1][~last[:-1]]
    arguments = s, ss, rng.standard_normal(n), last.astype(float), 0.99, 0.95, last & (rng.random(n) < 0.5)
    before = gae(*arguments)
    flags = last.copy()
    only("gae-boundaries")
    for a, b in zip(before, gae(*arguments), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(last, flags)


def test_agents_compute_advantages_with_the_patch(only):
    only("gae-boundaries")
    assert trpo.compute_gae is value_functions.compute_gae
    assert gae(np.zeros((1, 2)), np.ones((1, 2)), np.ones(1), [False])[1].tolist() == [[1.0]]


# Gradients


def test_learning_without_idle_graphs_gives_the_same_weights_bit_for_bit(only):
    agent = small_agent()
    patched = copy.deepcopy(agent)
    expected = learn(agent)
    only("no-grad")
    assert learn(patched).tobytes() == expected.tobytes()
    assert patched.policy.entropy() == agent.policy.entropy()


def test_what_is_to_be_differentiated_still_is(only):
    only("no-grad")
    agent = small_agent()
    assert agent._V.predict(np.zeros((2, 3), np.float32), output_tensor=True).requires_grad
    assert agent.policy.distribution(np.zeros((2, 3))).loc.requires_grad
    agent.fit(small_dataset())
    assert all(parameter.requires_grad for parameter in agent._old_policy.parameters())


def test_networks_that_differentiate_by_themselves_still_predict(only):
    class Slope(nn.Module):
        def __init__(self, *_, **__):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0))

        def forward(self, x):
            return torch.autograd.grad((self.scale * x.sum()) ** 2, self.scale, create_graph=True)[0].view(1, 1)

    only("no-grad")
    approximator = TorchApproximator((1,), (1,), network=Slope)
    assert approximator.predict(np.full((1, 1), 2.0, np.float32)).item() == 2 * 3.0 * 2.0**2


def test_a_subclass_that_needs_gradients_in_its_loss_keeps_them(only):
    class Penalized(TRPO):
        def _compute_loss(self, *arguments):
            loss = super()._compute_loss(*arguments)
            return loss + 0.0 * torch.autograd.grad(loss, list(self.policy.parameters()), create_graph=True)[0].sum()

    agent = small_agent()
    agent.__class__ = Penalized
    only("no-grad")
    before = agent.policy.get_weights()
    agent.fit(small_dataset())
    assert not np.array_equal(agent.policy.get_weights(), before)


# Saving and loading


@pytest.mark.parametrize("full_save", [False, True])
@pytest.mark.parametrize("n_updates", [0, 2])
@pytest.mark.parametrize("shared", [None, nn.BatchNorm1d(3)])
def test_a_loaded_agent_goes_on_as_the_saved_one(patched, tmp_path, full_save, n_updates, shared):
    agent = small_agent(body=copy.deepcopy(shared))
    learn(agent, n_updates)
    loaded = Agent.load(saved(agent, tmp_path, full_save=full_save))
    assert type(loaded) is TRPO
    assert weights(loaded).tobytes() == weights(agent).tobytes()
    assert learn(loaded).tobytes() == learn(agent).tobytes()


def test_agents_of_other_algorithms_load(patched, tmp_path):
    box = MDPInfo(Box(-1.0, 1.0, shape=(3,)), Box(-1.0, 1.0, shape=(2,)), 0.99, 100)
    optimizer = {"class": torch.optim.Adam, "params": {"lr": 1e-3}}
    critic = {"network": Network, "optimizer": optimizer, "loss": nn.functional.mse_loss, "output_shape": (1,)}
    actor = {"network": Network, "input_shape": (3,), "output_shape": (2,)}
    policy = GaussianTorchPolicy(Network, (3,), (2,))
    ppo = PPO(box, policy, optimizer, critic | {"input_shape": (3,)}, 2, 8, 0.2, 0.95)
    sac = SAC(box, actor, actor, optimizer, critic | {"input_shape": (5,)}, 8, 8, 32, 1, 0.01, 1e-3)
    discrete = MDPInfo(Box(-1.0, 1.0, shape=(3,)), Discrete(2), 0.99, 100)
    values = critic | {"input_shape": (3,), "output_shape": (2,), "n_actions": 2}
    dqn = DQN(
        discrete,
        EpsGreedy(Parameter(0.1)),
        TorchApproximator,
        approximator_params=values,
        batch_size=4,
        target_update_frequency=9,
    )
    for agent in (ppo, sac, dqn):
        path = saved(agent, tmp_path, full_save=True)
        with pytest.raises(Refused, match=r"agent\.msh: .*Network', which is not on the list"):
            Agent.load(path)
        with torch.serialization.safe_globals([Network]):
            loaded = Agent.load(path)
        assert type(loaded) is type(agent)
        assert loaded._save_attributes == agent._save_attributes


def test_a_file_of_an_agent_runs_no_code(patched, tmp_path):
    path = saved(small_agent(), tmp_path)
    made = tmp_path / "made"
    evil = b"cposix\nmkdir\n(S'" + str(made).encode() + b"'\ntR."
    changed = tmp_path / "changed.msh"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, evil if name == "mdp_info.pickle" else source.read(name))
    with pytest.raises(Refused, match=r"changed\.msh: mdp_info\.pickle: asks for 'posix\.mkdir'"):
        Agent.load(changed)
    assert not made.exists()


def test_flags_of_modules_follow_the_device(patched, tmp_path):
    agent = small_agent()
    network = agent._V.model.network
    network._use_cuda = agent._V.model._use_cuda = agent.policy._use_cuda = True
    loaded = Agent.load(saved(agent, tmp_path))
    flags = loaded.policy.use_cuda, loaded._V.model.use_cuda, loaded._V.model.network._use_cuda
    assert flags == (torch.cuda.is_available(),) * 3
    with map_location("cpu"):
        loaded = Agent.load(tmp_path / "agent.msh")
    assert not loaded.policy.use_cuda
    assert not loaded._V.model.network._use_cuda


def test_other_loads_of_torch_are_left_alone(patched, tmp_path):
    from patches.mushroom_rl.location import _saving_as

    token = _saving_as.set("cuda:99")
    torch.save(torch.ones(2), tmp_path / "tensor")
    _saving_as.reset(token)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "tensor")


@pytest.mark.parametrize("device", ["cuda:99", "meta", "nowhere", 3.5])
def test_a_device_that_is_not_here_is_refused(patched, device):
    with pytest.raises(ValueError, match="^map_location: "), map_location(device):
        pass


def test_choosing_a_device_needs_the_patch(only):
    only("safe-load")
    with pytest.raises(RuntimeError, match=r"^map_location: .*patches\.apply"), map_location("cpu"):
        pass


@pytest.mark.parametrize("order", [list, reversed])  # the first part that is saved keeps its module
def test_the_optimizer_follows_a_shared_module(patched, tmp_path, order):
    agent = small_agent(body=nn.Linear(3, 3))
    agent._save_attributes = dict(order(list(agent._save_attributes.items())))
    learn(agent)
    loaded = Agent.load(saved(agent, tmp_path))
    critic = loaded._V.model
    assert critic.network[0] is loaded.policy._mu.model.network[0]
    parameters = list(critic.network.parameters())
    assert [id(p) for p in critic._optimizer.param_groups[0]["params"]] == [id(p) for p in parameters]
    assert {id(p) for p in critic._optimizer.state} == {id(p) for p in parameters}
    assert learn(loaded).tobytes() == learn(agent).tobytes()


def test_modules_of_a_shared_module_are_shared_too(patched, tmp_path):
    agent = small_agent(body=nn.Sequential(nn.Sequential(nn.BatchNorm1d(3)), nn.Linear(3, 3)))
    loaded = Agent.load(saved(agent, tmp_path))
    policy, critic = loaded.policy._mu.model.network, loaded._V.model.network
    assert list(map(id, policy[0].modules())) == list(map(id, critic[0].modules()))
    assert policy[2] is not critic[2]


def test_files_that_name_no_shared_modules_are_those_of_mushroom_rl(only, tmp_path):
    agent = small_agent()
    with zipfile.ZipFile(saved(agent, tmp_path)) as file:
        unpatched = file.namelist()
    only("shared-modules", "safe-load")
    path = saved(agent, tmp_path)
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == unpatched
    assert weights(Agent.load(path)).tobytes() == weights(agent).tobytes()


def test_files_with_shared_modules_load_without_the_patch(only, tmp_path):
    only("shared-modules")
    agent = small_agent(body=nn.BatchNorm1d(3))
    path = saved(agent, tmp_path)
    patches.revert("mushroom_rl")
    only("safe-load")
    assert weights(Agent.load(path)).tobytes() == weights(agent).tobytes()


@pytest.mark.parametrize("groups", [[["/_V/_impl/model/network:0", "/_V/_impl/model/network:1"]], [[1, 2]], [[["a"]]], 5, [5]])
def test_an_entry_that_does_not_fit_is_passed_over_or_named(patched, tmp_path, groups):
    agent = small_agent()
    path = saved(agent, tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(ENTRY, json.dumps(groups))
    if groups == [[1, 2]]:
        assert weights(Agent.load(path)).tobytes() == weights(agent).tobytes()
        return
    with pytest.raises(ValueError, match=rf"agent\.msh: {ENTRY} does not fit the agent"):
        Agent.load(path)
