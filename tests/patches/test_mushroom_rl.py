"""mushroom-rl with its patches: advantages, gradients, and agents that are saved and loaded."""

import copy
import json
import zipfile

import numpy as np
import pytest
import torch
from mushroom_rl.algorithms.actor_critic import PPO, SAC, TRPO
from mushroom_rl.algorithms.value import DQN
from mushroom_rl.approximators.parametric import TorchApproximator
from mushroom_rl.core import Agent, MDPInfo
from mushroom_rl.policy import EpsGreedy, GaussianTorchPolicy
from mushroom_rl.utils import value_functions
from mushroom_rl.utils.parameters import Parameter
from mushroom_rl.utils.spaces import Box, Discrete
from torch import nn

import patches
from patches.mushroom_rl import LIBRARY, map_location
from patches.mushroom_rl.samples import small_agent, small_dataset
from patches.mushroom_rl.sharing import ENTRY
from patches.safe_pickle import Refused

extensive = pytest.mark.extensive


@pytest.fixture
def patched():
    """All patches of mushroom-rl, those that change results included."""
    patches.apply("mushroom_rl", only=[patch.name for patch in LIBRARY.patches])
    yield
    patches.revert("mushroom_rl")


@pytest.fixture
def only():
    """only(*names): apply these patches, and no others."""
    patches.revert("mushroom_rl")
    yield lambda *names: patches.apply("mushroom_rl", only=names)
    patches.revert("mushroom_rl")


@pytest.fixture(autouse=True)
def seeded():
    """Random numbers are seeded, and torch has one thread: more cost time at networks as small as these."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (mushroom-rl draws minibatches from it)
        yield
    torch.set_num_threads(n_threads)


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
    """Weights after some updates, whose minibatches are the same each time."""
    np.random.seed(1)  # noqa: NPY002
    for i in range(n_updates):
        agent.fit(small_dataset(seed=i))
    return weights(agent)


def saved(agent, tmp_path, **keywords):
    path = tmp_path / "agent.msh"
    agent.save(path, **keywords)
    return path


# Advantages


def gae(s, ss, r, last, gamma=1.0, lam=1.0, absorbing=None):
    absorbing = np.zeros(len(r)) if absorbing is None else absorbing
    return value_functions.compute_gae(lambda x: np.zeros((len(x), 1)), s, ss, r, absorbing, last, gamma, lam)


def test_advantages_count_the_steps_to_the_seam(only):
    s = np.array([0.0, 1.0, 2.0, 10.0, 11.0])[:, None]
    joined = s, s + 1.0, np.ones(5), np.zeros(5, dtype=bool)
    assert gae(*joined)[1][:, 0].tolist() == [5.0, 4.0, 3.0, 2.0, 1.0]
    only("gae-boundaries")
    target, advantage = gae(*joined)
    assert advantage[:, 0].tolist() == target[:, 0].tolist() == [3.0, 2.0, 1.0, 2.0, 1.0]


@extensive
def test_advantages_of_right_batches_stay_the_same_bit_for_bit(only):
    n = 50
    rng = np.random.default_rng(0)
    last = rng.random(n) < 0.2
    s, ss = rng.standard_normal((2, n, 3)).astype(np.float32)
    s[1:][~last[:-1]] = ss[:-1][~last[:-1]]
    arguments = s, ss, rng.standard_normal(n), last.astype(float), 0.99, 0.95, last & (rng.random(n) < 0.5)
    before = gae(*arguments)
    only("gae-boundaries")
    assert all(map(np.array_equal, before, gae(*arguments)))
    np.testing.assert_array_equal(arguments[3], last)


# Gradients


@extensive
def test_learning_without_idle_graphs_gives_the_same_weights_bit_for_bit(only):
    agent = small_agent()
    patched = copy.deepcopy(agent)
    expected = learn(agent)
    only("no-grad")
    assert learn(patched).tobytes() == expected.tobytes()
    assert patched.policy.entropy() == agent.policy.entropy()
    assert patched._V.predict(np.zeros((2, 3), np.float32), output_tensor=True).requires_grad
    assert patched.policy.distribution(np.zeros((2, 3))).loc.requires_grad
    assert all(parameter.requires_grad for parameter in patched._old_policy.parameters())


@extensive
def test_networks_and_losses_that_differentiate_by_themselves_still_do(only):
    class Slope(nn.Module):
        def __init__(self, *_, **__):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0))

        def forward(self, x):
            return torch.autograd.grad((self.scale * x.sum()) ** 2, self.scale, create_graph=True)[0].view(1, 1)

    class Penalized(TRPO):
        def _compute_loss(self, *arguments):
            loss = super()._compute_loss(*arguments)
            return loss + 0.0 * torch.autograd.grad(loss, list(self.policy.parameters()), create_graph=True)[0].sum()

    only("no-grad")
    approximator = TorchApproximator((1,), (1,), network=Slope)
    assert approximator.predict(np.full((1, 1), 2.0, np.float32)).item() == 2 * 3.0 * 2.0**2
    agent = small_agent()
    agent.__class__ = Penalized
    before = agent.policy.get_weights()
    agent.fit(small_dataset())
    assert not np.array_equal(agent.policy.get_weights(), before)


# Saving and loading


@pytest.mark.parametrize(("full_save", "shared"), [(False, None), pytest.param(True, nn.BatchNorm1d(3), marks=extensive)])
def test_a_loaded_agent_goes_on_as_the_saved_one(patched, tmp_path, full_save, shared):
    agent = small_agent(body=copy.deepcopy(shared))
    learn(agent)
    loaded = Agent.load(saved(agent, tmp_path, full_save=full_save))
    assert type(loaded) is TRPO
    assert weights(loaded).tobytes() == weights(agent).tobytes()
    assert learn(loaded).tobytes() == learn(agent).tobytes()


def test_a_file_of_an_agent_runs_no_code(patched, tmp_path):
    path, changed, made = saved(small_agent(), tmp_path), tmp_path / "changed.msh", tmp_path / "made"
    evil = b"cposix\nmkdir\n(S'" + str(made).encode() + b"'\ntR."
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, evil if name == "mdp_info.pickle" else source.read(name))
    with pytest.raises(Refused, match=r"changed\.msh: mdp_info\.pickle: asks for 'posix\.mkdir'"):
        Agent.load(changed)
    assert not made.exists()


@extensive
def test_agents_of_other_algorithms_load(patched, tmp_path):
    box = MDPInfo(Box(-1.0, 1.0, shape=(3,)), Box(-1.0, 1.0, shape=(2,)), 0.99, 100)
    discrete = MDPInfo(Box(-1.0, 1.0, shape=(3,)), Discrete(2), 0.99, 100)
    optimizer = {"class": torch.optim.Adam, "params": {"lr": 1e-3}}
    critic = {"network": Network, "optimizer": optimizer, "loss": nn.functional.mse_loss, "output_shape": (1,)}
    actor = {"network": Network, "input_shape": (3,), "output_shape": (2,)}
    policy = GaussianTorchPolicy(Network, (3,), (2,))
    values = critic | {"input_shape": (3,), "output_shape": (2,), "n_actions": 2}
    sizes = {"approximator_params": values, "batch_size": 4, "target_update_frequency": 9}
    for agent in (
        PPO(box, policy, optimizer, critic | {"input_shape": (3,)}, 2, 8, 0.2, 0.95),
        SAC(box, actor, actor, optimizer, critic | {"input_shape": (5,)}, 8, 8, 32, 1, 0.01, 1e-3),
        DQN(discrete, EpsGreedy(Parameter(0.1)), TorchApproximator, **sizes),
    ):
        path = saved(agent, tmp_path, full_save=True)
        with pytest.raises(Refused, match=r"agent\.msh: .*Network', which is not on the list"):
            Agent.load(path)
        with torch.serialization.safe_globals([Network]):
            loaded = Agent.load(path)
        assert type(loaded) is type(agent)
        assert loaded._save_attributes == agent._save_attributes


@extensive
def test_flags_of_modules_follow_the_device(patched, tmp_path):
    agent = small_agent()
    agent._V.model.network._use_cuda = agent._V.model._use_cuda = agent.policy._use_cuda = True
    loaded = Agent.load(saved(agent, tmp_path))
    flags = loaded.policy.use_cuda, loaded._V.model.use_cuda, loaded._V.model.network._use_cuda
    assert flags == (torch.cuda.is_available(),) * 3
    with map_location("cpu"):
        loaded = Agent.load(tmp_path / "agent.msh")
    assert not loaded.policy.use_cuda
    assert not loaded._V.model.network._use_cuda


@extensive
def test_other_loads_of_torch_are_left_alone(patched, tmp_path):
    from patches.mushroom_rl.location import _saving_as, holding

    with holding(_saving_as, "cuda:99"):
        torch.save(torch.ones(2), tmp_path / "tensor")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "tensor")


@extensive
def test_a_device_is_chosen_where_it_is_here_and_the_patch_is_applied(only):
    only("safe-load")
    with pytest.raises(RuntimeError, match=r"^map_location: .*patches\.apply"), map_location("cpu"):
        pass
    only("map-location")
    for device in ("cuda:99", "meta", "nowhere", 3.5):
        with pytest.raises(ValueError, match="^map_location: "), map_location(device):
            pass


@extensive
@pytest.mark.parametrize("order", [list, reversed])  # the first part that is saved keeps its module
def test_the_optimizer_follows_a_shared_module(patched, tmp_path, order):
    agent = small_agent(body=nn.Sequential(nn.Sequential(nn.BatchNorm1d(3)), nn.Linear(3, 3)))
    agent._save_attributes = dict(order(list(agent._save_attributes.items())))
    learn(agent)
    loaded = Agent.load(saved(agent, tmp_path))
    policy, critic = loaded.policy._mu.model.network, loaded._V.model
    assert list(map(id, policy[0].modules())) == list(map(id, critic.network[0].modules()))
    assert policy[2] is not critic.network[2]
    parameters = [id(parameter) for parameter in critic.network.parameters()]
    assert [id(parameter) for parameter in critic._optimizer.param_groups[0]["params"]] == parameters
    assert {id(parameter) for parameter in critic._optimizer.state} == set(parameters)
    assert learn(loaded).tobytes() == learn(agent).tobytes()


@extensive
def test_files_are_exchanged_with_a_mushroom_rl_that_has_not_the_patch(only, tmp_path):
    def members():
        with zipfile.ZipFile(tmp_path / "agent.msh") as file:
            return file.namelist()

    plain, shared = small_agent(), small_agent(body=nn.BatchNorm1d(3))
    saved(plain, tmp_path)
    unpatched = members()
    only("shared-modules", "safe-load")
    path = saved(plain, tmp_path)
    assert members() == unpatched
    assert weights(Agent.load(path)).tobytes() == weights(plain).tobytes()
    saved(shared, tmp_path)
    patches.revert("mushroom_rl")
    only("safe-load")
    assert weights(Agent.load(path)).tobytes() == weights(shared).tobytes()


@extensive
@pytest.mark.parametrize("groups", [[["/_V/_impl/model/network:0", "/_V/_impl/model/network:1"]], [[["a"]]], 5])
def test_a_list_of_shared_modules_that_does_not_fit_is_named(patched, tmp_path, groups):
    path = saved(small_agent(), tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(ENTRY, json.dumps(groups))
    with pytest.raises(ValueError, match=rf"agent\.msh: {ENTRY} does not fit the agent"):
        Agent.load(path)
